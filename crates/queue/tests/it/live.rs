//! Live figures are shown while they are fresh.

use domain::SessionId;
use queue::{ActiveFile, Live};

use crate::redis_server::RedisServer;

fn figures(bytes_in_flight: u64) -> Live {
    let file = ActiveFile {
        path: "a/ü\n.bin".into(),
        size_bytes: 10,
        sent_bytes: 3,
    };
    Live {
        bytes_in_flight,
        rate_bytes_per_s: 5,
        active_files: vec![file],
    }
}

#[tokio::test]
async fn a_sessions_workers_are_shown_together() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let (session, other) = (SessionId::new(), SessionId::new());
    assert_eq!(queue.live(session).await.unwrap(), []);
    queue.set_live(session, "worker-b", &figures(2)).await.unwrap();
    queue.set_live(session, "worker-a", &figures(1)).await.unwrap();
    queue.set_live(session, "worker-b", &figures(3)).await.unwrap();
    queue.set_live(other, "worker-a", &figures(9)).await.unwrap();
    assert_eq!(queue.live(session).await.unwrap(), [figures(1), figures(3)]);
    queue.clear_live(session, "worker-b").await.unwrap();
    assert_eq!(queue.live(session).await.unwrap(), [figures(1)]);
}

#[tokio::test]
async fn they_expire_by_themselves() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let session = SessionId::new();
    queue.set_live(session, "worker-a", &figures(1)).await.unwrap();
    queue.set_live(session, "worker-b", &figures(2)).await.unwrap();
    let key = format!("uploader:v1:live:{session}:worker-a");
    let left_ms: i64 = redis.command(&["PTTL", &key]).await;
    assert!((1..=5000).contains(&left_ms), "{left_ms}");
    let left_ms: i64 = redis
        .command(&["PTTL", &format!("uploader:v1:live:{session}")])
        .await;
    assert!((5001..=60_000).contains(&left_ms), "{left_ms}");
    // As its time ends.
    let _: i64 = redis.command(&["PEXPIRE", &key, "0"]).await;
    assert_eq!(queue.live(session).await.unwrap(), [figures(2)]);
}
