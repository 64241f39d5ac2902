//! Pages of a bucket's keys: prefix, delimiter, where to go on.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::records::ObjectRecord;

/// What a listing asks for.
pub(super) struct Query<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: &'a str,
    /// Only what comes after it.
    pub(super) after: &'a str,
    pub(super) limit: usize,
}

/// One line of a listing.
pub(super) enum Line {
    Object(Arc<ObjectRecord>),
    /// All keys with this beginning, as one.
    CommonPrefix(String),
}

pub(super) struct Page {
    pub(super) lines: Vec<Line>,
    /// Where the next page begins, if there is one: after this.
    pub(super) next_after: Option<String>,
}

pub(super) fn page(objects: &BTreeMap<String, Arc<ObjectRecord>>, query: &Query<'_>) -> Page {
    let mut lines = Vec::new();
    let mut last = String::new();
    let mut from = if query.after >= query.prefix && !query.after.is_empty() {
        Bound::Excluded(query.after.to_owned())
    } else {
        Bound::Included(query.prefix.to_owned())
    };
    while let Some((key, object)) = objects.range((from, Bound::Unbounded)).next() {
        if !key.starts_with(query.prefix) || query.limit == 0 {
            break;
        }
        let common = common_prefix(key, query);
        if let Some(common) = &common
            && query.after.starts_with(common.as_str())
        {
            // Told on the page before.
            from = Bound::Included(successor(common));
            continue;
        }
        if lines.len() == query.limit {
            return Page {
                lines,
                next_after: Some(last),
            };
        }
        match common {
            Some(common) => {
                from = Bound::Included(successor(&common));
                last.clone_from(&common);
                lines.push(Line::CommonPrefix(common));
            }
            None => {
                from = Bound::Excluded(key.clone());
                last.clone_from(key);
                lines.push(Line::Object(Arc::clone(object)));
            }
        }
    }
    Page {
        lines,
        next_after: None,
    }
}

fn common_prefix(key: &str, query: &Query<'_>) -> Option<String> {
    if query.delimiter.is_empty() {
        return None;
    }
    let rest = key.get(query.prefix.len()..)?;
    let end = query.prefix.len() + rest.find(query.delimiter)? + query.delimiter.len();
    key.get(..end).map(str::to_owned)
}

/// The first text after all that begin with `prefix`.
fn successor(prefix: &str) -> String {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            text.push(next);
            return text;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::checksums::Sums;
    use super::super::records::Attributes;
    use super::*;

    fn bucket(keys: &[&str]) -> BTreeMap<String, Arc<ObjectRecord>> {
        let record = |key: &&str| ObjectRecord {
            key: (*key).to_owned(),
            size_bytes: 0,
            etag: String::new(),
            modified_ms: 0,
            sums: Sums::default(),
            is_composite: false,
            attributes: Attributes::default(),
            aside: None,
        };
        keys.iter()
            .map(|key| ((*key).to_owned(), Arc::new(record(key))))
            .collect()
    }

    /// All pages of `limit` lines, joined.
    fn all(keys: &[&str], prefix: &str, delimiter: &str, limit: usize) -> Vec<String> {
        let objects = bucket(keys);
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let page = page(
                &objects,
                &Query {
                    prefix,
                    delimiter,
                    after: &after,
                    limit,
                },
            );
            assert!(page.lines.len() <= limit);
            found.extend(page.lines.into_iter().map(|line| match line {
                Line::Object(object) => object.key.clone(),
                Line::CommonPrefix(prefix) => format!("[{prefix}]"),
            }));
            match page.next_after {
                Some(next) => after = next,
                None => return found,
            }
        }
    }

    #[test]
    fn pages_add_up_whatever_their_size() {
        let keys = ["a", "a/1", "a/2", "a/b/3", "a0", "b/", "b/x", "z", "ü/1", "ü/2"];
        for limit in [1, 2, 3, 100] {
            assert_eq!(all(&keys, "", "", limit), keys);
            assert_eq!(
                all(&keys, "", "/", limit),
                ["a", "[a/]", "a0", "[b/]", "z", "[ü/]"]
            );
            assert_eq!(all(&keys, "a/", "/", limit), ["a/1", "a/2", "[a/b/]"]);
            assert_eq!(all(&keys, "b/", "/", limit), ["b/", "b/x"]);
            assert!(all(&keys, "none", "/", limit).is_empty());
        }
    }

    #[test]
    fn the_successor_comes_after_all_that_begin_with_it() {
        assert_eq!(successor("a/"), "a0");
        assert_eq!(successor("\u{d7ff}"), "\u{e000}");
        assert_eq!(successor("a\u{10ffff}"), "b");
    }
}
