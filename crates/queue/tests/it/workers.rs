//! Workers tell that they are alive, and are forgotten when they do not.

use std::time::Duration;

use chrono::DateTime;
use domain::CompanyId;
use queue::{FORGOTTEN_AFTER_S, Line, Pace, RunningJobs, WorkerInfo};

use crate::job;
use crate::redis_server::RedisServer;

fn worker(id: &str, upload: usize) -> WorkerInfo {
    WorkerInfo {
        id: id.to_owned(),
        locations: vec!["media".to_owned(), "lab@ACME".to_owned()],
        slots: 64,
        running: RunningJobs {
            upload,
            ..RunningJobs::default()
        },
        pace: Pace {
            jobs_per_min: 3,
            ..Pace::default()
        },
        version: "1.2.3".to_owned(),
        started_at: DateTime::from_timestamp_nanos(7),
    }
}

#[tokio::test]
async fn a_worker_is_listed_as_it_told_last_until_it_leaves() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    assert_eq!(queue.workers().await.unwrap(), []);
    queue.tell_worker(&worker("b", 1)).await.unwrap();
    queue.tell_worker(&worker("a", 1)).await.unwrap();
    queue.tell_worker(&worker("b", 2)).await.unwrap();
    assert_eq!(queue.workers().await.unwrap(), [worker("a", 1), worker("b", 2)]);
    queue.forget_worker("a").await.unwrap();
    assert_eq!(queue.workers().await.unwrap(), [worker("b", 2)]);
    let _: String = redis.command(&["FLUSHALL"]).await;
    assert_eq!(queue.workers().await.unwrap(), []);
    queue.tell_worker(&worker("b", 2)).await.unwrap();
    assert_eq!(queue.workers().await.unwrap(), [worker("b", 2)]);
}

#[test]
fn the_pace_of_several_is_the_sum() {
    let pace = |number| Pace {
        jobs_per_min: number,
        files_per_min: 10 * number,
        bytes_per_min: 100 * number,
    };
    assert_eq!([pace(1), pace(2)].into_iter().sum::<Pace>(), pace(3));
}

#[tokio::test]
async fn who_falls_silent_is_forgotten_and_leaves_nothing_behind() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    queue.tell_worker(&worker("a", 1)).await.unwrap();
    for key in ["uploader:v1:worker:a", "uploader:v1:workers"] {
        let left_s: i64 = redis.command(&["TTL", key]).await;
        assert!(
            (1..=i64::try_from(FORGOTTEN_AFTER_S).unwrap() + 1).contains(&left_s),
            "{key}: {left_s}"
        );
    }
    // As its time ends.
    let _: i64 = redis.command(&["PEXPIRE", "uploader:v1:worker:a", "0"]).await;
    assert_eq!(queue.workers().await.unwrap(), []);
    // As if it had told last long ago: the next one to tell drops it from the index.
    let _: i64 = redis.command(&["ZADD", "uploader:v1:workers", "1000", "a"]).await;
    queue.tell_worker(&worker("b", 1)).await.unwrap();
    let ids: Vec<String> = redis.command(&["ZRANGE", "uploader:v1:workers", "0", "-1"]).await;
    assert_eq!(ids, ["b"]);
}

#[tokio::test]
async fn each_company_knows_its_place_in_line() {
    let redis = RedisServer::start().await;
    let queue = redis.queue().await;
    let (first, second, nobody) = (CompanyId::new(), CompanyId::new(), CompanyId::new());
    let lines = [first, second, nobody].map(|company| ("media".to_owned(), company));
    let places = async || {
        let lines = queue.places(&lines).await.unwrap();
        assert!(lines.iter().all(|line| line.companies == lines[0].companies));
        (
            lines.iter().map(|line| line.place).collect::<Vec<_>>(),
            lines[0].companies,
        )
    };
    assert_eq!(places().await, (vec![None, None, None], 0));
    queue
        .push(&[job(1, first), job(2, second), job(3, first)])
        .await
        .unwrap();
    assert_eq!(places().await, (vec![Some(1), Some(2), None], 2));
    // The one that was served stands last, for it has another job.
    queue.take(&["media".to_owned()]).await.unwrap();
    assert_eq!(places().await, (vec![Some(2), Some(1), None], 2));
    queue.put_back_parked(&job(1, first)).await.unwrap();
    assert_eq!(places().await, (vec![None, Some(1), None], 1));
    let elsewhere = queue.places(&[("lab".to_owned(), first)]).await.unwrap();
    assert_eq!(
        elsewhere,
        [Line {
            place: None,
            companies: 0
        }]
    );
}

#[tokio::test]
async fn one_of_all_workers_sweeps_in_an_interval() {
    let redis = RedisServer::start().await;
    let (one, other) = (redis.queue().await, redis.queue().await);
    let hour = Duration::from_secs(3600);
    assert!(one.take_sweep(hour).await.unwrap());
    assert!(!other.take_sweep(hour).await.unwrap());
    assert!(!one.take_sweep(hour).await.unwrap());
    let _: String = redis.command(&["FLUSHALL"]).await;
    assert!(other.take_sweep(Duration::from_millis(1)).await.unwrap());
    while !one.take_sweep(Duration::from_millis(1)).await.unwrap() {}
}
