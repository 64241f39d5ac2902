//! `GET /api/source-roots/{name}/entries`.

use crate::actor::Actor;
use crate::error::{ApiError, Code, Problems};
use crate::page::{Page, PageParams, PageRequest};
use crate::request::Query;
use crate::state::State;
use actix_web::{HttpRequest, get, web};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata};
use chrono::{DateTime, Utc};
use domain::Permission;
use domain::object_key::PathText;
use rustix::io::Errno;
use serde::Serialize;
use std::collections::BinaryHeap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use utoipa::{IntoParams, ToSchema};

/// Where to look.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes what entries reads")]
struct EntriesParams {
    /// The folder below the root, without a slash at its beginning; absent: the root itself.
    path: Option<String>,
}

/// A file or folder.
#[derive(Serialize, ToSchema)]
struct Entry {
    /// Bytes that are no clean UTF-8 appear as `%XX`.
    name: String,
    kind: EntryKind,
    /// Null for folders.
    size_bytes: Option<u64>,
    modified_at: Option<DateTime<Utc>>,
}

/// What an entry is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum EntryKind {
    File,
    Directory,
}

/// Browse one folder below a source root, ordered by name (byte by byte).
///
/// What is neither file nor folder is left out, and so are symbolic links that leave the root; a page may
/// therefore be shorter than `limit` and still have a next one.
#[utoipa::path(
    tag = "sources",
    params(("name" = String, Path, description = "The root"), PageParams, EntriesParams),
    responses((status = 200, description = "A page of entries", body = Page<Entry>)),
)]
#[get("/api/source-roots/{name}/entries")]
pub(crate) async fn entries(
    state: web::Data<State>,
    actor: Actor,
    request: HttpRequest,
    mut query: Query,
) -> Result<web::Json<Page<Entry>>, ApiError> {
    actor.require(Permission::ProjectRead)?;
    let name = request.match_info().get("name").unwrap_or_default();
    let root = state
        .source_roots
        .get(name, &actor.company_code)
        .ok_or_else(|| ApiError::new(Code::NotFound))?;
    let page = PageRequest::<Vec<u8>>::read(&mut query);
    let path = query.text("path").unwrap_or_default();
    if let Err(problem) = transfer::check_source_path(&path) {
        query.problem("path", problem);
    }
    query.finish()?;
    let (root, after) = (root.path.clone(), page.after.clone());
    let limit = usize::try_from(page.rows()).unwrap_or(usize::MAX);
    let names = web::block(move || read_folder(&root, &path, after, limit))
        .await
        .map_err(ApiError::internal)??;
    let (dir, names) = names;
    let page = page.page(names, |last| last.as_bytes().to_vec(), |name| name)?;
    let items = web::block(move || {
        page.items
            .iter()
            .filter_map(|name| describe(&dir, name))
            .collect()
    })
    .await
    .map_err(ApiError::internal)?;
    Ok(web::Json(Page {
        items,
        next_cursor: page.next_cursor,
    }))
}

/// The folder, and the first `limit` names in it after `after`. The folder is read once, whatever its size, and at
/// most `limit` names are kept.
fn read_folder(
    root: &Path,
    path: &str,
    after: Option<Vec<u8>>,
    limit: usize,
) -> Result<(Dir, Vec<OsString>), ApiError> {
    let root = Dir::open_ambient_dir(root, ambient_authority()).map_err(|error| {
        ApiError::new(Code::RootUnavailable)
            .detail("This gateway has not mounted the source root; workers may have it all the same.")
            .cause(error)
    })?;
    let path = path.trim_end_matches('/');
    let dir = if path.is_empty() {
        root
    } else {
        root.open_dir(path).map_err(|error| folder_error(error, path))?
    };
    let after = after.map(OsString::from_vec);
    let mut first = BinaryHeap::new();
    for entry in dir.entries().map_err(|error| folder_error(error, path))? {
        let name = entry.map_err(|error| folder_error(error, path))?.file_name();
        if after.as_ref().is_some_and(|after| name <= *after) {
            continue;
        }
        first.push(name);
        if first.len() > limit {
            first.pop();
        }
    }
    Ok((dir, first.into_sorted_vec()))
}

/// Links that lead out, or round in circles, look like missing ones: what is outside is nobody's business.
fn folder_error(error: io::Error, path: &str) -> ApiError {
    if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
        return ApiError::new(Code::NotFound).cause(error);
    }
    match error.kind() {
        // The system's refusal, not that of a link that leads out, which has no number.
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_some() && !path.is_empty() => {
            let mut problems = Problems::default();
            problems.add(
                "/path",
                "permission_denied",
                "is a folder the gateway may not read",
            );
            problems.into_error().cause(error)
        }
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => {
            ApiError::new(Code::NotFound).cause(error)
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            ApiError::new(Code::NotFound).cause(error)
        }
        _ => ApiError::new(Code::RootUnavailable)
            .detail("The gateway cannot read this source root.")
            .cause(error),
    }
}

fn describe(dir: &Dir, name: &OsStr) -> Option<Entry> {
    let metadata: Metadata = dir.metadata(PathBuf::from(name)).ok()?;
    let kind = if metadata.is_dir() {
        EntryKind::Directory
    } else if metadata.is_file() {
        EntryKind::File
    } else {
        return None;
    };
    Some(Entry {
        name: PathText::from_bytes(name.as_bytes()).text,
        size_bytes: metadata.is_file().then(|| metadata.len()),
        kind,
        modified_at: metadata
            .modified()
            .ok()
            .map(|time| DateTime::from(time.into_std())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_of_the_system_has_its_answer() {
        for (errno, path, code) in [
            (Errno::LOOP, "a", Code::NotFound),
            (Errno::NOENT, "a", Code::NotFound),
            (Errno::NOTDIR, "a", Code::NotFound),
            (Errno::ACCESS, "a", Code::ValidationFailed),
            (Errno::ACCESS, "", Code::RootUnavailable),
            (Errno::IO, "a", Code::RootUnavailable),
        ] {
            assert_eq!(
                folder_error(errno.into(), path).code(),
                code,
                "{errno:?} {path:?}"
            );
        }
        let leads_out = io::Error::new(
            io::ErrorKind::PermissionDenied,
            "a path led outside of the filesystem",
        );
        assert_eq!(folder_error(leads_out, "a").code(), Code::NotFound);
    }
}
