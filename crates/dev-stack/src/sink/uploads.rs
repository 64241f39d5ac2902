//! Multipart uploads that are open, and what becomes of them.

use std::collections::{BTreeMap, HashMap};

use crc_fast::CrcAlgorithm;

use super::etag::ETag;
use super::head::{Claim, Head};
use super::store::Object;
use crate::s3::checksums::{Algorithm, composite, join_crcs};

/// A multipart upload.
#[derive(Debug)]
pub(super) struct Upload {
    /// `{bucket}/{key}`.
    pub(super) path: String,
    pub(super) parts: BTreeMap<u32, Object>,
    is_full_object: bool,
}

/// All that are open, by their ids.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    last: u64,
    open: HashMap<String, Upload>,
}

/// Why an upload cannot be completed, as S3 names it.
pub(super) type Refusal = &'static str;

impl Uploads {
    pub(super) fn open(&mut self, head: &Head) -> String {
        self.last += 1;
        let id = format!("upload{}", self.last);
        let upload = Upload {
            path: head.path.clone(),
            parts: BTreeMap::new(),
            is_full_object: head.is_full_object,
        };
        self.open.insert(id.clone(), upload);
        id
    }

    pub(super) fn get(&self, id: &str) -> Option<&Upload> {
        self.open.get(id)
    }

    /// Takes a part; false when there is no such upload.
    pub(super) fn add(&mut self, id: &str, number: u32, part: Object) -> bool {
        let upload = self.open.get_mut(id);
        upload.map(|upload| upload.parts.insert(number, part)).is_some()
    }

    pub(super) fn abort(&mut self, id: &str) -> bool {
        self.open.remove(id).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Ids and paths of those on paths that begin so, in the order of the paths.
    pub(super) fn below(&self, prefix: &str) -> Vec<(&str, &str)> {
        let mut found: Vec<(&str, &str)> = self
            .open
            .iter()
            .filter(|(_, upload)| upload.path.starts_with(prefix))
            .map(|(id, upload)| (id.as_str(), upload.path.as_str()))
            .collect();
        found.sort_unstable_by_key(|(_, path)| *path);
        found
    }

    /// Makes an object of the parts that the document names.
    pub(super) fn complete(&mut self, id: &str, head: &Head, document: &str) -> Result<Object, Refusal> {
        let upload = self.open.get(id).ok_or("NoSuchUpload")?;
        let numbers: Vec<u32> = document
            .split("<PartNumber>")
            .skip(1)
            .filter_map(|rest| rest.split('<').next()?.trim().parse().ok())
            .collect();
        let parts: Vec<&Object> = numbers
            .iter()
            .map(|number| upload.parts.get(number).ok_or("InvalidPart"))
            .collect::<Result<_, _>>()?;
        if parts.is_empty() {
            return Err("MalformedXML");
        }
        let object = joined(&parts, upload.is_full_object || head.is_full_object);
        self.open.remove(id);
        Ok(object)
    }
}

fn joined(parts: &[&Object], wants_full_object: bool) -> Object {
    let size_bytes = parts.iter().map(|part| part.size_bytes).sum();
    let etags: Vec<ETag> = parts.iter().map(|part| part.etag).collect();
    let (claim, is_full_object) = joined_claim(parts, wants_full_object);
    let crc64nvme = parts
        .iter()
        .try_fold(None, |whole, part| {
            let crc = part.crc64nvme?;
            Some(Some(whole.map_or(crc, |whole| {
                crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, whole, crc, part.size_bytes)
            })))
        })
        .flatten();
    Object {
        size_bytes,
        etag: ETag::of_parts(&etags, size_bytes),
        claim,
        is_full_object,
        crc64nvme,
    }
}

/// The checksum of the whole from what the client claimed of the parts, and whether it covers the whole object.
fn joined_claim(parts: &[&Object], wants_full_object: bool) -> (Option<Claim>, bool) {
    let Some(first) = parts.first().and_then(|part| part.claim.as_ref()) else {
        return (None, false);
    };
    let algorithm = first.algorithm;
    let claimed = |part: &&'_ Object| {
        let claim = part.claim.as_ref();
        claim
            .filter(|claim| claim.algorithm == algorithm)
            .map(|claim| claim.value.to_string())
    };
    let values: Vec<Option<String>> = parts.iter().map(claimed).collect();
    let is_full_object = match algorithm {
        Algorithm::Crc64nvme => true,
        Algorithm::Crc32 | Algorithm::Crc32c => wants_full_object,
        Algorithm::Sha1 | Algorithm::Sha256 => false,
    };
    let value = if is_full_object {
        let sizes = parts.iter().map(|part| part.size_bytes);
        join_crcs(algorithm, values.iter().map(Option::as_deref).zip(sizes))
    } else {
        composite(algorithm, values.iter().map(Option::as_deref))
    };
    let claim = value.map(|value| Claim {
        algorithm,
        value: value.into(),
    });
    (claim, is_full_object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bytes: &[u8]) -> Object {
        let mut digest = crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme);
        digest.update(bytes);
        let crc = digest.finalize();
        Object {
            size_bytes: bytes.len() as u64,
            etag: ETag::Unknown(0),
            claim: Some(Claim {
                algorithm: Algorithm::Crc64nvme,
                value: base64::Engine::encode(&base64::engine::general_purpose::STANDARD, crc.to_be_bytes())
                    .into(),
            }),
            is_full_object: false,
            crc64nvme: Some(crc),
        }
    }

    #[test]
    fn the_whole_has_the_checksum_of_all_its_bytes() {
        let mut uploads = Uploads::default();
        let mut head = Head::default();
        "bucket/key".clone_into(&mut head.path);
        let id = uploads.open(&head);
        assert!(uploads.add(&id, 2, part(b"56789")));
        assert!(uploads.add(&id, 1, part(b"1234")));
        assert!(!uploads.add("other", 1, part(b"")));
        let document =
            "<X><Part><PartNumber>1</PartNumber></Part><Part><PartNumber>2</PartNumber></Part></X>";
        assert_eq!(
            uploads
                .complete(&id, &head, &document.replace('2', "3"))
                .unwrap_err(),
            "InvalidPart"
        );
        let whole = uploads.complete(&id, &head, document).unwrap();
        let expected = part(b"123456789");
        assert_eq!(whole.size_bytes, 9);
        assert!(whole.is_full_object);
        assert_eq!(
            (whole.crc64nvme, whole.claim),
            (expected.crc64nvme, expected.claim)
        );
        assert_eq!(
            uploads.complete(&id, &head, document).unwrap_err(),
            "NoSuchUpload"
        );
    }
}
