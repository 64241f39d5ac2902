//! Passwords a person is shown once and types once.

use rand::Rng as _;

/// No letter or digit that is easily taken for another (0 o, 1 i l).
const ALPHABET: &[u8] = b"23456789abcdefghjkmnpqrstuvwxyz";
const GROUPS: usize = 5;
const GROUP_LEN: usize = 4;

/// A random password such as `k7wd-x2mq-9hfp-cstu-4rbn`: 99 random bits, 24 bytes.
#[must_use]
pub fn one_time_password() -> String {
    let mut random = rand::rng();
    let mut group = || -> String {
        (0..GROUP_LEN)
            .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
            .collect()
    };
    (0..GROUPS).map(|_| group()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_acceptable_and_never_the_same() {
        let (one, other) = (one_time_password(), one_time_password());
        assert_eq!(crate::passwords::check(&one), Ok(()));
        assert_eq!(one.len(), 24);
        assert_ne!(one, other);
    }
}
