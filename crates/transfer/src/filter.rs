//! Which files a session takes: include and exclude patterns over the text of the path below the source.
//!
//! The rules are those of `.gitignore`, without `!`: a pattern without a slash matches a name at any depth; one
//! with a slash (other than at its end) is anchored at the source; one with a slash at its end matches folders
//! only; `*` and `?` stop at slashes, `**` does not. A pattern that matches a folder holds for all below it.

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

/// Compiled include and exclude patterns.
#[derive(Clone, Debug)]
pub struct Filter {
    include: Option<Patterns>,
    exclude: Option<Patterns>,
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {pattern:?}: {detail}")]
pub struct InvalidPattern {
    /// Which it is, by list and index: `include/0`.
    pub field: String,
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub detail: String,
}

/// One list of patterns.
#[derive(Clone, Debug)]
struct Patterns {
    set: GlobSet,
    /// For each glob of the set, whether it matches folders only.
    folders_only: Vec<bool>,
    any_folders_only: bool,
}

impl Filter {
    /// Compiles both lists. An empty include list takes everything.
    ///
    /// # Errors
    /// Names the first pattern that is no glob.
    pub fn compile(include: &[String], exclude: &[String]) -> Result<Self, InvalidPattern> {
        Ok(Self {
            include: Patterns::compile("include", include)?,
            exclude: Patterns::compile("exclude", exclude)?,
        })
    }

    /// Whether every file is taken, so that nobody need ask.
    pub(crate) fn takes_everything(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Whether the file at `path` is taken; `inherited` tells whether a folder above it is included.
    pub(crate) fn takes_file(&self, path: &str, inherited: bool) -> bool {
        let included = inherited || self.include.as_ref().is_none_or(|set| set.matches(path, false));
        included && !self.exclude.as_ref().is_some_and(|set| set.matches(path, false))
    }

    /// Whether nothing below the folder at `path` is taken, so that it is not even listed.
    pub(crate) fn prunes(&self, path: &str) -> bool {
        self.exclude.as_ref().is_some_and(|set| set.matches(path, true))
    }

    /// Whether all below the folder at `path` is included (and may still be excluded).
    pub(crate) fn includes_folder(&self, path: &str) -> bool {
        self.include.as_ref().is_none_or(|set| set.matches(path, true))
    }
}

impl Patterns {
    fn compile(list: &str, patterns: &[String]) -> Result<Option<Self>, InvalidPattern> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let mut builder = GlobSetBuilder::new();
        let mut folders_only = Vec::with_capacity(patterns.len());
        let invalid = |index: usize, pattern: &str, detail: String| InvalidPattern {
            field: format!("{list}/{index}"),
            pattern: pattern.to_owned(),
            detail,
        };
        for (index, pattern) in patterns.iter().enumerate() {
            let body = pattern.strip_suffix('/').unwrap_or(pattern);
            folders_only.push(body.len() < pattern.len());
            let glob = match body.strip_prefix('/') {
                Some(anchored) => anchored.to_owned(),
                None if body.contains('/') => body.to_owned(),
                None => format!("**/{body}"),
            };
            if body.is_empty() || glob.is_empty() {
                return Err(invalid(index, pattern, "names nothing".to_owned()));
            }
            let glob = GlobBuilder::new(&glob)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| invalid(index, pattern, error.kind().to_string()))?;
            builder.add(glob);
        }
        let set = builder
            .build()
            .map_err(|error| invalid(0, error.glob().unwrap_or_default(), error.kind().to_string()))?;
        Ok(Some(Self {
            set,
            any_folders_only: folders_only.contains(&true),
            folders_only,
        }))
    }

    fn matches(&self, path: &str, is_folder: bool) -> bool {
        let candidate = Candidate::new(path);
        if is_folder || !self.any_folders_only {
            return self.set.is_match_candidate(&candidate);
        }
        self.set
            .matches_candidate(&candidate)
            .into_iter()
            .any(|index| !self.folders_only.get(index).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Filter::compile(&owned(include), &owned(exclude)).unwrap()
    }

    #[test]
    fn no_pattern_takes_everything() {
        let filter = filter(&[], &[]);
        assert!(filter.takes_everything());
        assert!(filter.takes_file(".hidden/a b", false) && !filter.prunes("any"));
    }

    #[test]
    fn a_pattern_without_slash_matches_names_at_any_depth() {
        let filter = filter(&["*.csv"], &[]);
        assert!(filter.takes_file("a.csv", false) && filter.takes_file("x/y/a.csv", false));
        assert!(!filter.takes_file("a.csv.gz", false) && !filter.takes_file("x.csv/readme", false));
    }

    #[test]
    fn a_pattern_with_slash_is_anchored() {
        for pattern in ["raw/*.csv", "/raw/*.csv"] {
            let filter = filter(&[pattern], &[]);
            assert!(filter.takes_file("raw/a.csv", false), "{pattern}");
            assert!(!filter.takes_file("x/raw/a.csv", false), "{pattern}");
            assert!(!filter.takes_file("raw/deep/a.csv", false), "{pattern}");
        }
        assert!(filter(&["/top"], &[]).takes_file("top", false));
        assert!(!filter(&["/top"], &[]).takes_file("x/top", false));
    }

    #[test]
    fn two_stars_cross_folders() {
        let filter = filter(&["raw/**/*.csv"], &["**/tmp/**"]);
        assert!(filter.takes_file("raw/a.csv", false) && filter.takes_file("raw/x/y/a.csv", false));
        assert!(!filter.takes_file("raw/tmp/a.csv", false));
    }

    #[test]
    fn a_slash_at_the_end_means_folders() {
        let filter = filter(&[], &["build/", "/cache/"]);
        assert!(filter.prunes("build") && filter.prunes("a/build") && filter.prunes("cache"));
        assert!(!filter.prunes("a/cache"));
        assert!(filter.takes_file("build", false) && filter.takes_file("cache", false));
    }

    #[test]
    fn exclude_beats_include() {
        let filter = filter(&["*.csv"], &["secret*"]);
        assert!(!filter.takes_file("secret.csv", false) && filter.takes_file("open.csv", false));
        assert!(!filter.takes_file("x/secret.csv", true));
    }

    #[test]
    fn an_included_folder_includes_what_is_below() {
        let filter = filter(&["docs/"], &[]);
        assert!(filter.includes_folder("docs") && filter.includes_folder("a/docs"));
        assert!(!filter.includes_folder("src"));
        assert!(filter.takes_file("docs/a/b", true) && !filter.takes_file("docs", false));
    }

    #[test]
    fn the_bad_pattern_is_named() {
        let error = Filter::compile(&["ok".into(), "[a".into()], &[]).unwrap_err();
        assert_eq!(
            (error.field.as_str(), error.pattern.as_str()),
            ("include/1", "[a")
        );
        assert!(error.to_string().contains("unclosed character class"), "{error}");
        let error = Filter::compile(&[], &["/".into()]).unwrap_err();
        assert_eq!(error.field, "exclude/0");
    }
}
