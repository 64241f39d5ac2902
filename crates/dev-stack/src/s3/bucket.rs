//! One bucket: its folder on disk and the index of it in memory.
//!
//! The folder holds `objects/` (the bytes, readable), `.meta/` (one JSON file an object), `.uploads/` (one folder
//! a multipart upload) and `.arriving/` (bodies on their way). An object changes by renaming two complete files
//! under the lock, so a reader sees the old one or the new one. All methods block: call them off the async threads.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use s3s::crypto::{Checksum as _, Sha256};
use s3s::dto::{ETag, ETagCondition};
use s3s::{S3Result, s3_error};

use super::keys;
use super::receive::{Arrived, internal};
use super::records::{ObjectRecord, PartRecord, UploadRecord};

pub(super) struct Bucket {
    folder: PathBuf,
    state: Mutex<State>,
}

/// What is in the bucket, in the order of listings.
#[derive(Default)]
pub(super) struct State {
    pub(super) objects: BTreeMap<String, Arc<ObjectRecord>>,
    /// By key, then upload id.
    pub(super) uploads: BTreeMap<(String, String), UploadRecord>,
}

/// `If-Match` and `If-None-Match` of a write.
#[derive(Default)]
pub(super) struct WriteCondition {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
}

impl WriteCondition {
    fn check(&self, current: Option<&ObjectRecord>) -> S3Result<()> {
        let matches = |condition: &ETagCondition| match (condition, current) {
            (_, None) => false,
            (ETagCondition::Any, Some(_)) => true,
            (ETagCondition::ETag(etag), Some(current)) => etag.value() == current.etag,
        };
        if self.if_none_match.as_ref().is_some_and(matches)
            || self
                .if_match
                .as_ref()
                .is_some_and(|condition| !matches(condition))
        {
            return Err(s3_error!(
                PreconditionFailed,
                "At least one of the pre-conditions you specified did not hold"
            ));
        }
        Ok(())
    }
}

impl Bucket {
    /// Makes the folders of a new bucket.
    pub(super) fn create(folder: PathBuf) -> io::Result<Self> {
        for name in ["objects", ".meta", ".uploads", ".arriving"] {
            fs::create_dir_all(folder.join(name))?;
        }
        Ok(Self {
            folder,
            state: Mutex::default(),
        })
    }

    /// Reads back what an earlier server left in `folder`.
    pub(super) fn load(folder: PathBuf) -> io::Result<Self> {
        let bucket = Self::create(folder)?;
        for leftover in fs::read_dir(bucket.arriving())? {
            fs::remove_file(leftover?.path())?;
        }
        let mut state = State::default();
        for shard in fs::read_dir(bucket.folder.join(".meta"))? {
            for file in fs::read_dir(shard?.path())? {
                if let Some(record) = read_json::<ObjectRecord>(&file?.path()) {
                    state.objects.insert(record.key.clone(), Arc::new(record));
                }
            }
        }
        for upload in fs::read_dir(bucket.folder.join(".uploads"))? {
            let folder = upload?.path();
            let Some(mut record) = read_json::<UploadRecord>(&folder.join("upload.json")) else {
                continue;
            };
            for file in fs::read_dir(&folder)? {
                let path = file?.path();
                let is_part = path.extension().is_some_and(|extension| extension == "part");
                if let Some(part) = read_json::<PartRecord>(&path).filter(|_| is_part) {
                    record.parts.insert(part.number, part);
                }
            }
            state
                .uploads
                .insert((record.key.clone(), record.upload_id.clone()), record);
        }
        *bucket.state() = state;
        Ok(bucket)
    }

    /// The index; held only for moments.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where bodies are while they come in.
    pub(super) fn arriving(&self) -> PathBuf {
        self.folder.join(".arriving")
    }

    /// Where the parts of an upload are.
    pub(super) fn upload_folder(&self, upload_id: &str) -> PathBuf {
        self.folder.join(".uploads").join(upload_id)
    }

