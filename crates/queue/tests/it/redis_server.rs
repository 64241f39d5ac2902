//! A private Redis that a test may stop, freeze and start again.

use queue::Queue;
use rustix::process::Signal;

pub(crate) struct RedisServer {
    redis: dev_stack::Redis,
    _folder: tempfile::TempDir,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = dev_stack::Redis::start(folder.path()).await.unwrap();
        Self {
            redis,
            _folder: folder,
        }
    }

    pub(crate) fn url(&self) -> String {
        self.redis.url()
    }

    pub(crate) async fn queue(&self) -> Queue {
        Queue::connect(&self.url()).await.unwrap()
    }

    /// Ends it; all it knew is lost.
    pub(crate) async fn stop(&mut self) {
        self.redis.stop().await;
    }

    pub(crate) async fn start_again(&mut self) {
        self.redis.start_again().await.unwrap();
    }

    /// It keeps its connections and answers nothing.
    pub(crate) fn freeze(&mut self) {
        self.redis.server().signal(Signal::STOP).unwrap();
    }

    pub(crate) fn thaw(&mut self) {
        self.redis.server().signal(Signal::CONT).unwrap();
    }

    /// Sets how many bytes it may use (0: any), and what it does when it has used them.
    pub(crate) async fn limit_memory(&self, bytes: &str, policy: &str) {
        let words = ["CONFIG", "SET", "maxmemory", bytes, "maxmemory-policy", policy];
        let _: String = self.command(&words).await;
    }

    /// A plain command, past the queue.
    pub(crate) async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.unwrap()
    }

    /// Returns when this many clients block on a list.
    pub(crate) async fn blocked_clients(&self, count: usize) {
        loop {
            let info: String = self.command(&["INFO", "clients"]).await;
            if info
                .lines()
                .any(|line| line == format!("blocked_clients:{count}"))
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}
