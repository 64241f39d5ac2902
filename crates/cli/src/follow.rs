//! Following an upload to its end: by server-sent events, or by asking each second where no stream can be had.
//! A lost connection or a restarted gateway does not end the watch; only silence beyond the patience does. The
//! upload itself runs on the workers and never depends on this.

use crate::api::{Queue, Session, view};
use crate::client::Client;
use crate::problem::Failure;
use crate::progress::Progress;
use crate::render::progress_line;
use crate::sse::Decoder;
use anyhow::Result;
use domain::backoff::Backoff;
use futures::StreamExt as _;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The server sends a comment every 15 s; three missed ones are a dead connection.
const STREAM_SILENCE: Duration = Duration::from_secs(45);
/// The first snapshot comes at once; where it does not, something on the way holds the stream back.
const FIRST_EVENT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Where nothing moves for so long, the queue is asked why, and again each time.
const QUIET: Duration = Duration::from_secs(3);
/// How long that answer may take.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(500),
    cap: Duration::from_secs(5),
};

/// How the following went on for a while.
enum Step {
    /// The session ended; this is its last state.
    Ended(Value),
    /// The connection was lost, for this reason.
    Lost(String),
    /// The server closed the stream: it stops, or the access token has come to its end.
    Closed,
    /// Nothing was lost, and it goes on.
    GoesOn,
    /// No stream can be had here.
    NoStream,
}

/// How the following ended.
pub(crate) enum Followed {
    /// The session ended; this is its last state.
    Ended(Value),
    /// The person pressed Ctrl-C.
    Interrupted,
}

/// Follows one session.
pub(crate) struct Follower<'a> {
    client: &'a Client,
    session: String,
    /// Snapshots of earlier runs are stale.
    run: u64,
    patience: Duration,
    progress: Progress,
    last_answer: Instant,
    failures: u32,
    announced: bool,
    last_event_id: Option<String>,
    polling: bool,
    quiet: Quiet,
}

/// An upload that does not move, and what was said of it.
struct Quiet {
    /// The source root it reads.
    root: String,
    /// How it stood when it last moved.
    line: String,
    is_paused: bool,
    /// When the queue is asked next.
    ask_at: Instant,
    told: Option<String>,
}

impl Quiet {
    /// Takes in how the session stands.
    fn look(&mut self, session: &Session) {
        let line = progress_line(session);
        self.is_paused = session.status == "paused";
        if line != self.line {
            self.line = line;
            self.ask_at = Instant::now() + QUIET;
            self.told = None;
        }
    }
}

impl<'a> Follower<'a> {
    /// Follows the session whose state is `session`, giving up after `patience` without an answer.
    pub(crate) fn new(client: &'a Client, session: &Value, patience: Duration, progress: Progress) -> Self {
        let session: Session = view(session);
        let quiet = Quiet {
            line: progress_line(&session),
            root: session.source.root,
            is_paused: session.status == "paused",
            ask_at: Instant::now() + QUIET,
            told: None,
        };
        Self {
            client,
            session: session.id,
            run: session.run,
            patience,
            progress,
            last_answer: Instant::now(),
            failures: 0,
            announced: false,
            last_event_id: None,
            polling: false,
            quiet,
        }
    }

    /// Follows to the end, or to Ctrl-C.
    pub(crate) async fn run(mut self) -> Result<Followed> {
        let followed = tokio::select! {
            ended = self.follow_to_end() => ended.map(Followed::Ended),
            pressed = tokio::signal::ctrl_c() => pressed.map(|()| Followed::Interrupted).map_err(Into::into),
        };
        self.progress.clear();
        followed
    }

    async fn follow_to_end(&mut self) -> Result<Value> {
        loop {
            let step = if self.polling {
                self.poll().await
            } else {
                self.stream().await
            };
            match step? {
                Step::Ended(session) => {
                    self.progress.session(&session)?;
                    return Ok(session);
                }
                Step::GoesOn => {}
                Step::NoStream => self.polling = true,
                Step::Lost(cause) => self.wait_after(&cause, true).await?,
                Step::Closed => self.wait_after("the server closed the stream", false).await?,
            }
        }
    }

    /// Waits before the next attempt; gives up when the patience is at its end. What is cured by the next attempt
    /// (not `worrying`) is not worth a message.
    async fn wait_after(&mut self, cause: &str, worrying: bool) -> Result<()> {
        let silent = self.last_answer.elapsed();
        if silent >= self.patience {
            anyhow::bail!(
                "no answer from {} for {} s ({cause})\nthe upload goes on without this command; \
                 watch it again with `uploader watch {}`",
                self.client.base(),
                silent.as_secs(),
                self.session
            );
        }
        self.failures += 1;
        if !self.announced && (worrying || self.failures > 1) {
            self.announced = true;
            self.progress.message(&format!(
                "connection lost ({cause}); the upload goes on, trying again"
            ));
        }
        let delay = BACKOFF.delay(self.failures, &mut rand::rng());
        // Never past the end of the patience, so that giving up comes when it was announced.
        sleep(delay.min(self.patience - silent)).await;
        Ok(())
    }

