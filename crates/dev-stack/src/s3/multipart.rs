//! Multipart uploads of one bucket: create, take a part, complete, abort. All methods block.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::CompletedPart;
use s3s::{S3Result, s3_error};
use tempfile::TempPath;

use super::bucket::{Bucket, WriteCondition, remove_if_there, rename_into, write_json};
use super::checksums::{Algorithm, Sums, composite, join_crcs, sums_of};
use super::receive::{Arrived, Received, internal};
use super::records::{ObjectRecord, PartRecord, UploadRecord, now_ms};

/// What a client says when it completes an upload.
pub(super) struct Completion {
    pub(super) parts: Vec<CompletedPart>,
    /// Checksums of the whole object.
    pub(super) sums: Sums,
    pub(super) size_bytes: Option<u64>,
    pub(super) condition: WriteCondition,
}

impl Bucket {
    pub(super) fn create_upload(&self, record: UploadRecord) -> S3Result<()> {
        let folder = self.upload_folder(&record.upload_id);
        fs::create_dir(&folder).map_err(internal)?;
        write_json(&self.arriving(), &folder.join("upload.json"), &record).map_err(internal)?;
        self.state()
            .uploads
            .insert((record.key.clone(), record.upload_id.clone()), record);
        Ok(())
    }

    pub(super) fn find_upload(&self, key: &str, upload_id: &str) -> S3Result<UploadRecord> {
        let state = self.state();
        let upload = state.uploads.get(&(key.to_owned(), upload_id.to_owned()));
        upload.cloned().ok_or_else(no_such_upload)
    }

    /// Gives a part that has arrived its number; a part of the same number is replaced.
    pub(super) fn put_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u16,
        received: Received,
    ) -> S3Result<PartRecord> {
        let part = PartRecord {
            number,
            size_bytes: received.size_bytes,
            etag: hex::encode(received.md5),
            modified_ms: now_ms(),
            sums: received.sums,
            crc64nvme: received.crc64nvme,
        };
        let bytes = received.bytes.into_file(&self.arriving()).map_err(internal)?;
        let mut state = self.state();
        let upload = state
            .uploads
            .get_mut(&(key.to_owned(), upload_id.to_owned()))
            .ok_or_else(no_such_upload)?;
        rename_into(&bytes, &self.part_path(upload_id, number)).map_err(internal)?;
        // Renamed: there is nothing left for the guard to remove.
        let _ = bytes.keep();
        let meta = self.part_path(upload_id, number).with_extension("part");
        write_json(&self.arriving(), &meta, &part).map_err(internal)?;
        upload.parts.insert(number, part.clone());
        Ok(part)
    }

    /// Makes one object of the parts named.
    pub(super) fn complete_upload(
        &self,
        key: &str,
        upload_id: &str,
        completion: &Completion,
    ) -> S3Result<Arc<ObjectRecord>> {
        let upload = self.find_upload(key, upload_id)?;
        let parts = chosen_parts(&upload, &completion.parts)?;
        let record = whole(&upload, &parts)?;
        if completion
            .size_bytes
            .is_some_and(|size_bytes| size_bytes != record.size_bytes)
        {
            return Err(s3_error!(
                InvalidRequest,
                "The object's size is not the one specified."
            ));
        }
        let comparable: Vec<Algorithm> = record.sums.algorithms();
        if let Some(algorithm) = completion
            .sums
            .mismatch(&record.sums)
            .filter(|algorithm| comparable.contains(algorithm))
        {
            return Err(s3_error!(
                BadDigest,
                "The {} you specified did not match the calculated checksum.",
                algorithm.name()
            ));
        }
        let bytes = self.join(upload_id, &parts).map_err(internal)?;
        let record = self.put(record, Arrived::File(bytes), &completion.condition)?;
        self.forget_upload(key, upload_id)?;
        Ok(record)
    }

    pub(super) fn abort_upload(&self, key: &str, upload_id: &str) -> S3Result<()> {
        self.find_upload(key, upload_id)?;
        self.forget_upload(key, upload_id)
    }

    fn forget_upload(&self, key: &str, upload_id: &str) -> S3Result<()> {
        let mut state = self.state();
        state.uploads.remove(&(key.to_owned(), upload_id.to_owned()));
        // First what makes it an upload, so that a crash half-way leaves none behind.
        let folder = self.upload_folder(upload_id);
        remove_if_there(&folder.join("upload.json")).map_err(internal)?;
        fs::remove_dir_all(folder).map_err(internal)
    }

    /// Copies the parts into one file; the parts stay, so that a completion that is refused changes nothing.
    fn join(&self, upload_id: &str, parts: &[PartRecord]) -> io::Result<TempPath> {
        let mut whole = tempfile::NamedTempFile::new_in(self.arriving())?;
        for part in parts {
            let mut bytes = fs::File::open(self.part_path(upload_id, part.number))?;
            io::copy(&mut bytes, whole.as_file_mut())?;
        }
        Ok(whole.into_temp_path())
    }

    fn part_path(&self, upload_id: &str, number: u16) -> PathBuf {
        self.upload_folder(upload_id).join(format!("{number:05}.bytes"))
    }
}

