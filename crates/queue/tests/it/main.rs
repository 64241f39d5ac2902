//! The queue over a real Redis.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bandwidth;
mod hints;
mod lists;
mod live;
mod outages;
mod redis_server;
mod waiting;
mod workers;

use domain::{CompanyId, JobId};
use queue::QueuedJob;

/// A waiting job at the location `media`.
fn job(id: i64, company: CompanyId) -> QueuedJob {
    QueuedJob {
        id: JobId(id),
        company_id: company,
        location: "media".to_owned(),
        at_head: false,
    }
}

fn jobs(ids: impl IntoIterator<Item = i64>, company: CompanyId) -> Vec<QueuedJob> {
    ids.into_iter().map(|id| job(id, company)).collect()
}

/// The one location most tests serve.
fn media() -> Vec<String> {
    vec!["media".to_owned()]
}

/// Services run these on any thread: each operation's future must be `Send`. Never run, only compiled.
#[allow(dead_code, reason = "compiling it is the test")]
fn operations_may_move_between_threads(queue: &queue::Queue) {
    fn assert_send(_: impl Send) {}
    let (session, company) = (domain::SessionId::new(), CompanyId::new());
    let waiting = job(1, company);
    let live = queue::Live::default();
    assert_send(queue::Queue::connect(""));
    assert_send(queue.push(&[]));
    assert_send(queue.take(&[]));
    assert_send(queue.take_except(&[], &[company]));
    assert_send(queue.wait(&[], queue::LONGEST_WAIT));
    assert_send(queue.put_back_parked(&waiting));
    assert_send(queue.ensure_ring(&[]));
    assert_send(queue.counts(&[]));
    assert_send(queue.missing(&[]));
    assert_send(queue.set_live(session, "", &live));
    assert_send(queue.clear_live(session, ""));
    assert_send(queue.live(session));
    assert_send(queue.places(&[]));
    assert_send(async {
        for worker in queue.workers().await? {
            queue.tell_worker(&worker).await?;
        }
        queue.forget_worker("").await
    });
    assert_send(queue.publish_progress(session));
    assert_send(queue.publish_stop(session));
    assert_send(queue.ping());
}
