//! What earlier sessions of a cycle recorded of the objects that they wrote.

use crate::lease::Lease;
use crate::worker::JobFailure;
use chrono::{DateTime, Utc};
use database::TenantConn;
use database::jobs::{self, DeliveredFile, ObjectMarks};
use twox_hash::XxHash3_128;

/// How many earlier sessions are looked into.
const MAX_SESSIONS: i64 = 100;
/// How many recorded files are remembered, the latest first; some 100 bytes each. Others are sent again.
const MAX_RECORDS: usize = 1_000_000;
/// How many are read at a time.
const PAGE: i64 = 10_000;

/// What other sessions of the cycle delivered: which version of a file an object has, by key and ETag.
#[derive(Default)]
pub(crate) struct Records {
    delivered: Vec<Record>,
    /// Hashes of all keys that they wrote, or tried to. Two keys with one hash are taken for one: then more is sent.
    keys: Vec<u64>,
    /// There were more than are remembered, or are recorded by now: any key may be one of theirs.
    pub(crate) is_cut: bool,
}

pub(crate) struct Record {
    /// Of the key and the ETag: the object that was stored then.
    object: u128,
    /// The version that was sent.
    pub(crate) stamp: Stamp,
    pub(crate) checksum: Option<Box<str>>,
}

impl Records {
    /// Reads them page by page; renews the lease meanwhile.
    ///
    /// # Errors
    /// When the job was lost.
    pub(crate) async fn load(lease: &Lease) -> Result<Self, JobFailure> {
        let sessions = lease
            .transact(|claim, _| {
                async move |conn: &mut TenantConn| {
                    Ok(jobs::earlier_sessions(conn, &claim, MAX_SESSIONS).await?)
                }
            })
            .await?;
        let mut records = Self {
            is_cut: i64::try_from(sessions.len()).is_ok_and(|count| count >= MAX_SESSIONS),
            ..Self::default()
        };
        for (session_id, key_prefix) in sessions {
            let mut after = 0;
            loop {
                let page = lease
                    .transact(|_, _| {
                        async move |conn: &mut TenantConn| {
                            Ok(jobs::delivered_files(conn, session_id, after, PAGE).await?)
                        }
                    })
                    .await?;
                let Some(last) = page.last() else { break };
                after = last.number;
                for file in page {
                    records.add(&key_prefix, file);
                }
                if lease.renewed().elapsed() >= lease.renew_after() {
                    lease.renew().await?;
                }
                if records.keys.len() >= MAX_RECORDS {
                    tracing::info!(session_id = %lease.claim.session_id, "other sessions recorded more files than are remembered");
                    records.is_cut = true;
                    return Ok(records.sorted());
                }
            }
        }
        records.is_cut |= lease
            .transact(|claim, _| {
                async move |conn: &mut TenantConn| Ok(jobs::are_earlier_forgotten(conn, &claim).await?)
            })
            .await?;
        Ok(records.sorted())
    }

    pub(crate) fn add(&mut self, key_prefix: &str, file: DeliveredFile) {
        let key = format!("{key_prefix}{}", file.path);
        self.keys.push(key_hash(&key));
        if let Some(ObjectMarks {
            etag: Some(etag),
            checksum,
        }) = file.object
        {
            self.delivered.push(Record {
                object: object_hash(&key, &etag),
                stamp: stamp(file.size_bytes, file.modified_at),
                checksum: checksum.map(String::into_boxed_str),
            });
        }
    }

    /// Ready to be asked.
    pub(crate) fn sorted(mut self) -> Self {
        self.delivered.sort_unstable_by_key(|record| record.object);
        self.keys.sort_unstable();
        self.keys.dedup();
        self
    }

    /// Whether one of the sessions wrote there, or may have.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.is_cut || self.keys.binary_search(&key_hash(key)).is_ok()
    }

    /// The records of an object.
    pub(crate) fn of(&self, key: &str, etag: &str) -> &[Record] {
        let object = object_hash(key, etag);
        let first = self.delivered.partition_point(|record| record.object < object);
        let rest = self.delivered.get(first..).unwrap_or_default();
        let count = rest.iter().take_while(|record| record.object == object).count();
        rest.get(..count).unwrap_or_default()
    }
}

fn key_hash(key: &str) -> u64 {
    let hash = XxHash3_128::oneshot(key.as_bytes());
    u64::try_from(hash >> 64).unwrap_or_default()
}

fn object_hash(key: &str, etag: &str) -> u128 {
    // No key has a byte 0xFF.
    XxHash3_128::oneshot(&[key.as_bytes(), &[0xFF], etag.as_bytes()].concat())
}

/// Size in bytes and modification time, in whole microseconds of Unix time as Postgres keeps it.
pub(crate) type Stamp = (i64, Option<i64>);

pub(crate) fn stamp(size_bytes: i64, modified_at: Option<DateTime<Utc>>) -> Stamp {
    (size_bytes, modified_at.map(|time| time.timestamp_micros()))
}
