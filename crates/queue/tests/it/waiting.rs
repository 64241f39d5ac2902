//! Idle workers sleep until there is work.

use std::time::{Duration, Instant};

use domain::{CompanyId, JobId};
use queue::{ANY_LOCATION, LONGEST_WAIT, QueuedJob};

use crate::redis_server::RedisServer;
use crate::{job, jobs, media};

#[tokio::test]
async fn a_push_wakes_who_waits() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    for location in ["media", ANY_LOCATION] {
        let started = Instant::now();
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.wait(&media(), LONGEST_WAIT).await.unwrap() }
        });
        redis.blocked_clients(1).await;
        queue
            .push(&[QueuedJob {
                location: location.into(),
                ..job(1, CompanyId::new())
            }])
            .await
            .unwrap();
        assert!(waiting.await.unwrap());
        assert!(started.elapsed() < LONGEST_WAIT / 2, "woken, not timed out");
        assert_eq!(queue.take(&media()).await.unwrap(), Some(JobId(1)));
    }
}

#[tokio::test]
async fn a_wait_ends_when_its_time_is_over() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    assert!(!queue.wait(&media(), Duration::from_millis(50)).await.unwrap());
    assert!(!queue.wait(&media(), Duration::ZERO).await.unwrap());
    // Work elsewhere is none of its business.
    queue
        .push(&[QueuedJob {
            location: "lab".into(),
            ..job(1, CompanyId::new())
        }])
        .await
        .unwrap();
    assert!(!queue.wait(&media(), Duration::from_millis(50)).await.unwrap());
}

#[tokio::test]
async fn operations_do_not_queue_behind_those_who_wait() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let queue = queue.clone();
        waiting.spawn(async move { queue.wait(&media(), LONGEST_WAIT).await });
    }
    redis.blocked_clients(40).await;
    queue.ping().await.unwrap();
    waiting.shutdown().await;
    redis.blocked_clients(0).await;
}

/// There are more idle workers than wake tokens: each one that finds work wakes the next.
#[tokio::test]
async fn a_push_of_many_jobs_wakes_all_workers() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let queue = queue.clone();
        workers.spawn(async move {
            loop {
                assert!(
                    queue.wait(&media(), LONGEST_WAIT).await.unwrap(),
                    "nobody woke this worker"
                );
                if let Some(id) = queue.take(&media()).await.unwrap() {
                    return id.0;
                }
            }
        });
    }
    redis.blocked_clients(20).await;
    queue.push(&jobs(0..20, CompanyId::new())).await.unwrap();
    let mut ids = workers.join_all().await;
    ids.sort_unstable();
    assert_eq!(ids, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_take_wakes_one_more_while_there_are_jobs() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    queue.push(&jobs(1..=3, CompanyId::new())).await.unwrap();
    // No token is left of the push.
    while queue.wait(&media(), Duration::ZERO).await.unwrap() {}
    let tokens = async || redis.command::<usize>(&["LLEN", "uploader:v1:wake:media"]).await;
    for id in 1..=2 {
        assert_eq!(queue.take(&media()).await.unwrap(), Some(JobId(id)));
        assert_eq!(tokens().await, 1, "one is enough until somebody took it");
    }
    assert!(queue.wait(&media(), LONGEST_WAIT).await.unwrap());
    assert_eq!(queue.take(&media()).await.unwrap(), Some(JobId(3)));
    assert_eq!(tokens().await, 0, "there is nothing to wake for");
}

#[tokio::test]
async fn wake_tokens_stay_few() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    queue.push(&jobs(0..1000, CompanyId::new())).await.unwrap();
    assert_eq!(
        redis.command::<usize>(&["LLEN", "uploader:v1:wake:media"]).await,
        8
    );
}

#[tokio::test]
async fn a_company_that_is_put_on_its_ring_wakes_who_waits() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let company = CompanyId::new();
    queue.push(&jobs(1..=2, company)).await.unwrap();
    let id = queue.take(&media()).await.unwrap().unwrap();
    queue.put_back_parked(&job(id.0, company)).await.unwrap();
    // No token is left of the push.
    while queue.wait(&media(), Duration::ZERO).await.unwrap() {}
    assert_eq!(
        queue.ensure_ring(&[("media".to_owned(), company)]).await.unwrap(),
        1
    );
    assert!(queue.wait(&media(), LONGEST_WAIT).await.unwrap());
    assert_eq!(queue.take(&media()).await.unwrap(), Some(id));
}
