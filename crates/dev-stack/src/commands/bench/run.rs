//! What one run of one tool came to.

use serde_json::{Value, json};

/// CPU seconds by process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cpu {
    /// Whoever sends: the workers, or a tool.
    pub(super) client_s: f64,
    pub(super) postgres_s: Option<f64>,
    pub(super) redis_s: Option<f64>,
    pub(super) gateway_s: Option<f64>,
    pub(super) sink_s: f64,
}

impl Cpu {
    pub(super) fn since(&self, before: &Self) -> Self {
        let difference = |now: Option<f64>, before: Option<f64>| Some(now? - before?);
        Self {
            client_s: self.client_s - before.client_s,
            postgres_s: difference(self.postgres_s, before.postgres_s),
            redis_s: difference(self.redis_s, before.redis_s),
            gateway_s: difference(self.gateway_s, before.gateway_s),
            sink_s: self.sink_s - before.sink_s,
        }
    }

    /// All but the sink: what the sending costs.
    pub(super) fn without_sink_s(&self) -> f64 {
        let others = [self.postgres_s, self.redis_s, self.gateway_s];
        self.client_s + others.into_iter().flatten().sum::<f64>()
    }
}

/// The figures of one run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    pub(super) wall_s: f64,
    pub(super) cpu: Cpu,
    /// Of the client; of the largest, where there are several.
    pub(super) peak_bytes: u64,
    /// Of the service: what Postgres wrote to its log.
    pub(super) wal_bytes: Option<u64>,
    /// Of the service: from the first claim until work on the first file began.
    pub(super) first_file_ms: Option<f64>,
}

impl Run {
    pub(super) fn json(&self) -> Value {
        json!({
            "wall_s": self.wall_s,
            "cpu_s": {
                "client": self.cpu.client_s,
                "postgres": self.cpu.postgres_s,
                "redis": self.cpu.redis_s,
                "gateway": self.cpu.gateway_s,
                "sink": self.cpu.sink_s,
            },
            "peak_bytes": self.peak_bytes,
            "wal_bytes": self.wal_bytes,
            "first_file_ms": self.first_file_ms,
        })
    }
}
