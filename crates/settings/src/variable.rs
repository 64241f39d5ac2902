//! One environment variable: its name, default, example and meaning, and the reading of a set of them.
//!
//! A [`Reader`] takes every value through the variable's own entry and goes on after a problem, so that a person
//! sees all that is wrong at once.

use std::fmt::Write as _;

/// What happens where a variable is absent or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// The start stops.
    Required,
    /// It has no value; the text says what that means.
    Means(&'static str),
    /// This value is taken.
    Default(&'static str),
}

/// An entry of a binary's table of variables.
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    pub(crate) absent: Absent,
    /// Shown with a problem.
    pub(crate) example: &'static str,
    /// For `--help`.
    pub(crate) what: &'static str,
    /// Whether its value stays out of every message.
    pub(crate) secret: bool,
}

impl Variable {
    pub(crate) const fn new(
        name: &'static str,
        absent: Absent,
        example: &'static str,
        what: &'static str,
    ) -> Self {
        Self {
            name,
            absent,
            example,
            what,
            secret: false,
        }
    }

    pub(crate) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

/// One variable that cannot be used. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {problem} (example: {variable}={example})")]
pub struct Problem {
    /// The variable's name.
    pub variable: &'static str,
    /// What is wrong, to be read after the name.
    pub problem: String,
    /// A value that would do.
    pub example: &'static str,
}

/// The environment cannot be used. Displays as one line for each problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct InvalidEnvironment {
    /// Everything that is wrong, in the order of the table.
    pub problems: Vec<Problem>,
}

/// Where values come from: the environment, or a test's map.
pub type Source<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Reads variables one after the other and collects what is wrong.
pub(crate) struct Reader<'a> {
    source: Source<'a>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: Source<'a>) -> Self {
        Self {
            source,
            problems: Vec::new(),
        }
    }

    /// The variable's value or its default, parsed. `None` where it is absent without a default, or unusable; the
    /// problem is then noted.
    pub(crate) fn get<T>(
        &mut self,
        variable: &Variable,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let given = (self.source)(variable.name).filter(|value| !value.is_empty());
        let text = match (given, variable.absent) {
            (Some(text), _) => text,
            (None, Absent::Default(text)) => text.to_owned(),
            (None, Absent::Means(_)) => return None,
            (None, Absent::Required) => {
                self.problem(variable, "is missing");
                return None;
            }
        };
        // What is no UTF-8 arrives with replacement characters; used as it is, it would be another path or password.
        if text.contains(char::REPLACEMENT_CHARACTER) {
            self.problem(variable, "is not valid UTF-8");
            return None;
        }
        match parse(&text) {
            Ok(value) => Some(value),
            Err(detail) if variable.secret => {
                self.problem(variable, detail);
                None
            }
            Err(detail) => {
                self.problem(variable, format!("{detail}, not {text:?}"));
                None
            }
        }
    }

    pub(crate) fn problem(&mut self, variable: &Variable, problem: impl Into<String>) {
        let problem = Problem {
            variable: variable.name,
            problem: problem.into(),
            example: variable.example,
        };
        self.problems.push(problem);
    }

    /// `value` where every variable could be used. It is `None` only after a problem.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, InvalidEnvironment> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(InvalidEnvironment {
                problems: self.problems,
            }),
        }
    }
}

