//! `GET /api/sessions/{id}/events`: a session's progress as server-sent events.
//!
//! Postgres is the truth: it is looked at once a second, and at most four times a second while workers hint at
//! changes. Without Redis the hints are missing, and nothing else.
//!
//! An event's `id` names the time of the latest failure sent so far. A client that comes back with it as
//! `Last-Event-ID` gets the present session first, as every client does, and then the failures since that time; a new
//! client gets those from now on. Clocks differ and outcomes are recorded a moment late, so both get those of the last
//! [`LOOK_BACK`] before, too: some may come twice. After a mass of failures the latest [`MAX_FAILURES`] are sent; all of them are in
//! `GET /api/sessions/{id}/files?status=failed`.

use super::view::{File, Session};
use crate::actor::{Actor, access_token, authenticate};
use crate::error::{ApiError, Code};
use crate::request::Id;
use crate::state::State;
use actix_web::{HttpRequest, HttpResponse, get, web};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use database::{files, sessions};
use domain::{CompanyId, Permission, SessionId};
use futures::StreamExt as _;
use serde::Serialize;
use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

/// The least time between two looks: four a second.
const LEAST_PAUSE: Duration = Duration::from_millis(250);
/// The time between looks when nobody hints at anything.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The least time between two looks for failures.
const FAILURES_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked whether the token still counts.
const TOKEN_CHECK: Duration = Duration::from_secs(2);
/// Outcomes are recorded a moment after their time: so far back is looked for ones not sent yet.
const LOOK_BACK: TimeDelta = TimeDelta::seconds(10);
/// How many failures are sent at once.
const MAX_FAILURES: i64 = 200;

/// Follow a session: `session` with the session at once and then as it changes (at most four times a second),
/// `file` for each failure, `end` with the final session when it has ended. A comment every 15 seconds.
#[utoipa::path(
    tag = "sessions",
    params(
        ("id" = SessionId, Path),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event seen"),
    ),
    responses((status = 200, description = "Events", body = String, content_type = "text/event-stream")),
)]
#[get("/api/sessions/{id}/events")]
pub(crate) async fn events(
    state: web::Data<State>,
    actor: Actor,
    Id(id): Id<SessionId>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    actor.require(Permission::SessionRead)?;
    actor.require(Permission::FileRead)?;
    let company_id = actor.company_id;
    // Hints are listened to before the first look, so that no change falls between.
    let hints = state.queue.subscribe_progress();
    let first = load(&state, company_id, id).await?;
    let token = access_token(&request, &state).unwrap_or_default();
    let resume_after = request
        .headers()
        .get("Last-Event-ID")
        .and_then(|value| parse_event_id(value.to_str().ok()?, Utc::now()));
    let (sender, mut receiver) = mpsc::channel(16);
    let watch = Watch {
        state: state.into_inner(),
        company_id,
        id,
        token,
        token_checked: Instant::now(),
        sender,
        failures: FailureFeed::new(resume_after),
    };
    actix_web::rt::spawn(watch.run(first, hints));
    let body = futures::stream::poll_fn(move |context| receiver.poll_recv(context)).map(Ok::<_, Infallible>);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(body))
}

/// The time an event's id names; one that no event of ours can have had names none.
fn parse_event_id(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let micros: i64 = text.parse().ok()?;
    (0..=now.timestamp_micros())
        .contains(&micros)
        .then(|| DateTime::from_timestamp_micros(micros))?
}

async fn load(
    state: &State,
    company_id: CompanyId,
    id: SessionId,
) -> Result<database::sessions::Session, ApiError> {
    state
        .database
        .tenant(company_id, async move |conn| {
            sessions::get(conn, id).await.map_err(ApiError::from)
        })
        .await
}

/// The client is gone, or the stream has come to its end.
struct Over;

/// One client that follows one session.
struct Watch {
    state: std::sync::Arc<State>,
    company_id: CompanyId,
    id: SessionId,
    token: String,
    token_checked: Instant,
    sender: mpsc::Sender<Bytes>,
    failures: FailureFeed,
}

