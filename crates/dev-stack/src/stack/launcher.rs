//! How the product's processes are started: which binary, which log, which environment.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use http::StatusCode;

use crate::fetch;
use crate::process::{Server, ServerCommand, free_port};

const READY_LIMIT: Duration = Duration::from_secs(60);
/// The gateway lets requests in flight end; streams are cut.
const GATEWAY_GRACE: Duration = Duration::from_secs(40);

/// The product's variables, hidden from its processes unless given here.
const HIDDEN: &[&str] = &[
    "METRICS_ADDR",
    "CORS_ORIGINS",
    "TRUSTED_PROXIES",
    "SIGNUP",
    "ALLOW_SHARED_ROOTS",
    "INITIAL_ADMIN_PASSWORD",
    "S3_EXTRA_CA_FILE",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_DEFAULT_REGION",
    "SMTP_URL",
    "WORKER_CONCURRENCY",
    "WORKER_MEMORY_BYTES",
    "LEASE_S",
    "SHUTDOWN_GRACE_S",
    "LEFTOVERS_EVERY_S",
    "JWT_PREVIOUS_KEY_FILE",
    "SECRETS_KEY_PREVIOUS",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "FAILPOINTS",
];

/// What all processes of a stack have in common.
#[derive(Clone, Debug)]
pub(super) struct Launcher {
    pub(super) bin_dir: PathBuf,
    pub(super) log_dir: PathBuf,
    /// For gateway and workers.
    pub(super) environment: Vec<(String, String)>,
    /// Given by the caller; wins over everything.
    pub(super) extra_environment: Vec<(String, String)>,
}

impl Launcher {
    /// Says which binary is missing before anything is started.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        for program in ["api-gateway", "upload-worker"] {
            if !self.bin_dir.join(program).exists() {
                let folder = self.bin_dir.display();
                bail!("{program} is not in {folder}: build it first (cargo build -p {program})");
            }
        }
        Ok(())
    }

    /// Starts a gateway on the first of `ports` that is free, and waits until it is ready.
    pub(super) async fn start_gateway(
        &self,
        ports: &[u16],
        own: &[(&str, String)],
    ) -> anyhow::Result<(Server, u16)> {
        let mut taken = None;
        for port in ports {
            let url = gateway_url(*port);
            let command = self
                .command("api-gateway", "api-gateway", own)
                .stopped_by("TERM", GATEWAY_GRACE);
            let command = command
                .env("LISTEN_ADDR", format!("127.0.0.1:{port}"))
                .env("PUBLIC_URL", url);
            let mut gateway = self.with_extra(command).spawn()?;
            match wait_ready(&mut gateway, *port).await {
                Ok(()) => return Ok((gateway, *port)),
                Err(error) if error.to_string().contains("in use") => taken = Some(error),
                Err(error) => return Err(error),
            }
        }
        match taken {
            Some(error) => Err(error),
            None => bail!("no port for the gateway"),
        }
    }

    pub(super) fn start_worker(
        &self,
        number: usize,
        grace_s: u32,
        own: &[(&str, String)],
    ) -> anyhow::Result<Server> {
        let command = self
            .command(&format!("worker-{number}"), "upload-worker", own)
            .env("SHUTDOWN_GRACE_S", grace_s.to_string())
            .stopped_by("TERM", Duration::from_secs(u64::from(grace_s) + 5));
        self.with_extra(command).spawn()
    }

    fn command(&self, name: &str, program: &str, own: &[(&str, String)]) -> ServerCommand {
        let log = self.log_dir.join(format!("{name}.log"));
        let mut command = ServerCommand::new(name, self.bin_dir.join(program), log);
        for hidden in HIDDEN {
            command = command.without_env(*hidden);
        }
        for (name, value) in &self.environment {
            command = command.env(name, value);
        }
        for (name, value) in own {
            command = command.env(*name, value);
        }
        command
    }

    fn with_extra(&self, mut command: ServerCommand) -> ServerCommand {
        for (name, value) in &self.extra_environment {
            command = command.env(name, value);
        }
        command
    }
}

pub(super) fn gateway_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// The ports to try, in order: the one asked for alone; else the one of last time, then free ones.
pub(super) fn ports_to_try(asked: u16, last: u16) -> anyhow::Result<Vec<u16>> {
    if asked != 0 {
        return Ok(vec![asked]);
    }
    let mut ports = vec![free_port()?, free_port()?, free_port()?];
    if last != 0 {
        ports.insert(0, last);
    }
    Ok(ports)
}

/// Waits until the gateway answers `/health/ready` with 200.
pub(super) async fn wait_ready(gateway: &mut Server, port: u16) -> anyhow::Result<()> {
    let url = format!("{}/health/ready", gateway_url(port));
    let is_ready = async || {
        fetch::status(&url)
            .await
            .is_ok_and(|status| status == StatusCode::OK)
    };
    gateway.wait_ready(READY_LIMIT, is_ready).await
}
