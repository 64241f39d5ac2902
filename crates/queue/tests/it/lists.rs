//! Push, take, park, and what the sweeper asks.

use std::collections::HashSet;

use domain::{CompanyId, JobId};
use queue::{ANY_LOCATION, Queue, QueuedJob};

use crate::redis_server::RedisServer;
use crate::{job, jobs, media};

async fn take_all(queue: &Queue) -> Vec<i64> {
    let mut ids = Vec::new();
    while let Some(JobId(id)) = queue.take(&media()).await.unwrap() {
        ids.push(id);
    }
    ids
}

#[tokio::test]
async fn an_id_pushed_100_times_is_taken_once() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let company = CompanyId::new();
    for _ in 0..50 {
        queue.push(&[job(7, company)]).await.unwrap();
    }
    queue.push(&vec![job(7, company); 50]).await.unwrap();
    assert_eq!(queue.counts(&[("media".into(), company)]).await.unwrap(), [1]);
    assert_eq!(take_all(&queue).await, [7]);
    // It may come again later: a retry pushes the same id.
    queue.push(&[job(7, company)]).await.unwrap();
    assert_eq!(take_all(&queue).await, [7]);
}

#[tokio::test]
async fn first_come_first_served_except_at_the_head() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let company = CompanyId::new();
    queue.push(&jobs(1..=3, company)).await.unwrap();
    queue
        .push(&[QueuedJob {
            at_head: true,
            ..job(9, company)
        }])
        .await
        .unwrap();
    // On its list already, it keeps its place.
    queue
        .push(&[QueuedJob {
            at_head: true,
            ..job(3, company)
        }])
        .await
        .unwrap();
    assert_eq!(take_all(&queue).await, [9, 1, 2, 3]);
}

#[tokio::test]
async fn companies_take_turns_whatever_they_have_queued() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let (large, small, smaller) = (CompanyId::new(), CompanyId::new(), CompanyId::new());
    queue.push(&jobs(0..1000, large)).await.unwrap();
    queue.push(&jobs(5001..=5003, small)).await.unwrap();
    queue.push(&jobs([6001], smaller)).await.unwrap();
    let mut order = Vec::new();
    for _ in 0..8 {
        order.push(queue.take(&media()).await.unwrap().unwrap().0);
    }
    assert_eq!(order, [0, 5001, 6001, 1, 5002, 2, 5003, 3]);
    assert_eq!(take_all(&queue).await, (4..1000).collect::<Vec<_>>());
}

/// A worker that is full takes from companies that have nothing there; the others lose no turn by it.
#[tokio::test]
async fn companies_that_are_passed_over_keep_their_places() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let [one, two, three] = [(); 3].map(|()| CompanyId::new());
    queue.push(&jobs(1..=2, one)).await.unwrap();
    queue.push(&jobs(11..=12, two)).await.unwrap();
    queue.push(&jobs(21..=22, three)).await.unwrap();
    let ring = || redis.command::<Vec<String>>(&["LRANGE", "uploader:v1:ring:media", "0", "-1"]);
    let but = async |companies: &[CompanyId]| queue.take_except(&media(), companies).await.unwrap();
    assert_eq!(but(&[one, two]).await, Some(JobId(21)));
    assert_eq!(ring().await, [one, two, three].map(|company| company.to_string()));
    assert_eq!(but(&[one, two, three]).await, None);
    assert_eq!(but(&[one, two]).await, Some(JobId(22)));
    assert_eq!(but(&[one, two]).await, None);
    assert_eq!(ring().await, [one, two].map(|company| company.to_string()));
    // What brings a session to its end is taken all the same.
    let finish = QueuedJob {
        location: ANY_LOCATION.into(),
        ..job(31, one)
    };
    queue.push(&[finish]).await.unwrap();
    assert_eq!(but(&[one, two]).await, Some(JobId(31)));
    assert_eq!(take_all(&queue).await, [1, 11, 2, 12]);
}

#[tokio::test]
async fn the_ring_drops_companies_without_jobs() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let (one, other) = (CompanyId::new(), CompanyId::new());
    queue
        .push(&[job(1, one), job(2, other), job(3, other)])
        .await
        .unwrap();
    let ring = || redis.command::<Vec<String>>(&["LRANGE", "uploader:v1:ring:media", "0", "-1"]);
    assert_eq!(ring().await, [one.to_string(), other.to_string()]);
    assert_eq!(queue.take(&media()).await.unwrap(), Some(JobId(1)));
    assert_eq!(ring().await, [other.to_string()]);
    // A company whose list has vanished is passed over, and dropped as well.
    queue.push(&[job(4, one)]).await.unwrap();
    let _: usize = redis
        .command(&["DEL", &format!("uploader:v1:ready:media:{other}")])
        .await;
    assert_eq!(queue.take(&media()).await.unwrap(), Some(JobId(4)));
    assert!(ring().await.is_empty());
    assert_eq!(queue.take(&media()).await.unwrap(), None);
}

