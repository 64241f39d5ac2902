//! Hints that something changed, so that nobody has to wait for the next look: a session's progress (for gateways)
//! and a session's stop flag (for workers).
//!
//! A hint may be lost: whoever listens also looks by itself now and then. One connection per process and kind carries
//! them to any number of listeners; it is opened by the first one, and opened again whenever it breaks.

use std::sync::OnceLock;
use std::time::Duration;

use domain::SessionId;
use domain::backoff::Backoff;
use futures::StreamExt as _;
use redis::{Client, Value};
use tokio::sync::broadcast;
use tokio_util::task::AbortOnDropHandle;

use crate::keys::Keys;
use crate::{CONNECT_TIMEOUT, OPERATION_TIMEOUT, Queue, QueueError, within};

/// A listener that falls this far behind is told so (`Lagged`), and looks by itself.
const CAPACITY: usize = 1024;
/// How often a silent connection is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(10);
const RECONNECT: Backoff = Backoff {
    base: Duration::from_millis(100),
    cap: Duration::from_secs(5),
};

/// Both kinds of hints.
pub(crate) struct Hints {
    progress: Feed,
    stop: Feed,
}

impl Hints {
    pub(crate) fn new(client: Client, keys: &Keys) -> Self {
        Self {
            progress: Feed::new(client.clone(), keys.every_progress()),
            stop: Feed::new(client, keys.stop()),
        }
    }
}

/// One subscription, handed on to every listener.
struct Feed {
    client: Client,
    pattern: String,
    sender: broadcast::Sender<SessionId>,
    /// Ends with the queue's last clone.
    task: OnceLock<AbortOnDropHandle<()>>,
}

impl Feed {
    fn new(client: Client, pattern: String) -> Self {
        Self {
            client,
            pattern,
            sender: broadcast::Sender::new(CAPACITY),
            task: OnceLock::new(),
        }
    }

    fn subscribe(&self) -> broadcast::Receiver<SessionId> {
        let receiver = self.sender.subscribe();
        self.task.get_or_init(|| {
            let listening = listen(self.client.clone(), self.pattern.clone(), self.sender.clone());
            AbortOnDropHandle::new(tokio::spawn(listening))
        });
        receiver
    }
}

impl Queue {
    /// The sessions whose figures change, from now on. Must be called on a tokio runtime.
    #[must_use]
    pub fn subscribe_progress(&self) -> broadcast::Receiver<SessionId> {
        self.hints.progress.subscribe()
    }

    /// The sessions whose stop flag is set, from now on. Must be called on a tokio runtime.
    #[must_use]
    pub fn subscribe_stop(&self) -> broadcast::Receiver<SessionId> {
        self.hints.stop.subscribe()
    }

    /// Tells that a session's figures have changed.
    ///
    /// # Errors
    /// Where Redis fails: nobody may have heard it.
    pub async fn publish_progress(&self, session: SessionId) -> Result<(), QueueError> {
        self.publish(self.keys.progress(session), session).await
    }

    /// Tells that a session's stop flag has been set.
    ///
    /// # Errors
    /// Where Redis fails: nobody may have heard it.
    pub async fn publish_stop(&self, session: SessionId) -> Result<(), QueueError> {
        self.publish(self.keys.stop(), session).await
    }

    async fn publish(&self, channel: String, session: SessionId) -> Result<(), QueueError> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(session.to_string());
        self.run(async |connection| command.query_async(connection).await)
            .await
    }
}

async fn listen(client: Client, pattern: String, sender: broadcast::Sender<SessionId>) {
    let mut failures = 0;
    loop {
        let error = match follow(&client, &pattern, &sender, &mut failures).await {
            Ok(()) => "the connection was closed".to_owned(),
            Err(error) => error.to_string(),
        };
        failures += 1;
        let delay = RECONNECT.delay(failures, &mut rand::rng());
        tracing::debug!(error, failures, "hints from Redis are interrupted");
        tokio::time::sleep(delay).await;
    }
}

/// Hands hints on until the connection breaks.
async fn follow(
    client: &Client,
    pattern: &str,
    sender: &broadcast::Sender<SessionId>,
    failures: &mut u32,
) -> Result<(), QueueError> {
    let mut pubsub = within(CONNECT_TIMEOUT, async { Ok(client.get_async_pubsub().await?) }).await?;
    within(OPERATION_TIMEOUT, async { Ok(pubsub.psubscribe(pattern).await?) }).await?;
    *failures = 0;
    let (mut sink, mut stream) = pubsub.split();
    let mut ping = tokio::time::interval(PING_EVERY);
    loop {
        tokio::select! {
            message = stream.next() => {
                let Some(message) = message else { return Ok(()) };
                let session = message.get_payload::<String>().ok().and_then(|text| text.parse().ok());
                if let Some(session) = session {
                    // An error says that nobody listens at the moment.
                    let _ = sender.send(session);
                }
            }
            _ = ping.tick() => {
                within(OPERATION_TIMEOUT, async { Ok(sink.ping::<Value>().await?) }).await?;
            }
        }
    }
}
