//! The directories uploads may read from: `name=/path` for all companies, `name@COMPANY_CODE=/path` for one.
//!
//! Two companies may each have a root of the same name, and one that all share may stand behind them: a company's own
//! comes first.
//!
//! What stands before the `=` is a root's *location*: jobs are queued under it, and a worker takes the jobs of the
//! locations it was given. So a worker that has `data@ACME` takes no job of another company's `data`. A session keeps
//! the location it was made with: all its jobs read the same root.

use std::path::PathBuf;

/// The location of jobs that any worker may run; no root may take its name.
const RESERVED_NAME: &str = "any";
/// Between a root's name and the code of the one company that sees it; no name has it.
const COMPANY_MARK: char = '@';

/// The name of the root at a location, as people know it: `data` of `data@ACME`.
#[must_use]
pub fn root_name(location: &str) -> &str {
    location
        .split_once(COMPANY_MARK)
        .map_or(location, |(name, _)| name)
}

/// One allow-listed directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRoot {
    /// How the API and the queue call it.
    pub name: String,
    /// Where it is mounted on this machine; absolute, and not looked at here.
    pub path: PathBuf,
    /// The one company that sees it, in capitals; `None` for all.
    pub company_code: Option<String>,
}

impl SourceRoot {
    /// Where its jobs are queued: `name`, or `name@COMPANY_CODE`.
    #[must_use]
    pub fn location(&self) -> String {
        match &self.company_code {
            Some(code) => format!("{}{COMPANY_MARK}{code}", self.name),
            None => self.name.clone(),
        }
    }

    /// Whether the company with this code sees it.
    #[must_use]
    pub fn is_visible_to(&self, company_code: &str) -> bool {
        self.company_code
            .as_deref()
            .is_none_or(|code| code == company_code)
    }
}

/// All of them, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceRoots(Vec<SourceRoot>);

impl SourceRoots {
    /// Reads `name=/path,name@COMPANY_CODE=/path`.
    ///
    /// # Errors
    /// A text to be read after `SOURCE_ROOTS`, where an entry is malformed or a name is given twice for the same
    /// company, or twice for all.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut roots: Vec<SourceRoot> = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let root = parse_entry(entry)?;
            let is_same =
                |known: &SourceRoot| known.name == root.name && known.company_code == root.company_code;
            if roots.iter().any(is_same) {
                let who = entry.split('=').next().unwrap_or_default();
                return Err(format!("must name each root once ({who:?} is repeated)"));
            }
            roots.push(root);
        }
        if roots.is_empty() {
            return Err("must list at least one root".into());
        }
        Ok(Self(roots))
    }

    /// Every root.
    pub fn iter(&self) -> impl Iterator<Item = &SourceRoot> {
        self.0.iter()
    }

    /// The roots the company with this code sees, each name once.
    pub fn visible_to<'a>(&'a self, company_code: &'a str) -> impl Iterator<Item = &'a SourceRoot> {
        let is_the_one = move |root: &&SourceRoot| self.get(&root.name, company_code) == Some(*root);
        self.0.iter().filter(is_the_one)
    }

    /// The root of that name, where the company with this code sees it: its own before the shared one.
    #[must_use]
    pub fn get(&self, name: &str, company_code: &str) -> Option<&SourceRoot> {
        self.0
            .iter()
            .filter(|root| root.name == name && root.is_visible_to(company_code))
            .max_by_key(|root| root.company_code.is_some())
    }

    /// The root at that location, where the company with this code sees it.
    #[must_use]
    pub fn at(&self, location: &str, company_code: &str) -> Option<&SourceRoot> {
        self.0
            .iter()
            .find(|root| root.location() == location && root.is_visible_to(company_code))
    }

    /// Where each is: the locations a worker serves.
    #[must_use]
    pub fn locations(&self) -> Vec<String> {
        self.0.iter().map(SourceRoot::location).collect()
    }
}