    fn answered(&mut self) {
        self.last_answer = Instant::now();
        self.failures = 0;
        if std::mem::take(&mut self.announced) {
            self.progress.message("connected again");
        }
    }

    /// Reads events until the stream ends.
    async fn stream(&mut self) -> Result<Step> {
        let answer = match self
            .client
            .events(&self.session, self.last_event_id.as_deref())
            .await
        {
            Ok(answer) => answer,
            Err(error) => match error.downcast_ref::<Failure>() {
                Some(failure) if failure.is_passing() => return Ok(Step::Lost(failure.brief())),
                // Asking for the session itself tells whether it is the session or only the stream that is not there.
                Some(Failure::Problem(_)) => return Ok(Step::NoStream),
                _ => return Err(error),
            },
        };
        let content_type = answer
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return Ok(Step::NoStream);
        }
        let mut bytes = answer.bytes_stream();
        let mut decoder = Decoder::default();
        let opened = Instant::now();
        let mut heard = opened;
        let mut had_event = false;
        loop {
            let wait = if had_event {
                STREAM_SILENCE.saturating_sub(heard.elapsed())
            } else {
                FIRST_EVENT.saturating_sub(opened.elapsed())
            };
            let next = tokio::select! {
                next = timeout(wait, bytes.next()) => next,
                () = sleep_until(self.quiet.ask_at) => {
                    self.explain().await;
                    continue;
                }
            };
            let chunk = match next {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(_))) => return Ok(Step::Lost("the stream broke off".to_owned())),
                Ok(None) => return Ok(Step::Closed),
                Err(_) if had_event => return Ok(Step::Lost("the stream fell silent".to_owned())),
                Err(_) => return Ok(Step::NoStream),
            };
            heard = Instant::now();
            let Ok(events) = decoder.push(&chunk) else {
                return Ok(Step::NoStream);
            };
            if let Some(id) = decoder.last_event_id() {
                self.last_event_id = Some(id.to_owned());
            }
            for event in events {
                had_event = true;
                self.answered();
                match event.name.as_str() {
                    "session" => {
                        if let Ok(session) = serde_json::from_str(&event.data)
                            && self.is_over(&session)?
                        {
                            return self.poll().await;
                        }
                    }
                    "file" => self
                        .progress
                        .failure(&serde_json::from_str(&event.data).unwrap_or_default()),
                    // The record has the last word; the stream's last snapshot may be a little older.
                    "end" => return self.poll().await,
                    _ => {}
                }
            }
            if had_event {
                self.last_answer = Instant::now();
            }
        }
    }

    /// Asks for the session once.
    async fn poll(&mut self) -> Result<Step> {
        match self.client.get(&["sessions", &self.session]).await {
            Ok(session) => {
                self.answered();
                if self.is_over(&session)? {
                    return Ok(Step::Ended(session));
                }
                if self.quiet.ask_at <= Instant::now() {
                    self.explain().await;
                }
                sleep(POLL_INTERVAL).await;
                Ok(Step::GoesOn)
            }
            Err(error) => match error.downcast_ref::<Failure>() {
                Some(failure) if failure.is_passing() => Ok(Step::Lost(failure.brief())),
                _ => Err(error),
            },
        }
    }

    /// Says why nothing moves, where the queue knows. It is no loss where it cannot be asked.
    async fn explain(&mut self) {
        if !self.quiet.is_paused
            && let Ok(queue) = self.client.get_within(&["queue"], QUEUE_TIMEOUT).await
        {
            let reason = view::<Queue>(&queue).reason(&self.quiet.root);
            if let Some(reason) = &reason
                && self.quiet.told.as_ref() != Some(reason)
            {
                self.progress.message(&format!("waiting: {reason}"));
            }
            self.quiet.told = reason;
        }
        self.quiet.ask_at = Instant::now() + QUIET;
    }

    /// Shows a snapshot, and tells whether it is the last of this run.
    fn is_over(&mut self, value: &Value) -> Result<bool> {
        let session: Session = view(value);
        if session.run < self.run {
            return Ok(false);
        }
        self.quiet.look(&session);
        let over = session.is_ended();
        if !over {
            self.progress.session(value)?;
        }
        Ok(over)
    }
}
