//! The bandwidth of a session.

use domain::SessionId;
use queue::{Bandwidth, FURTHEST_AHEAD};
use std::time::Duration;

use crate::redis_server::RedisServer;

#[tokio::test]
async fn reservations_follow_each_other_at_the_pace_of_the_session() {
    let redis = RedisServer::start().await;
    let (one, other) = (redis.queue().await, redis.queue().await);
    let session = SessionId::new();
    assert_eq!(
        one.take_bandwidth(session, 500_000, 1_000_000).await.unwrap(),
        Bandwidth::Reserved(Duration::ZERO)
    );
    // Another worker's begins where that one ends; some time may have passed.
    let Bandwidth::Reserved(wait) = other
        .take_bandwidth(session, 10_000_000, 1_000_000)
        .await
        .unwrap()
    else {
        panic!("it is not far ahead");
    };
    assert!(wait <= Duration::from_millis(500), "{wait:?}");
    let Bandwidth::Later(wait) = one.take_bandwidth(session, 1, 1_000_000).await.unwrap() else {
        panic!("ten seconds are reserved");
    };
    assert!(wait <= Duration::from_millis(10_500) - FURTHEST_AHEAD, "{wait:?}");
    // Not so far ahead that nothing is left of it.
    assert!(wait > Duration::from_secs(5), "{wait:?}");
    // Another session has its own.
    assert_eq!(
        one.take_bandwidth(SessionId::new(), 1, 1).await.unwrap(),
        Bandwidth::Reserved(Duration::ZERO)
    );
}

#[tokio::test]
async fn what_is_not_used_does_not_add_up_and_is_forgotten() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let session = SessionId::new();
    let key = format!("uploader:v1:bandwidth:{session}");
    queue.take_bandwidth(session, 10, 1_000).await.unwrap();
    let left_ms: i64 = redis.command(&["PTTL", &key]).await;
    assert!((1..=1_010).contains(&left_ms), "{left_ms}");
    // Long ago.
    let _: String = redis.command(&["SET", &key, "1000"]).await;
    assert_eq!(
        queue
            .take_bandwidth(session, 500_000_000, 1_000_000)
            .await
            .unwrap(),
        Bandwidth::Reserved(Duration::ZERO)
    );
    assert!(matches!(
        queue.take_bandwidth(session, 1, 1_000_000).await.unwrap(),
        Bandwidth::Later(_)
    ));
}