fn parse_entry(entry: &str) -> Result<SourceRoot, String> {
    let malformed =
        || format!("must be a list of name=/path or name@COMPANY_CODE=/path ({entry:?} is neither)");
    let (who, path) = entry.split_once('=').ok_or_else(malformed)?;
    let name = root_name(who);
    let company_code = who.split_once(COMPANY_MARK).map(|(_, code)| code);
    let name_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(name_byte) {
        return Err(format!(
            "must name roots with 1 to 64 of a-z, 0-9, _ and - ({name:?} is not such a name)"
        ));
    }
    if name == RESERVED_NAME {
        return Err(format!(
            "must not call a root {RESERVED_NAME:?}, which is reserved"
        ));
    }
    let company_code = company_code.map(str::to_ascii_uppercase);
    if let Some(code) = company_code.as_deref().filter(|code| !is_company_code(code)) {
        return Err(format!(
            "must give codes of companies as 1 to 32 of A-Z, 0-9, _ and - ({code:?} is not such a code)"
        ));
    }
    let path = PathBuf::from(path);
    if !path.is_absolute() {
        return Err(format!("must give absolute paths (that of {name:?} is not)"));
    }
    Ok(SourceRoot {
        name: name.to_owned(),
        path,
        company_code,
    })
}

/// `^[A-Z0-9][A-Z0-9_-]{0,31}$`, as the gateway makes them.
fn is_company_code(code: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    (1..=32).contains(&code.len())
        && code.bytes().all(|byte| first(byte) || b"_-".contains(&byte))
        && code.bytes().next().is_some_and(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_company_sees_its_own_and_the_shared_ones() {
        let roots = SourceRoots::parse("media=/srv/media, lab@ACME=/srv/a=b,x@OTHER=/srv/x").unwrap();
        let names = |code| {
            roots
                .visible_to(code)
                .map(|root| root.name.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("ACME"), ["media", "lab"]);
        assert_eq!(names("acme"), ["media"]);
        assert_eq!(roots.get("lab", "ACME").unwrap().path, PathBuf::from("/srv/a=b"));
        assert_eq!(roots.get("lab", "OTHER"), None);
        assert_eq!(roots.locations(), ["media", "lab@ACME", "x@OTHER"]);
    }

    #[test]
    fn companies_may_use_one_name_and_their_own_comes_first() {
        let roots = SourceRoots::parse("data@a=/a,data=/shared,data@B=/b,x=/x").unwrap();
        let path = |code| roots.get("data", code).unwrap().path.to_str().unwrap();
        assert_eq!((path("A"), path("B"), path("C")), ("/a", "/b", "/shared"));
        let visible = |code| {
            let paths = roots.visible_to(code).map(|root| root.path.to_str().unwrap());
            paths.collect::<Vec<_>>()
        };
        assert_eq!(visible("B"), ["/b", "/x"]);
        assert_eq!(visible("C"), ["/shared", "/x"]);
    }

    #[test]
    fn a_location_is_one_root_of_those_who_see_it() {
        let roots = SourceRoots::parse("data@a=/a,data=/shared,data@B=/b").unwrap();
        assert_eq!(roots.locations(), ["data@A", "data", "data@B"]);
        let path = |location, code| roots.at(location, code).map(|root| root.path.to_str().unwrap());
        assert_eq!(path("data@A", "A"), Some("/a"));
        // Made when the company had no root of its own: it goes on with what it began with.
        assert_eq!(path("data", "A"), Some("/shared"));
        assert_eq!(path("data@B", "A"), None);
        assert_eq!(path("data@C", "C"), None);
        for root in &roots.0 {
            assert_eq!(root_name(&root.location()), root.name);
        }
    }

    #[test]
    fn malformed_lists_are_refused_with_their_cause() {
        for (text, cause) in [
            ("", "at least one"),
            (",", "at least one"),
            ("media", "\"media\" is neither"),
            ("Media=/x", "\"Media\" is not such a name"),
            ("=/x", "\"\" is not such a name"),
            ("a/b=/x", "\"a/b\" is not such a name"),
            ("media=relative", "absolute"),
            ("media=", "absolute"),
            ("media@=/x", "\"\" is not such a code"),
            ("media@_A=/x", "\"_A\" is not such a code"),
            ("media@A.B=/x", "\"A.B\" is not such a code"),
            ("media@AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=/x", "is not such a code"),
            ("a=/x,a=/y", "\"a\" is repeated"),
            ("a@ONE=/x,a@one=/y", "\"a@one\" is repeated"),
            ("any=/x", "reserved"),
        ] {
            let error = SourceRoots::parse(text).unwrap_err();
            assert!(error.contains(cause), "{text:?}: {error}");
        }
        assert!(SourceRoots::parse(&format!("{}=/x", "a".repeat(64))).is_ok());
        assert!(SourceRoots::parse(&format!("{}=/x", "a".repeat(65))).is_err());
    }
}