    /// Gives bytes that have arrived their key.
    pub(super) fn put(
        &self,
        mut record: ObjectRecord,
        bytes: Arrived,
        condition: &WriteCondition,
    ) -> S3Result<Arc<ObjectRecord>> {
        let bytes = bytes.into_file(&self.arriving()).map_err(internal)?;
        let meta = self.meta_path(&record.key);
        let mut state = self.state();
        let current = state.objects.get(&record.key).cloned();
        condition.check(current.as_deref())?;

        let plain = self.folder.join("objects").join(keys::path_of(&record.key));
        match rename_into(&bytes, &plain) {
            Ok(()) => {}
            // A folder is where the object should be, or an object where its folder should be.
            Err(_) if bytes.exists() => {
                let aside = keys::path_aside(&hex::encode(Sha256::checksum(record.key.as_bytes())));
                rename_into(&bytes, &self.folder.join("objects").join(&aside)).map_err(internal)?;
                record.aside = Some(aside);
            }
            Err(error) => return Err(internal(error)),
        }
        // Renamed: there is nothing left for the guard to remove.
        let _ = bytes.keep();
        if let Some(current) = current.filter(|current| current.aside != record.aside) {
            remove_if_there(&self.data_path(&current)).map_err(internal)?;
        }
        write_json(&self.arriving(), &meta, &record).map_err(internal)?;
        let record = Arc::new(record);
        state.objects.insert(record.key.clone(), Arc::clone(&record));
        Ok(record)
    }

    /// The object and its bytes, of one version.
    pub(super) fn open(&self, key: &str) -> S3Result<(Arc<ObjectRecord>, fs::File)> {
        let state = self.state();
        let record = state.objects.get(key).ok_or_else(|| no_such_key(key))?;
        let file = fs::File::open(self.data_path(record)).map_err(internal)?;
        Ok((Arc::clone(record), file))
    }

    pub(super) fn find(&self, key: &str) -> S3Result<Arc<ObjectRecord>> {
        self.state()
            .objects
            .get(key)
            .cloned()
            .ok_or_else(|| no_such_key(key))
    }

    /// Removes an object; a key that is not there is no error.
    pub(super) fn delete(&self, key: &str) -> io::Result<()> {
        let mut state = self.state();
        if let Some(record) = state.objects.remove(key) {
            remove_if_there(&self.meta_path(key))?;
            remove_if_there(&self.data_path(&record))?;
        }
        Ok(())
    }

    /// Removes the bucket's folder.
    pub(super) fn remove(&self) -> S3Result<()> {
        let state = self.state();
        if !state.objects.is_empty() || !state.uploads.is_empty() {
            return Err(s3_error!(BucketNotEmpty));
        }
        fs::remove_dir_all(&self.folder).map_err(internal)
    }

    fn data_path(&self, record: &ObjectRecord) -> PathBuf {
        let below = record.aside.clone().unwrap_or_else(|| keys::path_of(&record.key));
        self.folder.join("objects").join(below)
    }

    fn meta_path(&self, key: &str) -> PathBuf {
        let digest = hex::encode(Sha256::checksum(key.as_bytes()));
        let (shard, _) = digest.split_at(2);
        self.folder
            .join(".meta")
            .join(shard)
            .join(format!("{digest}.json"))
    }
}

pub(super) fn no_such_key(key: &str) -> s3s::S3Error {
    s3_error!(NoSuchKey, "The specified key does not exist: {key}")
}

pub(super) fn strong(etag: &str) -> Option<ETag> {
    Some(ETag::Strong(etag.to_owned()))
}

/// Writes a file whole or not at all.
pub(super) fn write_json(arriving: &Path, path: &Path, value: &impl serde::Serialize) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(arriving)?;
    serde_json::to_writer(io::BufWriter::new(file.as_file_mut()), value)?;
    let file = file.into_temp_path();
    rename_into(&file, path)?;
    // Renamed: there is nothing left for the guard to remove.
    let _ = file.keep();
    Ok(())
}

/// None for what cannot be read: a file torn by a crash counts as never written.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Renames, and makes the folders of `to` only when they are missing.
pub(super) fn rename_into(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::rename(from, to)
        }
        result => result,
    }
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
