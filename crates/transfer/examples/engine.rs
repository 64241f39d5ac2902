//! The engine without the product: scans a directory and uploads it, as a worker does it, and records nothing.
//!
//! `dev-stack bench` measures it against the least that can be done, which tells what the engine itself costs.
//!
//! ```sh
//! engine --endpoint-url http://127.0.0.1:9000 --bucket bucket --prefix some/ --dir /some/dir
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::{CompanyId, FileStatus, SessionSettings, Symlinks};
use storage::{Bucket, BucketConfig, Credentials};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use transfer::{
    Engine, Events, Filter, FoundFile, Lost, Outcome, PlannedFile, ScanEvent, ScanOptions, SourceRoot, Stop,
    UploadPlan, scan,
};

// What a worker has by default.
const CONCURRENCY: usize = 64;
const MEMORY_BYTES: u64 = 256 << 20;
/// Files, and bytes, in one upload job.
const JOB_FILES: usize = 1_000;
const JOB_BYTES: u64 = 1 << 30;
/// Upload jobs that run at once.
const JOBS: usize = 16;

type AnyError = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(AnyError::from)
        .and_then(|runtime| runtime.block_on(upload()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("engine: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn upload() -> Result<(), AnyError> {
    let uploader = Uploader::new(&options()?)?;
    let mut walk = scan(
        &uploader.plan.root,
        ScanOptions {
            source_path: String::new(),
            filter: Filter::compile(&[], &[])?,
            symlinks: Symlinks::Skip,
            in_key_order: false,
        },
        CancellationToken::new(),
    );
    let (mut jobs, mut files, mut job_bytes, mut number) = (JoinSet::new(), Vec::new(), 0, 0);
    while let Some(events) = walk.events.recv().await {
        for event in events {
            let ScanEvent::File(file) = event else {
                return Err("there is something that cannot be sent".into());
            };
            number += 1;
            job_bytes += file.size_bytes;
            files.push(planned(number, file));
            if files.len() == JOB_FILES || job_bytes >= JOB_BYTES {
                uploader.begin(&mut jobs, std::mem::take(&mut files)).await?;
                job_bytes = 0;
            }
        }
        // While the walk is slower than what sends, nothing waits for more.
        if !files.is_empty() && walk.events.is_empty() {
            uploader.begin(&mut jobs, std::mem::take(&mut files)).await?;
            job_bytes = 0;
        }
    }
    let totals = walk.result.await??;
    while let Some(ended) = jobs.join_next().await {
        ended??;
    }
    let uploaded = uploader.counts.uploaded.load(Ordering::Relaxed);
    if uploaded != totals.files {
        return Err(format!("{uploaded} of {} files were uploaded", totals.files).into());
    }
    Ok(())
}

/// `--name value …`
fn options() -> Result<HashMap<String, String>, AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    arguments
        .chunks(2)
        .map(|pair| match pair {
            [name, value] => {
                let name = name.strip_prefix("--").ok_or(format!("{name} is no option"))?;
                Ok((name.to_owned(), value.clone()))
            }
            _ => Err("an option has no value".into()),
        })
        .collect()
}

struct Uploader {
    engine: Engine,
    plan: Arc<UploadPlan>,
    counts: Arc<Counts>,
    places: Arc<Semaphore>,
}

impl Uploader {
    fn new(options: &HashMap<String, String>) -> Result<Self, AnyError> {
        let option = |name: &str| options.get(name).cloned().ok_or(format!("--{name} is missing"));
        let credentials = Credentials::Static {
            access_key_id: "bench".to_owned(),
            secret_access_key: "bench-secret".to_owned().into(),
            session_token: None,
        };
        let bucket = Bucket::open(BucketConfig {
            endpoint_url: Some(option("endpoint-url")?.parse()?),
            ..BucketConfig::new(option("bucket")?, "us-east-1", credentials)
        })?;
        let plan = UploadPlan {
            company_id: CompanyId::new(),
            root: SourceRoot::open(Path::new(&option("dir")?))?,
            source_path: String::new(),
            key_prefix: option("prefix")?,
            settings: SessionSettings::default(),
            token_prefix: "engine".to_owned(),
            bucket,
            is_patient: false,
        };
        Ok(Self {
            engine: Engine::new(CONCURRENCY, MEMORY_BYTES),
            plan: Arc::new(plan),
            counts: Arc::default(),
            places: Arc::new(Semaphore::new(JOBS)),
        })
    }

    /// Begins to upload these files, when there is a place.
    async fn begin(
        &self,
        jobs: &mut JoinSet<Result<(), AnyError>>,
        files: Vec<PlannedFile>,
    ) -> Result<(), AnyError> {
        let place = Arc::clone(&self.places).acquire_owned().await?;
        let (engine, plan, counts) = (
            self.engine.clone(),
            Arc::clone(&self.plan),
            Arc::clone(&self.counts),
        );
        jobs.spawn(async move {
            let (_sender, stop) = watch::channel(Stop::Run);
            let summary = engine.upload(plan, files, counts, stop).await;
            drop(place);
            match summary.fatal {
                None => Ok(()),
                Some(fatal) => Err(fatal.detail.into()),
            }
        });
        Ok(())
    }
}

fn planned(number: i64, file: FoundFile) -> PlannedFile {
    PlannedFile {
        number,
        path: file.path,
        size_bytes: file.size_bytes,
        upload_id: None,
        multipart_part_size_bytes: None,
        attempts: 0,
        existing: None,
    }
}

/// What a worker would write into its database.
#[derive(Default)]
struct Counts {
    uploaded: AtomicU64,
}

impl Events for Counts {
    fn progress(&self, _number: i64, _sent_bytes_delta: i64) {}

    fn started(&self, _file: &PlannedFile) {}

    async fn finished(&self, outcome: Outcome) {
        if outcome.status == FileStatus::Uploaded {
            self.uploaded.fetch_add(1, Ordering::Relaxed);
        } else {
            eprintln!("engine: file {}: {:?}", outcome.number, outcome.error);
        }
    }

    async fn multipart_opened(&self, _: i64, _: &str, _: u64) -> Result<(), Lost> {
        Ok(())
    }
}
