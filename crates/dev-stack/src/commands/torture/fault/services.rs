//! What is done to Redis and Postgres.

use anyhow::Context as _;
use dev_stack::{Losing, PostgresProxy};
use rustix::process::Signal;

use super::super::kind::Kind;
use super::{Injector, Undo};

/// The product has as many connections as it may: none. And as many as it likes again.
const REFUSE: &str = "ALTER ROLE uploader_app CONNECTION LIMIT 0";
const DISCONNECT: &str =
    "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = 'uploader_app'";
pub(super) const ADMIT: &str = "ALTER ROLE uploader_app CONNECTION LIMIT -1";

impl Injector<'_> {
    pub(super) async fn redis(&mut self, kind: Kind) -> anyhow::Result<()> {
        match kind {
            Kind::RedisFlushed => self.stack.redis().run("FLUSHALL").await.map(drop)?,
            Kind::RedisFull => {
                self.stack.redis().run("CONFIG SET maxmemory 1").await?;
                self.later(1_000..5_000, Undo::RedisFull);
            }
            _ => {
                self.stack.redis().server().kill().await?;
                let away_ms = if kind == Kind::RedisAwayLong {
                    10_000..20_000
                } else {
                    1_000..5_000
                };
                self.later(away_ms, Undo::Redis);
            }
        }
        Ok(())
    }

    pub(super) async fn postgres(&mut self, kind: Kind) -> anyhow::Result<()> {
        match kind {
            Kind::PostgresFast => {
                self.stack.postgres().stop().await;
                self.later(0..3_000, Undo::Postgres);
            }
            Kind::PostgresHangs => {
                self.proxy()?.hang();
                self.later(1_000..8_000, Undo::PostgresHangs);
            }
            Kind::ConnectionsExhausted => {
                self.stack.run_sql(REFUSE).await?;
                self.stack.run_sql(DISCONNECT).await?;
                self.later(1_000..5_000, Undo::Connections);
            }
            Kind::CommitsLost => {
                self.proxy()?.set_losing(Losing::PerMille(200));
                self.later(500..4_000, Undo::Commits);
            }
            _ => {
                let server = self.stack.postgres().server();
                server.signal(Signal::QUIT)?;
                server.wait().await;
                self.later(0..3_000, Undo::Postgres);
            }
        }
        Ok(())
    }

    pub(super) fn proxy(&self) -> anyhow::Result<&PostgresProxy> {
        self.stack.postgres_proxy().context("no proxy of Postgres")
    }
}