fn no_such_upload() -> s3s::S3Error {
    s3_error!(NoSuchUpload, "The specified multipart upload does not exist.")
}

/// The parts a completion names, if they are in order, all there and what it says.
fn chosen_parts(upload: &UploadRecord, named: &[CompletedPart]) -> S3Result<Vec<PartRecord>> {
    if named.is_empty() {
        return Err(s3_error!(MalformedXML, "You must specify at least one part"));
    }
    let mut parts: Vec<PartRecord> = Vec::with_capacity(named.len());
    for one in named {
        let number = one
            .part_number
            .and_then(|number| u16::try_from(number).ok())
            .unwrap_or(0);
        if parts.last().is_some_and(|last| last.number >= number) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let part = upload
            .parts
            .get(&number)
            .filter(|part| one.e_tag.as_ref().is_none_or(|etag| etag.value() == part.etag))
            .ok_or_else(|| s3_error!(InvalidPart, "Part {number} is not there or has another ETag."))?;
        let claimed = sums_of!(one);
        let mut known = part.sums.clone();
        known.crc64nvme = Some(part.crc64nvme.clone());
        if claimed
            .mismatch(&known)
            .is_some_and(|algorithm| known.get(algorithm).is_some())
        {
            return Err(s3_error!(InvalidPart, "Part {number} has another checksum."));
        }
        parts.push(part.clone());
    }
    Ok(parts)
}

/// The object that the parts make.
fn whole(upload: &UploadRecord, parts: &[PartRecord]) -> S3Result<ObjectRecord> {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(&hex::decode(&part.etag).map_err(|error| s3_error!(error, InternalError))?);
    }
    let algorithm = upload.algorithm.unwrap_or(Algorithm::Crc64nvme);
    let sum_of = |part: &PartRecord| match algorithm {
        Algorithm::Crc64nvme => Some(part.crc64nvme.clone()),
        _ => part.sums.get(algorithm).map(str::to_owned),
    };
    let part_sums: Vec<(Option<String>, u64)> =
        parts.iter().map(|part| (sum_of(part), part.size_bytes)).collect();
    let value = if upload.is_composite {
        composite(algorithm, part_sums.iter().map(|(sum, _)| sum.as_deref()))
    } else {
        join_crcs(
            algorithm,
            part_sums.iter().map(|(sum, size)| (sum.as_deref(), *size)),
        )
    };
    let mut sums = Sums::default();
    sums.set(
        algorithm,
        value.ok_or_else(|| s3_error!(InvalidRequest, "A part has no {} checksum.", algorithm.name()))?,
    );
    Ok(ObjectRecord {
        key: upload.key.clone(),
        size_bytes: parts.iter().map(|part| part.size_bytes).sum(),
        etag: format!("{}-{}", hex::encode(md5.finalize()), parts.len()),
        modified_ms: now_ms(),
        sums,
        is_composite: upload.is_composite,
        attributes: upload.attributes.clone(),
        aside: None,
    })
}