#[tokio::test]
async fn a_worker_takes_from_its_own_locations_and_from_any() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let company = CompanyId::new();
    let at = |location: &str, id| QueuedJob {
        location: location.into(),
        ..job(id, company)
    };
    queue
        .push(&[
            at("media", 1),
            at("media", 2),
            at("lab", 11),
            at("lab", 12),
            at("archive", 21),
        ])
        .await
        .unwrap();
    queue
        .push(&[at(ANY_LOCATION, 31), at(ANY_LOCATION, 32)])
        .await
        .unwrap();
    let locations = ["media".to_owned(), "lab".to_owned()];
    let mut ids = Vec::new();
    while let Some(id) = queue.take(&locations).await.unwrap() {
        ids.push(id.0);
    }
    // `any` first; then both locations in turn, beginning with either.
    assert_eq!(ids[..2], [31, 32]);
    assert!(
        ids[2..] == [1, 11, 2, 12] || ids[2..] == [11, 1, 12, 2],
        "{ids:?}"
    );
    assert_eq!(
        queue.take(&["archive".to_owned()]).await.unwrap(),
        Some(JobId(21))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_workers_take_each_job_once() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let companies = [CompanyId::new(), CompanyId::new(), CompanyId::new()];
    let all: Vec<QueuedJob> = (0..1200).map(|id| job(id, companies[id as usize % 3])).collect();
    let mut workers = tokio::task::JoinSet::new();
    queue.push(&all).await.unwrap();
    for _ in 0..8 {
        let queue = queue.clone();
        workers.spawn(async move { take_all(&queue).await });
    }
    let taken: Vec<i64> = workers.join_all().await.into_iter().flatten().collect();
    assert_eq!(taken.len(), 1200);
    assert_eq!(taken.into_iter().collect::<HashSet<_>>().len(), 1200);
}

#[tokio::test]
async fn a_parked_company_waits_until_it_is_put_on_the_ring_again() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let (parked, other) = (CompanyId::new(), CompanyId::new());
    queue.push(&jobs([1, 2], parked)).await.unwrap();
    queue.push(&jobs([11, 12], other)).await.unwrap();
    assert_eq!(queue.take(&media()).await.unwrap(), Some(JobId(1)));
    queue.put_back_parked(&job(1, parked)).await.unwrap();
    queue.put_back_parked(&job(1, parked)).await.unwrap();
    assert_eq!(
        queue
            .counts(&[("media".into(), parked), ("media".into(), other)])
            .await
            .unwrap(),
        [2, 2]
    );
    assert_eq!(take_all(&queue).await, [11, 12]);
    queue.ensure_ring(&[("media".to_owned(), parked)]).await.unwrap();
    queue.ensure_ring(&[("media".to_owned(), parked)]).await.unwrap();
    assert_eq!(
        take_all(&queue).await,
        [1, 2],
        "back at the head, and once on the ring"
    );
    // Nothing to do: it stays off the ring.
    queue.ensure_ring(&[("media".to_owned(), other)]).await.unwrap();
    assert_eq!(
        redis.command::<usize>(&["LLEN", "uploader:v1:ring:media"]).await,
        0
    );
}

#[tokio::test]
async fn the_ring_is_mended() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let (one, other, idle) = (CompanyId::new(), CompanyId::new(), CompanyId::new());
    queue.push(&[job(1, one), job(2, other)]).await.unwrap();
    let _: usize = redis.command(&["DEL", "uploader:v1:ring:media"]).await;
    assert_eq!(queue.take(&media()).await.unwrap(), None);
    let lines = [one, other, idle].map(|company| ("media".to_owned(), company));
    assert_eq!(queue.ensure_ring(&lines).await.unwrap(), 2);
    assert_eq!(queue.ensure_ring(&lines).await.unwrap(), 0);
    assert_eq!(take_all(&queue).await, [1, 2]);
}

#[tokio::test]
async fn missing_jobs_are_named() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let (one, other) = (CompanyId::new(), CompanyId::new());
    let all: Vec<QueuedJob> = jobs(1..=700, one)
        .into_iter()
        .chain(jobs([1, 2], other))
        .collect();
    assert_eq!(queue.missing(&all).await.unwrap(), all);
    queue.push(&all).await.unwrap();
    assert_eq!(queue.missing(&all).await.unwrap(), []);
    assert_eq!(queue.take(&media()).await.unwrap(), Some(JobId(1)));
    assert_eq!(
        queue.missing(&all).await.unwrap(),
        [job(1, one)],
        "the other company's 1 is another job"
    );
    assert_eq!(queue.missing(&[]).await.unwrap(), []);
    assert_eq!(queue.counts(&[]).await.unwrap(), [0u64; 0]);
    queue.push(&[]).await.unwrap();
}

#[tokio::test]
async fn queues_with_other_prefixes_are_apart() {
    let redis = RedisServer::start().await;
    let one = Queue::with_prefix(&redis.url(), "one:").await.unwrap();
    let other = Queue::with_prefix(&redis.url(), "other:").await.unwrap();
    one.push(&[job(1, CompanyId::new())]).await.unwrap();
    assert_eq!(other.take(&media()).await.unwrap(), None);
    assert_eq!(one.take(&media()).await.unwrap(), Some(JobId(1)));
}
