//! A source directory, an S3 server behind the proxy, and events recorded in memory.

use crate::proxy::Proxy;
use dev_stack::s3::{S3Options, S3Server};
use domain::backoff::Backoff;
use domain::object_key::PathText;
use domain::{CompanyId, FileErrorCode, FileStatus, SessionSettings};
use futures::TryStreamExt;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use storage::{Bucket, BucketConfig, Credentials, RetryPolicy};
use tempfile::TempDir;
use tokio::sync::watch;
use transfer::{Engine, Events, Lost, Outcome, PlannedFile, SourceRoot, Stop, Summary, UploadPlan};

pub(crate) const PART: usize = 5 << 20;

pub(crate) struct World {
    pub(crate) source: TempDir,
    pub(crate) proxy: Proxy,
    pub(crate) bucket: Bucket,
    pub(crate) settings: SessionSettings,
    pub(crate) source_path: String,
    pub(crate) engine: Engine,
    pub(crate) is_patient: bool,
    pub(crate) company_id: CompanyId,
    pub(crate) stop: watch::Sender<Stop>,
    pub(crate) server: S3Server,
    _objects: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let objects = tempfile::tempdir().unwrap();
        let server = S3Server::start(S3Options::in_folder(objects.path()))
            .await
            .unwrap();
        server.create_bucket("bucket").unwrap();
        let proxy = Proxy::start(&server.endpoint_url()).await;
        let secret = server.secret_access_key().to_owned();
        Self {
            source: tempfile::tempdir().unwrap(),
            bucket: open_bucket(&proxy.url, "bucket", &secret),
            proxy,
            settings: SessionSettings {
                part_size_bytes: PART as u64,
                max_attempts: 2,
                ..SessionSettings::default()
            },
            source_path: String::new(),
            engine: Engine::new(4, 64 << 20),
            is_patient: false,
            company_id: CompanyId::new(),
            stop: watch::channel(Stop::Run).0,
            server,
            _objects: objects,
        }
    }

    /// Sends to the server itself, without the proxy, with a configuration that is changed so.
    pub(crate) fn direct(&mut self, change: impl FnOnce(&mut BucketConfig)) {
        let mut config = bucket_config(
            &self.server.endpoint_url(),
            "bucket",
            self.server.secret_access_key(),
        );
        change(&mut config);
        self.bucket = Bucket::open(config).unwrap();
    }

    /// The bucket as another would see it: by another name, or with another secret.
    pub(crate) fn other_bucket(&self, name: &str, secret: Option<&str>) -> Bucket {
        let secret = secret.unwrap_or(self.server.secret_access_key());
        open_bucket(&self.proxy.url, name, secret)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.source.path().join(name)
    }

    /// Writes a file of bytes that do not repeat soon, and returns them.
    pub(crate) fn write(&self, name: &str, size: usize) -> Vec<u8> {
        let bytes = content(size, name.len() as u64);
        std::fs::write(self.path(name), &bytes).unwrap();
        bytes
    }

    pub(crate) fn plan(&self) -> UploadPlan {
        UploadPlan {
            company_id: self.company_id,
            root: SourceRoot::open(self.source.path()).unwrap(),
            source_path: self.source_path.clone(),
            key_prefix: "p/".into(),
            settings: self.settings.clone(),
            token_prefix: "session".into(),
            bucket: self.bucket.clone(),
            is_patient: self.is_patient,
        }
    }

    pub(crate) async fn upload(&self, files: Vec<PlannedFile>) -> (Summary, Arc<Recorder>) {
        let recorder = Arc::new(Recorder::default());
        let summary = self.upload_to(files, Arc::clone(&recorder)).await;
        // A connection that was given up lets go of its last bytes a moment later.
        let given_back = async {
            while self.engine.memory_in_use_bytes() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let given_back = tokio::time::timeout(Duration::from_secs(30), given_back).await;
        given_back.expect("memory is not given back");
        (summary, recorder)
    }

    /// Uploads, and checks what must hold of every call.
    pub(crate) async fn upload_to(&self, files: Vec<PlannedFile>, recorder: Arc<Recorder>) -> Summary {
        let numbers: Vec<i64> = files.iter().map(|file| file.number).collect();
        let upload = self.engine.upload(
            Arc::new(self.plan()),
            files,
            Arc::clone(&recorder),
            self.stop.subscribe(),
        );
        let summary = tokio::time::timeout(Duration::from_secs(60), upload)
            .await
            .expect("the upload never ended");
        let outcomes = recorder.outcomes.lock().unwrap();
        let mut seen: Vec<i64> = outcomes.iter().map(|outcome| outcome.number).collect();
        seen.extend(&summary.not_started);
        seen.sort_unstable();
        assert_eq!(seen, numbers, "each file has one outcome or none, and is told so");
        for outcome in &*outcomes {
            let acknowledged = recorder.progress.lock().unwrap().get(&outcome.number).copied();
            let expected = match outcome.status {
                FileStatus::Uploaded => outcome.size_bytes as i64,
                _ => 0,
            };
            assert_eq!(acknowledged.unwrap_or_default(), expected, "{outcome:?}");
        }
        drop(outcomes);
        summary
    }

    pub(crate) async fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.bucket.head(key).await.unwrap()?;
        let object = self.bucket.get(key).await.unwrap();
        let chunks: Vec<_> = object.body.try_collect().await.unwrap();
        Some(chunks.concat())
    }

    pub(crate) async fn open_uploads(&self) -> usize {
        self.bucket.list_multipart_uploads("").await.unwrap().len()
    }

    pub(crate) async fn until_no_upload_is_open(&self) {
        let closed = async {
            while self.open_uploads().await > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let closed = tokio::time::timeout(Duration::from_secs(30), closed).await;
        closed.expect("a multipart upload stays open");
    }
}

