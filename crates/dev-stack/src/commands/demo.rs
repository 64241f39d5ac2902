//! `dev-stack demo`: a real directory arrives in a real bucket, and every object is checked.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use dev_stack::fetch::ObjectReader;
use dev_stack::sample;
use dev_stack::stack::{ADMIN_USERNAME, BUCKET};
use dev_stack::{Stack, StackOptions};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::dev::casualty;
use super::verify::{Verdict, verify};
use super::{asked_to_stop, claim};
use crate::DemoArguments;

const MIB: f64 = 1024.0 * 1024.0;

pub(crate) async fn run(arguments: DemoArguments) -> anyhow::Result<ExitCode> {
    let _claim = claim(&arguments.dir)?;
    let stop = asked_to_stop();
    tokio::pin!(stop);
    let source = prepare(&arguments).await?;
    step("starting Postgres, Redis, an S3 server, the gateway and the workers");
    let options = StackOptions {
        workers: arguments.workers,
        port: arguments.port,
        source_roots: Some(format!("samples={}", source.display())),
        ..StackOptions::in_folder(&arguments.dir)
    };
    let mut stack = tokio::select! {
        stack = Stack::start(options) => stack?,
        stopped = &mut stop => return stopped.map(|()| ExitCode::SUCCESS),
    };
    let outcome = tokio::select! {
        outcome = upload_and_verify(&mut stack, &source) => outcome,
        stopped = &mut stop => { stopped?; Err(anyhow::anyhow!("stopped")) }
    };
    let casualty_so_far = stack.casualty();
    let is_right = match &outcome {
        Ok(is_right) => *is_right && casualty_so_far.is_none(),
        Err(error) => {
            eprintln!("dev-stack: {error:#}");
            false
        }
    };
    if let Some(casualty) = &casualty_so_far {
        eprintln!("dev-stack: {casualty}");
    }
    if !arguments.once && outcome.is_ok() && casualty_so_far.is_none() {
        tell_where(&stack);
        tokio::select! {
            stopped = &mut stop => stopped?,
            casualty = casualty(&mut stack) => eprintln!("dev-stack: {casualty}"),
        }
    }
    step("stopping");
    stack.stop().await;
    Ok(if is_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Removes what an earlier demo left, and makes the sample if no source is given.
async fn prepare(arguments: &DemoArguments) -> anyhow::Result<PathBuf> {
    for name in [
        "postgres",
        "redis",
        "s3",
        "logs",
        "keys.json",
        "jwt.pem",
        "cli.json",
    ] {
        let path = arguments.dir.join(name);
        let removed = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    let source = if arguments.source.is_empty() {
        generated_sample(&arguments.dir).await?
    } else {
        PathBuf::from(&arguments.source)
    };
    let source = source
        .canonicalize()
        .with_context(|| format!("there is no directory {}", source.display()))?;
    if !source.is_dir() {
        bail!("{} is no directory", source.display());
    }
    match source.to_str() {
        Some(text) if !text.contains(',') && text.trim() == text => Ok(source),
        _ => bail!(
            "a path with a comma, outer blanks or no UTF-8 cannot be a source root: {}",
            source.display()
        ),
    }
}

async fn generated_sample(dir: &Path) -> anyhow::Result<PathBuf> {
    let (folder, complete) = (dir.join("sample"), dir.join("sample.complete"));
    if complete.exists() {
        return Ok(folder);
    }
    step("generating a sample directory");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let target = folder.clone();
    let made =
        tokio::task::spawn_blocking(move || sample::generate(&target, sample::LARGE_FILE_BYTES)).await??;
    std::fs::write(complete, format!("{} files\n", made.files))?;
    Ok(folder)
}

/// True when everything arrived and is right.
async fn upload_and_verify(stack: &mut Stack, source: &Path) -> anyhow::Result<bool> {
    let cli = CommandLine::new(stack);
    step("signing in, creating a project and a cycle with the command line");
    cli.ask(
        &["login", "--username", ADMIN_USERNAME, "--password-stdin"],
        stack.admin_password(),
    )
    .await?;
    let env = stack.env();
    let value = |name: &str| {
        env.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    };
    let endpoint_url = stack.s3_endpoint_url();
    let access_key_id = value("S3_ACCESS_KEY_ID");
    let project = cli
        .ask(
            &[
                "--json",
                "projects",
                "create",
                "--name",
                "demo",
                "--bucket",
                BUCKET,
                "--region",
                "us-east-1",
                "--endpoint-url",
                &endpoint_url,
                "--access-key-id",
                &access_key_id,
                "--secret-access-key-stdin",
            ],
            &value("S3_SECRET_ACCESS_KEY"),
        )
        .await?;
    let cycle = cli
        .ask(
            &["--json", "cycles", "create", "--project", text(&project, "id")?],
            "",
        )
        .await?;
    let prefix = text(&cycle, "s3_prefix")?;

    step(&format!("uploading {}", source.display()));
    let start = Instant::now();
    let status = cli
        .run(&["upload", "--cycle", text(&cycle, "id")?, "--root", "samples"])
        .await?;
    let took = start.elapsed();

    step("comparing every object with its source by SHA-256, read over the S3 protocol");
    let reader = ObjectReader::new(&endpoint_url, &access_key_id, &value("S3_SECRET_ACCESS_KEY"));
    let start = Instant::now();
    let verdict = verify(source, reader, BUCKET, prefix).await?;
    summarise(stack, &verdict, took, start.elapsed());
    if !status.success() {
        println!("  the upload ended with {status}");
    }
    Ok(status.success() && verdict.wrong.is_empty())
}

fn summarise(stack: &mut Stack, verdict: &Verdict, took: Duration, verify_took: Duration) {
    let seconds = took.as_secs_f64();
    let (same, wrong) = (verdict.same, verdict.wrong.len());
    let size_mib = verdict.size_bytes as f64 / MIB;
    println!();
    println!(
        "  verified    {same} objects, {size_mib:.1} MiB, in {:.1} s; {wrong} wrong",
        verify_took.as_secs_f64()
    );
    for line in verdict.wrong.iter().take(20) {
        println!("    {line}");
    }
    println!(
        "  uploaded in {seconds:.1} s: {:.0} files/s, {:.1} MiB/s (from the request to its end, every file recorded)",
        same as f64 / seconds,
        size_mib / seconds
    );
    let peak = |pid: u32| peak_memory_mib(pid).map_or_else(|| "?".to_owned(), |mib| format!("{mib:.0} MiB"));
    let workers: Vec<String> = stack.worker_pids().into_iter().map(peak).collect();
    let gateway = peak(stack.gateway().pid());
    println!(
        "  peak memory workers {}, gateway {gateway}",
        workers.join(" and ")
    );
}

fn tell_where(stack: &Stack) {
    let url = stack.api_url();
    println!();
    println!("  API         {url}");
    println!("  Swagger UI  {url}/docs");
    println!("  sign-in     {ADMIN_USERNAME} / {}", stack.admin_password());
    println!(
        "  bucket      {}",
        stack.dir().join("s3").join(BUCKET).join("objects").display()
    );
    println!("  logs        {}", stack.dir().join("logs").display());
    println!();
    println!("  Ctrl-C stops everything.");
}

fn step(text: &str) {
    eprintln!("==> {text}");
}

fn text<'a>(json: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    json.get(field)
        .and_then(Value::as_str)
        .with_context(|| format!("no {field} in {json}"))
}

/// The most memory a process has had, from the kernel.
fn peak_memory_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// The product's own command line.
struct CommandLine {
    program: PathBuf,
    api_url: String,
    config: PathBuf,
}

impl CommandLine {
    fn new(stack: &Stack) -> Self {
        Self {
            program: stack.bin_dir().join("uploader"),
            api_url: stack.api_url(),
            config: stack.dir().join("cli.json"),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("UPLOADER_API_URL", &self.api_url)
            .env("UPLOADER_CONFIG", &self.config)
            .env_remove("UPLOADER_TOKEN")
            .kill_on_drop(true);
        command
    }

    /// Runs it with `input` on its stdin, and gives the JSON it prints (null where it prints none).
    async fn ask(&self, arguments: &[&str], input: &str) -> anyhow::Result<Value> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that needs no input may be gone already.
            let _ = stdin.write_all(format!("{input}\n").as_bytes()).await;
        }
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "uploader {} ended with {}: {}",
                arguments.join(" "),
                output.status,
                said.trim()
            );
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    /// Runs it in front of the person: its progress bar is theirs to see.
    async fn run(&self, arguments: &[&str]) -> anyhow::Result<std::process::ExitStatus> {
        let status = self.command(arguments).stdin(Stdio::null()).status().await;
        status.with_context(|| format!("cannot run {}", self.program.display()))
    }
}
