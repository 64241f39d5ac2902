//! S3's storage classes, of projects and of sessions.

/// S3's storage classes for new objects.
const STORAGE_CLASSES: [&str; 10] = [
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "OUTPOSTS",
    "GLACIER_IR",
    "EXPRESS_ONEZONE",
];

/// Whether new objects may have this storage class.
///
/// # Errors
/// What they may have, to be read after the field's name.
pub fn check_storage_class(class: &str) -> Result<(), String> {
    if STORAGE_CLASSES.contains(&class) {
        Ok(())
    } else {
        Err(format!("must be one of {}", STORAGE_CLASSES.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_spelled_as_s3_does() {
        assert_eq!(check_storage_class("STANDARD_IA"), Ok(()));
        for bad in ["", "standard_ia", "COLD", "GLACIER "] {
            let problem = check_storage_class(bad).unwrap_err();
            assert!(problem.contains("DEEP_ARCHIVE"), "{problem}");
        }
    }
}
