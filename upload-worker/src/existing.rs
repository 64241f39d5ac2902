//! What to do with the files that the bucket has already: `on_existing` and `compare` of a session's settings.
//!
//! The bucket is listed once, page by page, beside a walk in the order of keys. A listing tells the size, the ETag and
//! when the object was stored; what earlier sessions of the cycle recorded tells which version of the file that was.

use crate::lease::Lease;
use crate::records::{Record, Records, stamp};
use crate::worker::JobFailure;
use chrono::{DateTime, Utc};
use database::TenantConn;
use database::jobs::{self, FoundFile, JobError, ObjectMarks, WorkOrder};
use domain::{Compare, FileErrorCode, FileStatus, OnExisting, Planned};
use storage::ListedObject;
use transfer::{Listing, Look};

/// The bucket beside the walk.
pub struct Existing<'a> {
    lease: &'a Lease,
    key_prefix: String,
    on_existing: OnExisting,
    compare: Compare,
    listing: Listing,
    records: Records,
    /// The session waits for a store that answers now.
    is_awaited: bool,
}

impl<'a> Existing<'a> {
    /// What a session's settings ask for; `None` where every file is sent.
    ///
    /// # Errors
    /// When the bucket cannot be opened, or the job was lost.
    pub async fn of(lease: &'a Lease, order: &WorkOrder) -> Result<Option<Self>, JobFailure> {
        let settings = &order.session.settings;
        if settings.on_existing == OnExisting::Overwrite {
            return Ok(None);
        }
        let key_prefix = order.session.key_prefix.clone();
        let records = if settings.on_existing == OnExisting::SkipUnchanged {
            Records::load(lease).await?
        } else {
            Records::default()
        };
        Ok(Some(Self {
            lease,
            on_existing: settings.on_existing,
            compare: settings.compare,
            listing: Listing::below(lease.worker.targets.bucket(order)?, key_prefix.clone()),
            key_prefix,
            records,
            is_awaited: lease.claim.away_for.is_some(),
        }))
    }

    /// Decides on a file that would be sent: it has a status of its own then, or it is told what sending it means.
    ///
    /// # Errors
    /// When the store does not list, or the job was lost.
    pub async fn decide(&mut self, file: &mut FoundFile) -> Result<Planned, JobFailure> {
        self.reach(&file.path.text).await?;
        let key = self.key(&file.path.text);
        let Look::Found(object) = self.listing.look(&key) else {
            return Ok(Planned::Send);
        };
        let settings = (self.on_existing, self.compare);
        let verdict = Verdict::of(object, file, &key, &self.records, settings);
        let planned = match verdict {
            Verdict::Compare { .. } => Planned::Compare,
            _ => Planned::Overwrite,
        };
        verdict.note(file, object);
        Ok(planned)
    }

    /// Lists the bucket as far as the key of a path.
    ///
    /// # Errors
    /// When the store does not list, or the job was lost.
    pub async fn reach(&mut self, path: &str) -> Result<(), JobFailure> {
        let key = self.key(path);
        while self.listing.look(&key) == Look::Unknown {
            let listing = &mut self.listing;
            let fetched = async { listing.fetch().await.map_err(JobFailure::from) };
            self.lease.keep(fetched).await?;
            if std::mem::take(&mut self.is_awaited) {
                self.store_answers().await?;
            }
        }
        Ok(())
    }

    /// How many pages of the bucket were asked for.
    pub fn list_requests(&self) -> u64 {
        self.listing.requests()
    }
}

impl Existing<'_> {
    fn key(&self, path: &str) -> String {
        format!("{}{path}", self.key_prefix)
    }

    async fn store_answers(&self) -> Result<(), JobError> {
        self.lease
            .renewing(|claim, term| {
                async move |conn: &mut TenantConn| {
                    jobs::renew(conn, &claim, term).await?;
                    jobs::store_answers(conn, &claim).await
                }
            })
            .await
    }
}

/// What becomes of a file whose key has an object.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is sent.
    Differs,
    /// It is sent unless the object has the same bytes.
    Compare {
        checksum: Option<String>,
    },
    Unchanged {
        checksum: Option<String>,
    },
    IsThere,
    MayNotBe,
}