/// The "Environment" section of a binary's `--help`.
pub(crate) fn help(table: &[&Variable]) -> String {
    let mut text = String::from("Environment:\n");
    for variable in table {
        let absent = match variable.absent {
            Absent::Required => "required".to_owned(),
            Absent::Means(meaning) => format!("default: {meaning}"),
            Absent::Default(value) => format!("default: {value}"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {}\n      {} [{absent}; example: {}]",
            variable.name, variable.what, variable.example
        );
    }
    text
}

/// Parsers shared by several variables. Their errors are read after the variable's name.
pub(crate) mod parse {
    use std::str::FromStr;

    use secrecy::SecretString;
    use url::Url;

    pub(crate) fn number<T: FromStr + PartialOrd + std::fmt::Display>(
        min: T,
        max: T,
    ) -> impl FnOnce(&str) -> Result<T, String> {
        move |text| match text.parse::<T>() {
            Ok(value) if value >= min && value <= max => Ok(value),
            _ => Err(format!("must be a whole number from {min} to {max}")),
        }
    }

    pub(crate) fn flag(text: &str) -> Result<bool, String> {
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err("must be 1 or 0".into()),
        }
    }

    /// A URL of one of `schemes`, with a host.
    pub(crate) fn url(text: &str, schemes: &[&str]) -> Result<Url, String> {
        let expected = || format!("must be a URL starting with {}://", schemes.join(":// or "));
        let url = Url::parse(text).map_err(|error| format!("{} ({error})", expected()))?;
        if schemes.contains(&url.scheme()) && (url.has_host() || url.scheme().ends_with("unix")) {
            Ok(url)
        } else {
            Err(expected())
        }
    }

    pub(crate) fn http_url(text: &str) -> Result<Url, String> {
        url(text, &["http", "https"])
    }

    /// A URL that may carry a password.
    pub(crate) fn secret_url(schemes: &'static [&str]) -> impl FnOnce(&str) -> Result<SecretString, String> {
        move |text| url(text, schemes).map(|_| SecretString::from(text))
    }

    pub(crate) fn text(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    pub(crate) fn secret_text(text: &str) -> Result<SecretString, String> {
        Ok(SecretString::from(text))
    }

    /// The contents of the text file whose path is given.
    pub(crate) fn text_file(path: &str) -> Result<String, String> {
        std::fs::read_to_string(path).map_err(|error| format!("must name a readable PEM file ({error})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Variable = Variable::new("PORT", Absent::Default("1"), "8000", "a port");
    const KEY: Variable = Variable::new("KEY", Absent::Required, "12345", "a key").secret();

    #[test]
    fn all_problems_are_reported_each_in_one_line_without_secrets() {
        let source = |name: &str| match name {
            "PORT" => Some("many".to_owned()),
            "KEY" => Some("hunter2".to_owned()),
            _ => None,
        };
        let mut reader = Reader::new(&source);
        reader.get(&PORT, parse::number(1u16, 9));
        reader.get(&KEY, parse::number(1u16, 9));
        let error = reader.finish(Some(())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "PORT must be a whole number from 1 to 9, not \"many\" (example: PORT=8000)\n\
             KEY must be a whole number from 1 to 9 (example: KEY=12345)"
        );
    }

    #[test]
    fn empty_is_absent() {
        let source = |_: &str| Some(String::new());
        let mut reader = Reader::new(&source);
        assert_eq!(reader.get(&PORT, parse::number(1u16, 9)), Some(1));
        assert_eq!(reader.get(&KEY, parse::number(1u16, 9)), None);
        let error = reader.finish(Some(())).unwrap_err();
        assert_eq!(error.to_string(), "KEY is missing (example: KEY=12345)");
    }

    #[test]
    fn what_is_no_utf8_is_refused() {
        let source = |_: &str| Some("/data/\u{fffd}".to_owned());
        let mut reader = Reader::new(&source);
        assert_eq!(reader.get(&PORT, parse::text), None);
        assert_eq!(
            reader.finish(Some(())).unwrap_err().to_string(),
            "PORT is not valid UTF-8 (example: PORT=8000)"
        );
    }

    #[test]
    fn urls_need_a_known_scheme_and_a_host() {
        assert!(parse::http_url("https://s3.example.com:9000").is_ok());
        for bad in ["s3.example.com", "ftp://s3.example.com", "https://", "http:"] {
            assert!(parse::http_url(bad).is_err(), "{bad}");
        }
    }
}
