//! Hints reach everybody who listens, also after Redis was away.

use std::time::Duration;

use domain::SessionId;
use futures::StreamExt;
use queue::Queue;
use tokio::sync::broadcast::Receiver;

use crate::redis_server::RedisServer;

/// Publishes until a hint arrives: whoever has just begun to listen may miss the first.
async fn publish_until_heard(queue: &Queue, hints: &mut Receiver<SessionId>, session: SessionId) {
    loop {
        // Fails while Redis is away.
        let _ = queue.publish_progress(session).await;
        let heard = tokio::time::timeout(Duration::from_millis(20), hints.recv()).await;
        if let Ok(heard) = heard {
            assert_eq!(heard.unwrap(), session);
            return;
        }
    }
}

#[tokio::test]
async fn every_listener_hears_of_progress() {
    let redis = RedisServer::start().await;
    let (gateway, worker) = (redis.queue().await, redis.queue().await);
    let (mut one, mut other) = (gateway.subscribe_progress(), gateway.subscribe_progress());
    let session = SessionId::new();
    publish_until_heard(&worker, &mut one, session).await;
    assert_eq!(other.recv().await.unwrap(), session);
    // One connection carries them to all listeners.
    assert_eq!(redis.command::<usize>(&["PUBSUB", "NUMPAT"]).await, 1);
}

#[tokio::test]
async fn stops_and_progress_are_told_apart() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let (mut progress, mut stops) = (queue.subscribe_progress(), queue.subscribe_stop());
    let (working, stopped) = (SessionId::new(), SessionId::new());
    while redis.command::<usize>(&["PUBSUB", "NUMPAT"]).await < 2 {
        tokio::task::yield_now().await;
    }
    queue.publish_stop(stopped).await.unwrap();
    queue.publish_progress(working).await.unwrap();
    assert_eq!(stops.recv().await.unwrap(), stopped);
    assert_eq!(progress.recv().await.unwrap(), working);
    assert!(stops.is_empty() && progress.is_empty());
}

/// Programs of other versions listen there, too.
#[tokio::test]
async fn hints_go_to_the_channels_that_the_protocol_names() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut listener = client.get_async_pubsub().await.unwrap();
    listener.psubscribe("*").await.unwrap();
    let session = SessionId::new();
    queue.publish_stop(session).await.unwrap();
    queue.publish_progress(session).await.unwrap();
    let channels: Vec<String> = listener
        .on_message()
        .take(2)
        .map(|message| message.get_channel_name().to_owned())
        .collect()
        .await;
    assert_eq!(
        channels,
        [
            "uploader:v1:stop".to_owned(),
            format!("uploader:v1:progress:{session}")
        ]
    );
}

#[tokio::test]
async fn listening_goes_on_after_redis_was_away() {
    let mut redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let mut hints = queue.subscribe_progress();
    publish_until_heard(&queue, &mut hints, SessionId::new()).await;
    redis.stop().await;
    redis.start_again().await;
    let mut later = queue.subscribe_progress();
    publish_until_heard(&queue, &mut later, SessionId::new()).await;
}

#[tokio::test]
async fn the_subscription_ends_with_the_queue() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let hints = queue.subscribe_progress();
    while redis.command::<usize>(&["PUBSUB", "NUMPAT"]).await == 0 {
        tokio::task::yield_now().await;
    }
    drop((queue, hints));
    while redis.command::<usize>(&["PUBSUB", "NUMPAT"]).await > 0 {
        tokio::task::yield_now().await;
    }
}