impl Watch {
    async fn run(mut self, first: database::sessions::Session, hints: broadcast::Receiver<SessionId>) {
        // The end of the stream tells the client, whatever the cause.
        let _ = self.follow(first, hints).await;
    }

    async fn follow(
        &mut self,
        first: database::sessions::Session,
        mut hints: broadcast::Receiver<SessionId>,
    ) -> Result<(), Over> {
        let mut shown = Session::load(&self.state, first).await;
        self.send("session", &shown).await?;
        let mut last_sent = Instant::now();
        // A retry counts failures back, so that any change of the number may hide new ones.
        let mut failures_seen = None;
        let mut failures_looked: Option<Instant> = None;
        loop {
            let looked = Instant::now();
            let stored = self.look().await?;
            let failures_due = stored.status.is_ended()
                || failures_looked.is_none_or(|before| looked.duration_since(before) >= FAILURES_PAUSE);
            if failures_seen != Some(stored.files.failed) && failures_due {
                failures_looked = Some(looked);
                if let Some(count) = self.send_failures(&stored.key_prefix).await? {
                    failures_seen = Some(stored.files.failed);
                    if count > 0 {
                        last_sent = Instant::now();
                    }
                }
            }
            let session = Session::load(&self.state, stored).await;
            if session.has_changed_since(&shown) {
                self.send("session", &session).await?;
                last_sent = Instant::now();
            }
            shown = session;
            if shown.status.is_ended() {
                return self.send("end", &shown).await;
            }
            if last_sent.elapsed() >= HEARTBEAT {
                self.send_bytes(Bytes::from_static(b": still here\n\n")).await?;
                last_sent = Instant::now();
            }
            self.pause(looked, last_sent, &mut hints).await?;
        }
    }

    /// The session as it is now. While Postgres is away, the client waits with us.
    async fn look(&mut self) -> Result<database::sessions::Session, Over> {
        loop {
            match self.check_token().await {
                Ok(()) => {}
                Err(error) if error.code() == Code::DatabaseUnavailable => {}
                Err(_) => return Err(Over),
            }
            match load(&self.state, self.company_id, self.id).await {
                Ok(session) => return Ok(session),
                Err(error) if error.code() == Code::DatabaseUnavailable => {
                    self.send_bytes(Bytes::from_static(b": waiting for the database\n\n"))
                        .await?;
                    tokio::time::sleep(LONGEST_PAUSE).await;
                }
                Err(_) => return Err(Over),
            }
        }
    }

    async fn check_token(&mut self) -> Result<(), ApiError> {
        if self.token_checked.elapsed() < TOKEN_CHECK {
            return Ok(());
        }
        let actor = authenticate(&self.state, &self.token).await?;
        self.token_checked = Instant::now();
        actor.require(Permission::SessionRead)
    }

