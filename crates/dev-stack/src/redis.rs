//! A private Redis: no persistence, a password, 127.0.0.1 only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::process::{Server, ServerCommand, free_port};

const OK: &str = "+OK\r\n";
const START_LIMIT: Duration = Duration::from_secs(15);

/// A Redis server that ends with this process.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    password: String,
    server: Server,
}

impl Redis {
    /// Starts one with its files in `dir`, made if missing.
    ///
    /// # Errors
    /// When there is no `redis-server`, or it does not come up.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        tokio::fs::create_dir_all(dir).await?;
        let dir = dir.canonicalize()?;
        let password = hex::encode(rand::random::<[u8; 16]>());
        let mut failure = None;
        // Somebody else may take the port between our look and its start.
        for _ in 0..5 {
            let port = free_port()?;
            let configuration = configure(&dir, port, &password)?;
            let command = ServerCommand::new("redis-server", "redis-server", dir.join("redis.log"))
                .args([configuration]);
            let mut redis = Self {
                port,
                password: password.clone(),
                server: command.spawn()?,
            };
            match redis.wait_ready().await {
                Ok(()) => return Ok(redis),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| anyhow::anyhow!("redis-server did not start")))
            .context("cannot start Redis (Debian: apt-get install redis-server)")
    }

    /// `redis://default:…`, with the password.
    pub fn url(&self) -> String {
        format!("redis://default:{}@127.0.0.1:{}/0", self.password, self.port)
    }

    /// The server's process.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Runs a command, its words in one line, and gives what Redis answers, in its own protocol.
    ///
    /// # Errors
    /// When it cannot be reached, or answers with an error.
    pub async fn run(&self, command: &str) -> anyhow::Result<String> {
        let lines = format!("AUTH {}\r\n{command}\r\nQUIT\r\n", self.password);
        let answers = ask(self.port, &lines).await?;
        let answer = answers
            .strip_prefix(OK)
            .and_then(|answers| answers.strip_suffix(OK))
            .with_context(|| format!("{command}: {answers}"))?;
        if answer.starts_with('-') {
            bail!("{command}: {answer}");
        }
        Ok(answer.to_owned())
    }

    /// Stops it; its contents are lost.
    pub async fn stop(&mut self) {
        self.server.stop().await;
    }

    /// Starts it again, empty, at the same address.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server = self.server.command().spawn()?;
        self.wait_ready().await
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let (port, lines) = (self.port, format!("AUTH {}\r\nPING\r\nQUIT\r\n", self.password));
        let is_ready = async || {
            ask(port, &lines)
                .await
                .is_ok_and(|answers| answers == "+OK\r\n+PONG\r\n+OK\r\n")
        };
        self.server.wait_ready(START_LIMIT, is_ready).await
    }
}

fn configure(dir: &Path, port: u16, password: &str) -> anyhow::Result<PathBuf> {
    let path = dir.join("redis.conf");
    let text = format!(
        "bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave \"\"\nappendonly no\ndaemonize no\ndir \"{}\"\n",
        dir.display()
    );
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(path)
}

/// What Redis answers to these lines, the last of which is QUIT.
async fn ask(port: u16, lines: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(lines.as_bytes()).await?;
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await?;
    Ok(answers)
}