pub(crate) fn open_bucket(url: &str, name: &str, secret: &str) -> Bucket {
    Bucket::open(bucket_config(url, name, secret)).unwrap()
}

/// A configuration whose waits are short.
pub(crate) fn bucket_config(url: &str, name: &str, secret: &str) -> BucketConfig {
    let credentials = Credentials::Static {
        access_key_id: "test".into(),
        secret_access_key: secret.to_owned().into(),
        session_token: None,
    };
    BucketConfig {
        endpoint_url: Some(url.parse().unwrap()),
        retry: RetryPolicy {
            backoff: Backoff {
                base: Duration::from_millis(1),
                cap: Duration::from_millis(10),
            },
            ..RetryPolicy::default()
        },
        ..BucketConfig::new(name, "us-east-1", credentials)
    }
}

pub(crate) fn content(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2) + 1;
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 32).to_le_bytes()
    })
    .flatten()
    .take(size)
    .collect()
}

pub(crate) fn planned(number: i64, path: &str, size: usize) -> PlannedFile {
    PlannedFile {
        number,
        path: PathText::from_bytes(path.as_bytes()),
        size_bytes: size as u64,
        upload_id: None,
        multipart_part_size_bytes: None,
        attempts: 0,
        existing: None,
    }
}

/// Events in memory.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) outcomes: Mutex<Vec<Outcome>>,
    pub(crate) progress: Mutex<HashMap<i64, i64>>,
    pub(crate) started: Mutex<Vec<i64>>,
    /// What was asked for of the bandwidth, each time. Asking takes as long as nobody needs a place.
    pub(crate) charged: Mutex<Vec<u64>>,
    /// The engine whose places nobody may hold meanwhile.
    pub(crate) engine: Option<Engine>,
    /// Number, upload id and part size of each multipart upload that was opened.
    pub(crate) opened: Mutex<Vec<(i64, String, u64)>>,
    /// Answers every opened upload with [`Lost`].
    pub(crate) is_lost: bool,
    /// The job is somebody else's from the moment that this is set.
    pub(crate) is_anothers: Arc<AtomicBool>,
    /// Done when work on a file begins.
    pub(crate) on_start: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Recorder {
    /// The one outcome there is.
    #[track_caller]
    pub(crate) fn only(&self) -> Outcome {
        let outcomes = self.outcomes.lock().unwrap();
        let [outcome] = &outcomes[..] else {
            panic!("not one outcome: {outcomes:?}")
        };
        outcome.clone()
    }

    #[track_caller]
    pub(crate) fn assert_uploaded(&self, files: usize) {
        let outcomes = self.outcomes.lock().unwrap();
        assert_eq!(outcomes.len(), files);
        for outcome in &*outcomes {
            assert_eq!(outcome.status, FileStatus::Uploaded, "{outcome:?}");
        }
    }

    #[track_caller]
    pub(crate) fn assert_failed(&self, code: FileErrorCode) {
        let outcome = self.only();
        assert_eq!(outcome.status, FileStatus::Failed, "{outcome:?}");
        assert_eq!(
            outcome.error.as_ref().map(|error| error.0),
            Some(code),
            "{outcome:?}"
        );
    }
}

impl Events for Recorder {
    fn is_ours(&self) -> bool {
        !self.is_anothers.load(Ordering::SeqCst)
    }

    fn progress(&self, number: i64, sent_bytes_delta: i64) {
        *self.progress.lock().unwrap().entry(number).or_default() += sent_bytes_delta;
    }

    async fn may_send(&self, bytes: u64) {
        self.charged.lock().unwrap().push(bytes);
        let free_slots = || self.engine.as_ref().map_or(usize::MAX, Engine::free_slots);
        while bytes > 0 && free_slots() < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn started(&self, file: &PlannedFile) {
        self.started.lock().unwrap().push(file.number);
        if let Some(hook) = &self.on_start {
            hook();
        }
    }

    async fn finished(&self, outcome: Outcome) {
        self.outcomes.lock().unwrap().push(outcome);
    }

    async fn multipart_opened(&self, number: i64, upload_id: &str, part_size_bytes: u64) -> Result<(), Lost> {
        let opened = (number, upload_id.to_owned(), part_size_bytes);
        self.opened.lock().unwrap().push(opened);
        if self.is_lost { Err(Lost) } else { Ok(()) }
    }
}
