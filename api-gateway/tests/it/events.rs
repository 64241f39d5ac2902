//! Following a session by server-sent events.

use crate::fixture::{Client, Worker, World, text};
use domain::FileErrorCode;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

struct Events {
    body: BoxStream<'static, Vec<u8>>,
    text: String,
}

#[derive(Debug)]
struct Event {
    id: String,
    kind: String,
    data: Value,
}

impl Events {
    async fn of(client: &Client<'_>, session: &Value, last_id: Option<&str>) -> Self {
        let mut request = client.request(
            Method::GET,
            &format!("/api/sessions/{}/events", text(session, "id")),
        );
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        let body = response
            .bytes_stream()
            .map(|bytes| bytes.map(|bytes| bytes.to_vec()).unwrap_or_default());
        Self {
            body: body.boxed(),
            text: String::new(),
        }
    }

    /// The next block (an event or a comment), or `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        let reading = async {
            loop {
                if let Some((block, rest)) = self.text.split_once("\n\n") {
                    let (block, rest) = (block.to_owned(), rest.to_owned());
                    self.text = rest;
                    return Some(block);
                }
                let bytes = self.body.next().await?;
                self.text.push_str(std::str::from_utf8(&bytes).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reading)
            .await
            .expect("an event in time")
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            if !block.starts_with(':') {
                let field = |name: &str| {
                    let line = block.lines().find_map(|line| line.strip_prefix(name));
                    line.unwrap_or_else(|| panic!("{name} in {block}"))
                        .trim()
                        .to_owned()
                };
                let data = serde_json::from_str(&field("data:")).unwrap();
                return Some(Event {
                    id: field("id:"),
                    kind: field("event:"),
                    data,
                });
            }
        }
    }

    /// The next event of that kind.
    async fn next_of(&mut self, kind: &str) -> Event {
        loop {
            let event = self
                .next()
                .await
                .unwrap_or_else(|| panic!("the stream ended before {kind}"));
            if event.kind == kind {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn a_session_is_followed_from_snapshot_to_end() {
    let world = World::new().await;
    let admin = world.admin().await;
    let session = admin.session("P").await;
    let id = text(&session, "id").parse().unwrap();
    let mut events = Events::of(&admin, &session, None).await;
    let first = events.next().await.unwrap();
    assert_eq!(
        (first.kind.as_str(), text(&first.data, "status")),
        ("session", "pending")
    );
    assert_eq!(first.data["id"], session["id"]);

    let worker = Worker::of(&admin);
    worker.scan(&world, id, &[10, 20]).await;
    let claim = worker.upload(&world, id).await;
    while events.next_of("session").await.data["files"]["total"] != 2 {}
    worker.record(&claim, 1, 10, Some(FileErrorCode::ReadError)).await;
    let failure = events.next_of("file").await;
    assert_eq!(
        (&failure.data["id"], text(&failure.data, "error_code")),
        (&serde_json::json!(1), "read_error")
    );
    while events.next_of("session").await.data["files"]["failed"] != 1 {}

    // Somebody who comes back with an id gets the snapshot, and the failures since then.
    let mut later = Events::of(&admin, &session, Some(&first.id)).await;
    assert_eq!(later.next().await.unwrap().kind, "session");
    assert_eq!(later.next_of("file").await.data["path"], "dir/file 1");

    worker.record(&claim, 2, 20, None).await;
    worker.finish(claim).await;
    for stream in [&mut events, &mut later] {
        let end = stream.next_of("end").await;
        assert_eq!(text(&end.data, "status"), "completed_with_errors");
        assert!(stream.next().await.is_none(), "the stream closes");
    }

    // The end comes at once to whoever comes later, after the failures of the last moment; so it does to whoever names
    // an event that never was.
    for nonsense in [
        None,
        Some("-1"),
        Some("9223372036854775807"),
        Some("-9223372036854775808"),
    ] {
        world
            .sql("UPDATE file_uploads SET finished_at = now() - interval '1 second' WHERE status = 'failed'")
            .await;
        let mut after = Events::of(&admin, &session, nonsense).await;
        let mut kinds = Vec::new();
        while let Some(event) = after.next().await {
            kinds.push(event.kind);
        }
        assert_eq!(kinds, ["session", "file", "end"], "{nonsense:?}");
    }
    // Polling says the same.
    let polled = admin
        .get(&format!("/api/sessions/{}", text(&session, "id")))
        .await
        .ok();
    assert_eq!(polled["files"]["failed"], 1);
}

#[tokio::test]
async fn hints_make_it_quick_and_silence_is_filled_with_comments() {
    let world = World::new().await;
    let admin = world.admin().await;
    let session = admin.session("P").await;
    let mut events = Events::of(&admin, &session, None).await;
    events.next_of("session").await;
    // Nothing changes: the next thing is a comment, within 15 seconds.
    let block = events.block().await.unwrap();
    assert!(block.starts_with(':'), "{block}");
    let cancel = format!("/api/sessions/{}/cancel", text(&session, "id"));
    let begun = std::time::Instant::now();
    admin.act(&cancel).await;
    events.next_of("end").await;
    assert!(
        begun.elapsed() < Duration::from_millis(1500),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_stream_ends_with_the_sign_in_and_with_the_gateway() {
    let world = World::new().await;
    let (admin, other) = (world.admin().await, world.admin().await);
    let session = admin.session("P").await;
    let (mut ended, mut stopped) = (
        Events::of(&admin, &session, None).await,
        Events::of(&other, &session, None).await,
    );
    admin.act("/api/auth/logout").await;
    while let Some(event) = ended.next().await {
        assert_eq!(event.kind, "session", "no end was announced: {event:?}");
    }
    stopped.next_of("session").await;
    let mut world = world;
    let begun = std::time::Instant::now();
    let status = world.gateway.stop().await;
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    while stopped.next().await.is_some() {}
}
