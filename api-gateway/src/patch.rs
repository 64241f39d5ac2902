//! A field of a `PATCH`: absent leaves the thing as it is, `null` clears it, a value sets it.

use serde::{Deserialize, Deserializer};

/// For `#[serde(default, deserialize_with = "crate::patch::nullable")]` on an `Option<Option<T>>`: tells `null` from
/// absent.
pub(crate) fn nullable<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

/// For `#[serde(default, deserialize_with = "crate::patch::not_null")]` on an `Option<T>`: a thing that cannot be
/// cleared.
pub(crate) fn not_null<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// A field that has a default instead of nothing: `null` gives the default back.
pub(crate) fn or_default<T: Default>(field: Option<Option<T>>) -> Option<T> {
    field.map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Change {
        #[serde(default, deserialize_with = "nullable")]
        field: Option<Option<u8>>,
        #[serde(default, deserialize_with = "not_null")]
        name: Option<u8>,
    }

    #[test]
    fn absent_null_and_value_differ() {
        let read = |json: &str| serde_json::from_str::<Change>(json).unwrap().field;
        assert_eq!(read("{}"), None);
        assert_eq!(read(r#"{"field": null}"#), Some(None));
        assert_eq!(read(r#"{"field": 1}"#), Some(Some(1)));
        assert_eq!(serde_json::from_str::<Change>("{}").unwrap().name, None);
        assert!(serde_json::from_str::<Change>(r#"{"name": null}"#).is_err());
        assert_eq!(or_default(read(r#"{"field": null}"#)), Some(0));
    }
}
