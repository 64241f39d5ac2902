//! What the sink knows of objects.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::etag::ETag;
use super::head::Claim;
use super::uploads::Uploads;

/// An object, or a part of one: everything but its bytes.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) size_bytes: u64,
    pub(super) etag: ETag,
    pub(super) claim: Option<Claim>,
    /// The claim covers the whole object, not the checksums of its parts.
    pub(super) is_full_object: bool,
    /// Of the bytes that came, where it was computed.
    pub(super) crc64nvme: Option<u64>,
}

/// Objects by `{bucket}/{key}`, in their order.
pub(super) type Objects = BTreeMap<Box<str>, Object>;

#[derive(Debug, Default)]
pub(super) struct Store {
    objects: Mutex<Objects>,
    uploads: Mutex<Uploads>,
    verifies: AtomicBool,
}

impl Store {
    pub(super) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn uploads(&self) -> MutexGuard<'_, Uploads> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether checksums are computed.
    pub(super) fn verifies(&self) -> bool {
        self.verifies.load(Ordering::Relaxed)
    }

    /// Forgets everything.
    pub(super) fn begin(&self, verifies: bool) {
        self.verifies.store(verifies, Ordering::Relaxed);
        self.objects().clear();
        *self.uploads() = Uploads::default();
    }
}

/// What begins with `prefix` and comes behind `after`.
pub(super) fn range<'a>(
    objects: &'a Objects,
    prefix: &'a str,
    after: &'a str,
) -> impl Iterator<Item = (&'a str, &'a Object)> {
    let from = if after < prefix {
        Bound::Included(prefix)
    } else {
        Bound::Excluded(after)
    };
    objects
        .range::<str, _>((from, Bound::Unbounded))
        .map(|(path, object)| (&**path, object))
        .take_while(move |(path, _)| path.starts_with(prefix))
}