    /// Until the next look is due: at once with a hint, but for the least pause.
    async fn pause(
        &self,
        looked: Instant,
        last_sent: Instant,
        hints: &mut broadcast::Receiver<SessionId>,
    ) -> Result<(), Over> {
        let latest = (looked + LONGEST_PAUSE)
            .min(last_sent + HEARTBEAT)
            .max(looked + LEAST_PAUSE);
        let hinted = async {
            loop {
                match hints.recv().await {
                    Ok(id) if id == self.id => return,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(latest) => return Ok(()),
            () = hinted => {}
            () = self.sender.closed() => return Err(Over),
            () = self.state.stopping.cancelled() => return Err(Over),
        }
        tokio::select! {
            () = tokio::time::sleep_until(looked + LEAST_PAUSE) => Ok(()),
            () = self.sender.closed() => Err(Over),
            () = self.state.stopping.cancelled() => Err(Over),
        }
    }

    /// Sends the failures that were not sent yet, and counts them; `None` where they cannot be read now.
    async fn send_failures(&mut self, key_prefix: &str) -> Result<Option<usize>, Over> {
        let (id, since) = (self.id, self.failures.since());
        let found = self
            .state
            .database
            .tenant(self.company_id, async move |conn| {
                files::failed_since(conn, id, since, MAX_FAILURES)
                    .await
                    .map_err(ApiError::from)
            })
            .await;
        let Ok(found) = found else { return Ok(None) };
        let new = self.failures.take_new(found);
        let count = new.len();
        for file in new {
            self.failures.sent(&file);
            self.send("file", &File::new(file, key_prefix)).await?;
        }
        Ok(Some(count))
    }

    async fn send(&self, event: &str, data: &impl Serialize) -> Result<(), Over> {
        let json = serde_json::to_string(data).map_err(|_| Over)?;
        let id = self.failures.latest.timestamp_micros();
        self.send_bytes(Bytes::from(format!("id: {id}\nevent: {event}\ndata: {json}\n\n")))
            .await
    }

    async fn send_bytes(&self, bytes: Bytes) -> Result<(), Over> {
        self.sender.send(bytes).await.map_err(|_| Over)
    }
}

/// Which failures were sent to this client.
struct FailureFeed {
    /// Nothing that failed before is sent.
    begin: DateTime<Utc>,
    /// The time of the latest one sent.
    latest: DateTime<Utc>,
    /// The times of those sent lately, by number.
    sent: HashMap<i64, DateTime<Utc>>,
}

impl FailureFeed {
    fn new(resume_after: Option<DateTime<Utc>>) -> Self {
        let latest = resume_after.unwrap_or_else(Utc::now);
        Self {
            begin: latest - LOOK_BACK,
            latest,
            sent: HashMap::new(),
        }
    }

    /// From when on failures may not have been sent yet.
    fn since(&self) -> DateTime<Utc> {
        self.begin.max(self.latest - LOOK_BACK)
    }

    /// Those of `found` that were not sent, the earliest first.
    fn take_new(&mut self, mut found: Vec<files::File>) -> Vec<files::File> {
        let since = self.since();
        self.sent.retain(|_, time| *time >= since);
        found.retain(|file| self.sent.get(&file.number).copied() != file.finished_at);
        found.reverse();
        found
    }

    fn sent(&mut self, file: &files::File) {
        if let Some(time) = file.finished_at {
            self.sent.insert(file.number, time);
            self.latest = self.latest.max(time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{FileErrorCode, FileStatus};

    fn failed(number: i64, at: DateTime<Utc>) -> files::File {
        files::File {
            number,
            path: format!("f{number}"),
            path_is_encoded: false,
            size_bytes: 1,
            modified_at: None,
            status: FileStatus::Failed,
            attempts: 1,
            etag: None,
            checksum: None,
            error_code: Some(FileErrorCode::ReadError.into()),
            error_detail: None,
            planned: None,
            started_at: None,
            finished_at: Some(at),
        }
    }

    #[test]
    fn an_id_names_a_time_between_1970_and_now() {
        let now = Utc::now();
        let read = |text: String| parse_event_id(&text, now).map(|time| time.timestamp_micros());
        for micros in [0, 1, now.timestamp_micros()] {
            assert_eq!(read(micros.to_string()), Some(micros));
        }
        for bad in [-1, now.timestamp_micros() + 1, i64::MIN, i64::MAX] {
            assert_eq!(read(bad.to_string()), None, "{bad}");
        }
        assert_eq!(read("x".into()), None);
        let earliest = FailureFeed::new(parse_event_id("0", now));
        assert_eq!(earliest.since().timestamp(), -LOOK_BACK.num_seconds());
    }

    #[test]
    fn each_failure_is_sent_once_and_again_when_it_fails_again() {
        let start = Utc::now();
        let mut feed = FailureFeed::new(Some(start));
        let at = |s| start + TimeDelta::seconds(s);
        // The database gives the latest first.
        let new = feed.take_new(vec![failed(2, at(2)), failed(1, at(1))]);
        assert_eq!(new.iter().map(|file| file.number).collect::<Vec<_>>(), [1, 2]);
        new.iter().for_each(|file| feed.sent(file));
        assert_eq!(feed.latest, at(2));
        let new = feed.take_new(vec![failed(2, at(2)), failed(3, at(1)), failed(1, at(9))]);
        assert_eq!(new.iter().map(|file| file.number).collect::<Vec<_>>(), [1, 3]);
    }
}
