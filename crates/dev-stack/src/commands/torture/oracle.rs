//! Asks the oracle, a program in another language that shares no code with the product.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use dev_stack::{Stack, python};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::editor::Edits;

const ORACLE: &str = include_str!("oracle.py");
const SABOTAGE: &str = include_str!("sabotage.py");
const PACKAGES: [&str; 2] = ["boto3==1.44.5", "pg8000==1.31.6"];

/// A session as it should be.
#[derive(Debug, Serialize)]
pub(super) struct Expectation {
    pub(super) id: String,
    pub(super) dir: std::path::PathBuf,
    pub(super) bucket: String,
    pub(super) prefix: String,
    /// What was done to the source meanwhile.
    pub(super) edits: Edits,
    /// The final statuses that are right.
    pub(super) expected: Vec<&'static str>,
}

/// What the oracle found.
#[derive(Debug, Deserialize)]
pub(super) struct Verdict {
    pub(super) violations: Vec<Violation>,
    /// Rows.
    pub(super) files: u64,
    pub(super) objects: u64,
    pub(super) object_bytes: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Violation {
    pub(super) session: String,
    /// `lost`, `duplicated`, `stuck`, `wrong_status`, `counter` or `multipart_left`.
    pub(super) kind: String,
    pub(super) detail: String,
}

/// Makes the oracle's Python ready, which takes a while the first time.
pub(super) async fn prepare() -> anyhow::Result<std::path::PathBuf> {
    python::with_packages(&PACKAGES).await
}

/// Judges these sessions. With `clear`, the objects of a faultless round are removed.
pub(super) async fn judge(
    python: &Path,
    stack: &Stack,
    sessions: &[Expectation],
    clear: bool,
) -> anyhow::Result<Verdict> {
    let answer = run(python, ORACLE, stack, sessions, clear).await?;
    serde_json::from_slice(&answer).context("the oracle speaks no JSON")
}

/// Spoils what the first two sessions have delivered, in every way that the oracle must see.
pub(super) async fn sabotage(python: &Path, stack: &Stack, sessions: &[Expectation]) -> anyhow::Result<()> {
    run(python, SABOTAGE, stack, sessions, false).await.map(drop)
}

async fn run(
    python: &Path,
    script: &str,
    stack: &Stack,
    sessions: &[Expectation],
    clear: bool,
) -> anyhow::Result<Vec<u8>> {
    let s3 = stack.s3().context("the S3 server is down")?;
    let question = json!({
        "database_url": stack.superuser_url(),
        "endpoint_url": s3.endpoint_url(),
        "access_key_id": s3.access_key_id(),
        "secret_access_key": s3.secret_access_key(),
        "sessions": sessions,
        "clear": clear,
    });
    let mut child = Command::new(python)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run the oracle")?;
    let mut stdin = child.stdin.take().context("the oracle does not listen")?;
    stdin.write_all(question.to_string().as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!(
            "the judgement broke down: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output.stdout)
}
