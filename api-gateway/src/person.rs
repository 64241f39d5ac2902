//! What names and addresses of people and companies may look like.

use crate::error::Problems;

/// A text for one line of at least `min` and at most 200 characters.
pub(crate) fn check_line(pointer: &str, text: &str, min: usize, problems: &mut Problems) {
    let count = text.trim().chars().count();
    if count < min || text.chars().count() > 200 {
        problems.add(
            pointer,
            "invalid_length",
            format!("must have {min} to 200 characters"),
        );
    } else if text.chars().any(char::is_control) {
        problems.add(pointer, "invalid", "has control characters");
    }
}

/// An e-mail address, as far as that can be told without writing to it.
pub(crate) fn check_email(pointer: &str, email: &str, problems: &mut Problems) {
    let is_plausible = email.len() <= 254
        && email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !domain.contains('@') && !domain.starts_with('.')
        })
        && !email.chars().any(|c| c.is_whitespace() || c.is_control());
    if !is_plausible {
        problems.add(pointer, "invalid", "must be an e-mail address");
    }
}

/// A username: no other person's address, so that a name means one person whichever it is.
pub(crate) fn check_username(username: &str, email: &str, problems: &mut Problems) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+@".contains(c);
    if !(1..=64).contains(&username.len()) || !username.chars().all(allowed) {
        problems.add(
            "/username",
            "invalid",
            "must have 1 to 64 letters, digits, \".\", \"_\", \"-\" and \"+\"",
        );
    } else if username.contains('@') && !username.eq_ignore_ascii_case(email) {
        problems.add(
            "/username",
            "invalid",
            "must not be an e-mail address other than one's own",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_good(check: impl FnOnce(&mut Problems)) -> bool {
        let mut problems = Problems::default();
        check(&mut problems);
        problems.finish().is_ok()
    }

    #[test]
    fn addresses_are_plausible() {
        for good in ["a@b", "first.last+tag@example.com"] {
            assert!(
                is_good(|problems| check_email("/email", good, problems)),
                "{good}"
            );
        }
        for bad in ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@.b", "a\n@b"] {
            assert!(
                !is_good(|problems| check_email("/email", bad, problems)),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_username_is_nobody_elses_address() {
        assert!(is_good(|problems| check_username("vera", "v@x.com", problems)));
        assert!(is_good(|problems| check_username("V@x.com", "v@x.com", problems)));
        for bad in ["", "other@x.com", "a b", "ü", &"x".repeat(65)] {
            assert!(
                !is_good(|problems| check_username(bad, "v@x.com", problems)),
                "{bad:?}"
            );
        }
    }
}