impl Verdict {
    fn of(
        object: &ListedObject,
        file: &FoundFile,
        key: &str,
        records: &Records,
        (on_existing, compare): (OnExisting, Compare),
    ) -> Self {
        match on_existing {
            OnExisting::Overwrite => return Self::Differs,
            OnExisting::SkipExisting => return Self::IsThere,
            OnExisting::Fail => return Self::MayNotBe,
            OnExisting::SkipUnchanged => {}
        }
        if i64::try_from(object.size_bytes) != Ok(file.size_bytes) {
            return Self::Differs;
        }
        let recorded = records.of(key, object.etag.as_deref().unwrap_or_default());
        let checksum = |record: &Record| record.checksum.as_deref().map(str::to_owned);
        if compare == Compare::Checksum {
            // All that are of this object tell the same of it.
            let checksum = recorded.iter().find_map(checksum);
            return Self::Compare { checksum };
        }
        let stamp = stamp(file.size_bytes, file.modified_at);
        if let Some(record) = recorded.iter().find(|record| record.stamp == stamp) {
            let checksum = checksum(record);
            return Self::Unchanged { checksum };
        }
        // We wrote another object there, or failed to, or cannot tell: nothing is known of the bytes of this one.
        if records.has_key(key) {
            return Self::Differs;
        }
        // Somebody else's object: it has this version if it was stored after the file came to rest.
        let stored_at = object.last_modified.as_deref().and_then(parse_time);
        match (stored_at, file.modified_at) {
            (Some(stored_at), Some(modified_at)) if modified_at < stored_at => {
                Self::Unchanged { checksum: None }
            }
            _ => Self::Differs,
        }
    }

    fn note(self, file: &mut FoundFile, object: &ListedObject) {
        let etag = object.etag.clone();
        let mut end = |status, code, detail: &str| {
            file.status = status;
            file.error = Some((code, detail.to_owned()));
        };
        match self {
            Self::Differs => {}
            Self::Compare { checksum } => file.object = ObjectMarks { etag, checksum },
            Self::Unchanged { checksum } => {
                let detail = "the bucket has it with the same size, and stored since it was last modified";
                end(FileStatus::Skipped, FileErrorCode::Unchanged, detail);
                file.object = ObjectMarks { etag, checksum };
            }
            Self::IsThere => {
                let detail = "the bucket has an object with its key";
                end(FileStatus::Skipped, FileErrorCode::AlreadyExists, detail);
            }
            Self::MayNotBe => {
                let detail = "the bucket has an object with its key, which may not be overwritten";
                end(FileStatus::Failed, FileErrorCode::AlreadyExists, detail);
            }
        }
    }
}

fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use database::jobs::DeliveredFile;
    use domain::object_key::PathText;

    const KEY: &str = "p/C1/a.tif";

    fn stored_at() -> DateTime<Utc> {
        parse_time("2026-03-01T12:00:00.000Z").unwrap()
    }

    fn object(size_bytes: u64, etag: &str) -> ListedObject {
        ListedObject {
            key: KEY.into(),
            size_bytes,
            etag: Some(etag.into()),
            last_modified: Some("2026-03-01T12:00:00.000Z".into()),
        }
    }

    fn file(size_bytes: i64, age_s: i64) -> FoundFile {
        FoundFile {
            number: 1,
            path: PathText::from_bytes(b"a.tif"),
            size_bytes,
            modified_at: Some(stored_at() - TimeDelta::seconds(age_s)),
            status: FileStatus::Pending,
            error: None,
            planned: None,
            object: ObjectMarks::default(),
        }
    }

    /// That a file of 10 bytes, so many seconds older than the object, was delivered as an object with this ETag.
    fn record(etag: &str, age_s: i64) -> DeliveredFile {
        let file = file(10, age_s);
        DeliveredFile {
            number: 1,
            path: file.path.text,
            size_bytes: file.size_bytes,
            modified_at: file.modified_at,
            object: Some(ObjectMarks {
                etag: Some(etag.into()),
                checksum: Some("crc64nvme:AAAAAAAAAAA=".into()),
            }),
        }
    }

    fn records(files: Vec<DeliveredFile>) -> Records {
        let mut records = Records::default();
        for file in files {
            records.add("p/C1/", file);
        }
        records.sorted()
    }

    fn verdict(
        object: &ListedObject,
        file: &FoundFile,
        files: Vec<DeliveredFile>,
        compare: Compare,
    ) -> Verdict {
        let records = records(files);
        Verdict::of(object, file, KEY, &records, (OnExisting::SkipUnchanged, compare))
    }

    #[test]
    fn without_a_record_size_and_time_tell() {
        let by_time = |size, age_s| {
            verdict(
                &object(10, "e"),
                &file(size, age_s),
                Vec::new(),
                Compare::SizeMtime,
            )
        };
        assert_eq!(by_time(10, 60), Verdict::Unchanged { checksum: None });
        assert_eq!(by_time(10, 0), Verdict::Differs, "it may have been written since");
        assert_eq!(by_time(10, -60), Verdict::Differs);
        assert_eq!(by_time(11, 60), Verdict::Differs);
        let nowhen = ListedObject {
            last_modified: None,
            ..object(10, "e")
        };
        let unknown = verdict(&nowhen, &file(10, 60), Vec::new(), Compare::SizeMtime);
        assert_eq!(unknown, Verdict::Differs);
    }

    #[test]
    fn a_record_of_the_object_tells_its_version_and_nothing_else_does() {
        let recorded =
            |age_s, records| verdict(&object(10, "e"), &file(10, age_s), records, Compare::SizeMtime);
        let same = Verdict::Unchanged {
            checksum: Some("crc64nvme:AAAAAAAAAAA=".into()),
        };
        assert_eq!(recorded(60, vec![record("e", 60)]), same);
        // An older file was put in its place since, with as many bytes.
        assert_eq!(recorded(90, vec![record("e", 60)]), Verdict::Differs);
        // The version of an earlier delivery of just these bytes.
        assert_eq!(recorded(90, vec![record("e", 60), record("e", 90)]), same);
        // The object is another one than was recorded: somebody wrote over it, or it failed.
        assert_eq!(recorded(60, vec![record("f", 90)]), Verdict::Differs);
        let failed = DeliveredFile {
            object: None,
            ..record("e", 60)
        };
        assert_eq!(recorded(60, vec![failed]), Verdict::Differs);
        // Not everything is remembered: it may have been recorded.
        let mut cut = Records::default();
        cut.is_cut = true;
        let settings = (OnExisting::SkipUnchanged, Compare::SizeMtime);
        let verdict = Verdict::of(&object(10, "e"), &file(10, 60), KEY, &cut, settings);
        assert_eq!(verdict, Verdict::Differs);
    }

    #[test]
    fn by_checksum_the_size_decides_first_and_the_bytes_then() {
        let by_bytes =
            |size, records| verdict(&object(10, "e"), &file(size, -60), records, Compare::Checksum);
        assert_eq!(by_bytes(11, Vec::new()), Verdict::Differs);
        assert_eq!(by_bytes(10, Vec::new()), Verdict::Compare { checksum: None });
        let checksum = Some("crc64nvme:AAAAAAAAAAA=".into());
        assert_eq!(by_bytes(10, vec![record("e", 60)]), Verdict::Compare { checksum });
        assert_eq!(
            by_bytes(10, vec![record("f", 60)]),
            Verdict::Compare { checksum: None }
        );
    }

    #[test]
    fn what_is_there_is_left_out_or_fails() {
        let mut there = file(10, 60);
        for (on_existing, status) in [
            (OnExisting::SkipExisting, FileStatus::Skipped),
            (OnExisting::Fail, FileStatus::Failed),
        ] {
            let settings = (on_existing, Compare::SizeMtime);
            let object = object(99, "e");
            Verdict::of(&object, &there, KEY, &Records::default(), settings).note(&mut there, &object);
            assert_eq!(there.status, status);
            assert_eq!(there.error.as_ref().unwrap().0, FileErrorCode::AlreadyExists);
        }
    }
}
