//! Lists: `?limit=&cursor=` in, `{items, next_cursor}` out. A cursor is opaque to clients; inside it is the key of
//! the last row, so that a page costs the same wherever it is.

use crate::error::ApiError;
use crate::request::Query;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::{IntoParams, ToSchema};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Send it as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// The parameters of every list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes what PageRequest reads")]
pub(crate) struct PageParams {
    /// How many rows at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// How much to read, and after what.
#[derive(Debug)]
pub(crate) struct PageRequest<C> {
    limit: usize,
    /// The key of the last row seen.
    pub after: Option<C>,
}

impl<C: DeserializeOwned> PageRequest<C> {
    /// From the query; what is wrong is noted there.
    pub(crate) fn read(query: &mut Query) -> Self {
        let limit = match query.value::<usize>("limit") {
            Some(limit) if (1..=MAX_LIMIT).contains(&limit) => limit,
            Some(_) => {
                query.problem("limit", format!("must be 1 to {MAX_LIMIT}"));
                DEFAULT_LIMIT
            }
            None => DEFAULT_LIMIT,
        };
        let cursor = query.text("cursor");
        let after = cursor.as_deref().and_then(decode);
        if cursor.is_some() && after.is_none() {
            query.problem("cursor", "is not a next_cursor of this list");
        }
        Self { limit, after }
    }
}

impl<C> PageRequest<C> {
    /// How many rows to ask the database for: one more than are shown, which tells whether there is a next page.
    pub(crate) fn rows(&self) -> i64 {
        i64::try_from(self.limit + 1).unwrap_or(i64::MAX)
    }

    /// The page of `rows`; `key` gives what the next page begins after.
    pub(crate) fn page<R, K: Serialize, T>(
        &self,
        mut rows: Vec<R>,
        key: impl FnOnce(&R) -> K,
        view: impl FnMut(R) -> T,
    ) -> Result<Page<T>, ApiError> {
        let has_more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next_cursor = match rows.last() {
            Some(last) if has_more => Some(encode(&key(last))?),
            _ => None,
        };
        Ok(Page {
            items: rows.into_iter().map(view).collect(),
            next_cursor,
        })
    }
}

impl PageRequest<usize> {
    /// The page of a short list that is there as a whole: its cursors count rows.
    pub(crate) fn page_of_all<R, T>(
        &self,
        all: impl IntoIterator<Item = R>,
        view: impl FnMut(R) -> T,
    ) -> Result<Page<T>, ApiError> {
        let begin = self.after.unwrap_or(0);
        let rows = all.into_iter().skip(begin).take(self.limit + 1).collect();
        self.page(rows, |_| begin + self.limit, view)
    }
}

fn encode(key: &impl Serialize) -> Result<String, ApiError> {
    let json = serde_json::to_vec(key).map_err(ApiError::internal)?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

fn decode<C: DeserializeOwned>(cursor: &str) -> Option<C> {
    let json = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    // U+0000 would be refused by Postgres.
    if json.windows(6).any(|window| window == b"\\u0000") {
        return None;
    }
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_and_others_are_refused() {
        let cursor = encode(&("name", 3)).unwrap();
        assert_eq!(decode::<(String, i32)>(&cursor), Some(("name".into(), 3)));
        assert_eq!(decode::<(i32, i32)>(&cursor), None);
        assert_eq!(decode::<(String, i32)>("!"), None);
        assert_eq!(decode::<String>(&URL_SAFE_NO_PAD.encode("\"a\\u0000\"")), None);
    }

    #[test]
    fn the_last_page_has_no_cursor() {
        let request = PageRequest::<i32> {
            limit: 2,
            after: None,
        };
        let page = request.page(vec![1, 2, 3], |row| *row, |row| row).unwrap();
        assert_eq!(page.items, [1, 2]);
        assert_eq!(page.next_cursor.as_deref().and_then(decode::<i32>), Some(2));
        assert!(
            request
                .page(vec![1, 2], |row| *row, |row| row)
                .unwrap()
                .next_cursor
                .is_none()
        );
    }

    #[test]
    fn a_list_in_memory_is_paged_to_its_end() {
        let page = |after| {
            let request = PageRequest::<usize> { limit: 2, after };
            let page = request.page_of_all(1..=3, |row| row).unwrap();
            (page.items, page.next_cursor.as_deref().and_then(decode::<usize>))
        };
        assert_eq!(page(None), (vec![1, 2], Some(2)));
        assert_eq!(page(Some(2)), (vec![3], None));
        assert_eq!(page(Some(usize::MAX)), (vec![], None));
    }
}
