//! `dev-stack torture`: deliveries of several companies while everything around them fails, and an oracle after
//! every round that says what was lost, what was done twice, and what hangs.
//!
//! What happens is drawn from a seed; when it happens to the product depends on the machine, so that a seed brings
//! a finding near, and does not promise it.

mod arming;
mod editor;
mod fault;
mod kind;
mod oracle;
mod report;
mod round;
mod session;
mod source;

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use dev_stack::process::Server;
use dev_stack::stack::ADMIN_USERNAME;
use dev_stack::{Stack, StackOptions, fetch, shifted_clock};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::api::Api;
use super::asked_to_stop;
use super::company::Company;
use crate::TortureArguments;
use arming::Arming;
use fault::Injector;
use report::Report;
use round::Round;

/// The source root.
const ROOT: &str = "files";
const COMPANIES: usize = 3;
/// Short, so that the end of a lease is often seen.
const LEASE_S: u32 = 2;
const SHUTDOWN_GRACE_S: u32 = 5;
const GATEWAY_LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn run(arguments: TortureArguments) -> anyhow::Result<ExitCode> {
    let seed = arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    let folder = tempfile::Builder::new()
        .prefix("data-uploader-torture-")
        .tempdir()?
        .keep();
    // The account of Postgres must get through.
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    step(&format!("seed {seed}, in {}", folder.display()));
    let python = oracle::prepare().await?;
    let mut report = Report {
        seed,
        ..Report::default()
    };
    let tortured = tokio::select! {
        tortured = torture(&arguments, &folder, &python, &mut report) => tortured,
        stopped = asked_to_stop() => { stopped?; Err(anyhow::anyhow!("stopped")) }
    };
    println!("\n{}", report.table());
    for (round, violation) in report.violations.iter().take(50) {
        println!(
            "round {round}: {} in session {}: {}",
            violation.kind, violation.session, violation.detail
        );
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&report.json())?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Err(error) = &tortured {
        eprintln!("dev-stack: {error:#}");
    }
    if tortured.is_ok() && report.is_good() {
        std::fs::remove_dir_all(&folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("everything is kept in {}; the seed was {seed}", folder.display());
    Ok(ExitCode::FAILURE)
}

async fn torture(
    arguments: &TortureArguments,
    folder: &Path,
    python: &Path,
    report: &mut Report,
) -> anyhow::Result<()> {
    let window = Duration::try_from_secs_f64(arguments.window).context("--window")?;
    let root = folder.join(ROOT);
    std::fs::create_dir_all(&root)?;
    let mut stack = Stack::start(StackOptions {
        // They are armed, and so started below.
        workers: 0,
        source_roots: Some(format!("{ROOT}={}", root.display())),
        lease_s: Some(LEASE_S),
        shutdown_grace_s: SHUTDOWN_GRACE_S,
        postgres_proxy: true,
        ..StackOptions::in_folder(folder.join("stack"))
    })
    .await?;
    if !arguments.sabotage {
        check_fail_points(&stack)?;
    }
    let (gateway, gateway_url) = second_gateway(&mut stack).await?;
    let gateways: Arc<[String]> = Arc::new([stack.api_url(), gateway_url]);
    let admin = Api::new(gateways.clone(), ADMIN_USERNAME, stack.admin_password());
    let mut companies = Vec::new();
    for number in 1..=COMPANIES {
        companies.push(Company::enter(&stack, &admin, gateways.clone(), number).await?);
    }
    let mut dice = StdRng::seed_from_u64(report.seed);
    let mut injector = Injector::new(
        &mut stack,
        vec![gateway],
        Arming::new(report.seed ^ 0xa4_3ed, folder.join("armed")),
        shifted_clock::library(folder)?,
        StdRng::seed_from_u64(report.seed ^ 0x5eed),
    );
    injector.arm(arguments.workers).await?;
    let start = Instant::now();
    let outcome = loop {
        let number = report.rounds + 1;
        let round = Round {
            number,
            root: &root,
            companies: &companies,
            python,
            window,
            is_sabotage: arguments.sabotage,
        };
        let (before, round_start) = (report.violations.len(), Instant::now());
        if let Err(error) = round.run(&mut injector, &mut dice, report).await {
            break Err(error);
        }
        report.rounds = number;
        report.took = start.elapsed();
        step(&format!(
            "round {number}: {:.0} s, {} violations",
            round_start.elapsed().as_secs_f64(),
            report.violations.len() - before
        ));
        let is_over = match arguments.minutes {
            Some(minutes) => start.elapsed().as_secs_f64() >= minutes * 60.0,
            None => number >= arguments.rounds,
        };
        if is_over || !report.is_good() {
            break Ok(());
        }
    };
    for mut gateway in std::mem::take(&mut injector.gateways) {
        gateway.stop().await;
    }
    stack.stop().await;
    outcome
}

/// Without them, nobody would die at a point, and nobody would notice.
fn check_fail_points(stack: &Stack) -> anyhow::Result<()> {
    for program in ["api-gateway", "upload-worker"] {
        let version = Command::new(stack.bin_dir().join(program))
            .arg("--version")
            .output()?;
        if !String::from_utf8_lossy(&version.stdout).contains("with fail-points") {
            bail!(
                "{program} has no fail-points: build it with --features failpoints, as `make torture` does"
            );
        }
    }
    Ok(())
}

/// One more gateway beside the stack's own, and its URL. To the public both are one: they share the public URL.
async fn second_gateway(stack: &mut Stack) -> anyhow::Result<(Server, String)> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let url = format!("http://127.0.0.1:{port}");
    let command = stack.gateway().command().clone();
    let mut gateway = command
        .env("LISTEN_ADDR", format!("127.0.0.1:{port}"))
        .logging_to(stack.dir().join("logs/second-gateway.log"))
        .spawn()?;
    let ready = format!("{url}/health/ready");
    gateway
        .wait_ready(GATEWAY_LIMIT, async || {
            fetch::status(&ready)
                .await
                .is_ok_and(|status| status.is_success())
        })
        .await?;
    Ok((gateway, url))
}

fn step(text: &str) {
    eprintln!("==> {text}");
}
