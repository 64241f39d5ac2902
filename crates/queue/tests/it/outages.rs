//! Redis may be emptied, restarted, down or stuck at any time.

use std::time::{Duration, Instant};

use domain::{CompanyId, JobId, SessionId};
use queue::{LONGEST_WAIT, Live, OPERATION_TIMEOUT, Queue, QueueError};

use crate::redis_server::RedisServer;
use crate::{job, media};

#[tokio::test]
async fn a_flush_loses_jobs_and_nothing_else() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let company = CompanyId::new();
    for id in 1..=3 {
        queue.push(&[job(id, company)]).await.unwrap();
        let _: String = redis.command(&["FLUSHALL"]).await;
        let _: String = redis.command(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(queue.take(&media()).await.unwrap(), None);
        assert_eq!(
            queue.missing(&[job(id, company)]).await.unwrap(),
            [job(id, company)]
        );
        queue.push(&[job(id, company)]).await.unwrap();
        assert_eq!(queue.take(&media()).await.unwrap(), Some(JobId(id)));
    }
}

#[tokio::test]
async fn a_restart_between_operations_costs_at_most_errors() {
    let mut redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let company = CompanyId::new();
    for id in 1..=3 {
        queue.push(&[job(id, company)]).await.unwrap();
        redis.stop().await;
        let started = Instant::now();
        assert!(queue.push(&[job(id, company)]).await.is_err());
        assert!(queue.take(&media()).await.is_err());
        assert!(queue.ping().await.is_err());
        assert!(queue.live(SessionId::new()).await.is_err());
        assert!(
            queue
                .set_live(SessionId::new(), "w", &Live::default())
                .await
                .is_err()
        );
        assert!(queue.workers().await.is_err());
        assert!(queue.publish_stop(SessionId::new()).await.is_err());
        assert!(queue.wait(&media(), LONGEST_WAIT).await.is_err());
        assert!(
            started.elapsed() < OPERATION_TIMEOUT,
            "a refused connection is no reason to wait"
        );
        redis.start_again().await;
        // The first call works: connections that died are replaced before they are used.
        queue.push(&[job(id, company)]).await.unwrap();
        assert_eq!(queue.take(&media()).await.unwrap(), Some(JobId(id)));
    }
}

#[tokio::test]
async fn a_queue_is_made_while_redis_is_down() {
    let mut redis = RedisServer::start().await;
    redis.stop().await;
    let queue = redis.queue().await;
    assert!(matches!(queue.ping().await, Err(QueueError::Unreachable(_))));
    redis.start_again().await;
    queue.ping().await.unwrap();
    assert!(matches!(
        Queue::connect("not a url").await,
        Err(QueueError::Url(_))
    ));
}

#[tokio::test]
async fn who_waits_is_told_when_redis_goes_away() {
    let mut redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.wait(&media(), LONGEST_WAIT).await }
    });
    redis.blocked_clients(1).await;
    redis.stop().await;
    assert!(waiting.await.unwrap().is_err());
    redis.start_again().await;
    queue.push(&[job(1, CompanyId::new())]).await.unwrap();
    assert!(queue.wait(&media(), LONGEST_WAIT).await.unwrap());
}

#[tokio::test]
async fn a_redis_that_hangs_is_not_waited_for() {
    let mut redis = RedisServer::start().await;
    let queue = redis.queue().await;
    queue.ping().await.unwrap();
    redis.freeze();
    let started = Instant::now();
    let error = queue.push(&[job(1, CompanyId::new())]).await.unwrap_err();
    assert!(
        started.elapsed() < OPERATION_TIMEOUT + Duration::from_secs(1),
        "{error}"
    );
    redis.thaw();
    queue.push(&[job(1, CompanyId::new())]).await.unwrap();
    assert_eq!(queue.take(&media()).await.unwrap(), Some(JobId(1)));
}

#[tokio::test]
async fn a_redis_that_is_full_takes_no_job_and_loses_none() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let company = CompanyId::new();
    queue.push(&[job(1, company), job(2, company)]).await.unwrap();
    redis.limit_memory("1", "noeviction").await;
    for full in [
        queue.ping().await,
        queue.push(&[job(3, company)]).await,
        queue.set_live(SessionId::new(), "w", &Live::default()).await,
    ] {
        assert!(matches!(full, Err(QueueError::Full(_))), "{full:?}");
    }
    // What waits already is taken, each once, and the line goes on.
    assert_eq!(queue.take(&media()).await.unwrap(), Some(JobId(1)));
    assert_eq!(queue.take(&media()).await.unwrap(), Some(JobId(2)));
    assert_eq!(queue.take(&media()).await.unwrap(), None);
    let third = [job(3, company)];
    assert_eq!(queue.missing(&third).await.unwrap(), third);
    redis.limit_memory("0", "noeviction").await;
    queue.ping().await.unwrap();
    assert!(redis.command::<bool>(&["EXISTS", "uploader:v1:probe"]).await);
    queue.push(&third).await.unwrap();
    assert_eq!(queue.take(&media()).await.unwrap(), Some(JobId(3)));
}
