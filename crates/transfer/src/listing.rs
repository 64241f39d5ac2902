//! What a bucket has below a prefix, held against keys that are asked for one after another: one listing, page by
//! page, whatever the number of objects, and no request for a single one.

use std::collections::VecDeque;
use storage::{Bucket, ListFrom, ListPage, ListedObject, StorageError};
use tokio::task::JoinSet;

/// A listing under way. Ask for keys in the order of their bytes: then each page is fetched once. A key that comes out of
/// order costs a page of its own.
pub struct Listing {
    bucket: Bucket,
    prefix: String,
    /// What was listed and not yet passed.
    page: VecDeque<ListedObject>,
    /// Where the next page begins.
    next: Next,
    /// The next page, on its way while this one is compared.
    ahead: JoinSet<Result<ListPage, StorageError>>,
    /// The last key that was asked for: what comes before it has been passed.
    passed: String,
    /// The last page held nothing from the key on: the next is looked for where the key is, but for once only: what comes
    /// between there and the key may be many pages, and some stores always begin at the start.
    is_behind: bool,
    has_jumped: bool,
    requests: u64,
}

enum Next {
    Start,
    After(String),
    Page(String),
    End,
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Look<'a> {
    /// The object there.
    Found(&'a ListedObject),
    /// There is none.
    Absent,
    /// Nothing yet: [`Listing::fetch`] first, then ask again.
    Unknown,
}

impl Listing {
    /// Of what the bucket has below `prefix`. Nothing is asked yet.
    #[must_use]
    pub fn below(bucket: Bucket, prefix: String) -> Self {
        Self {
            bucket,
            prefix,
            page: VecDeque::new(),
            next: Next::Start,
            ahead: JoinSet::new(),
            passed: String::new(),
            is_behind: false,
            has_jumped: false,
            requests: 0,
        }
    }

    /// How many pages were asked for.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// What is known of `key` from the pages that were fetched.
    pub fn look(&mut self, key: &str) -> Look<'_> {
        if *key < *self.passed {
            self.page.clear();
            self.jump(key);
            self.is_behind = false;
        }
        if *key != *self.passed {
            key.clone_into(&mut self.passed);
            self.has_jumped = false;
        }
        while self.page.front().is_some_and(|object| *object.key < *key) {
            self.page.pop_front();
        }
        match self.page.front() {
            Some(object) if object.key == key => Look::Found(object),
            Some(_) => Look::Absent,
            None if matches!(self.next, Next::End) => Look::Absent,
            None => Look::Unknown,
        }
    }

    /// Fetches the page that follows, or the one where the key is that was asked for last. May be dropped.
    ///
    /// # Errors
    /// When the store does not list, after all attempts. It may be called again.
    pub async fn fetch(&mut self) -> Result<(), StorageError> {
        if std::mem::take(&mut self.is_behind) && !self.has_jumped {
            let key = self.passed.clone();
            self.jump(&key);
            self.has_jumped = true;
        }
        if self.ahead.is_empty() {
            self.request();
        }
        let page = match self.ahead.join_next().await {
            Some(Ok(page)) => page?,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // A runtime that is going down; or there is no next page.
            Some(Err(_)) | None => return Ok(()),
        };
        self.next = page.next.map_or(Next::End, Next::Page);
        self.page = page.objects.into();
        let is_below = self.page.back().is_none_or(|last| *last.key < *self.passed);
        self.is_behind = is_below;
        if !is_below || self.has_jumped {
            self.request();
        }
        Ok(())
    }

    /// Goes on just before `key`.
    fn jump(&mut self, key: &str) {
        self.ahead = JoinSet::new();
        self.next = just_before(key).map_or(Next::Start, Next::After);
    }

    fn request(&mut self) {
        let (bucket, prefix) = (self.bucket.clone(), self.prefix.clone());
        let from = match &self.next {
            Next::Start => None,
            Next::After(key) => Some((false, key.clone())),
            Next::Page(token) => Some((true, token.clone())),
            Next::End => return,
        };
        self.requests += 1;
        self.ahead.spawn(async move {
            let from = match &from {
                None => ListFrom::Start,
                Some((false, key)) => ListFrom::After(key),
                Some((true, token)) => ListFrom::Page(token),
            };
            bucket.list(&prefix, from).await
        });
    }
}

/// A text shortly before `key` in the order of bytes. (There is none just before it: any number lie between.)
fn just_before(key: &str) -> Option<String> {
    let mut text = key.to_owned();
    let last = text.pop()?;
    // There are no characters between U+D7FF and U+E000.
    let before = match u32::from(last).checked_sub(1) {
        None => return Some(text),
        Some(0xDFFF) => '\u{D7FF}',
        Some(before) => char::from_u32(before)?,
    };
    text.push(before);
    text.push('\u{FFFD}');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_before_a_key_comes_before_it_and_after_its_neighbours() {
        for (key, earlier) in [
            ("a/b", "a/a~~"),
            ("a/", "a.z"),
            ("\u{E000}", "\u{D7FE}"),
            ("x\0", "w"),
        ] {
            let before = just_before(key).unwrap();
            assert!(*before < *key, "{before:?} {key:?}");
            assert!(*before > *earlier, "{before:?} {earlier:?}");
        }
        assert_eq!(just_before(""), None);
    }
}
