//! The lists of waiting jobs: push, take, wait, park, and what the sweeper asks.
//!
//! Companies take turns at each location, whatever they have queued; within a company, first come, first served. Each
//! change is one script, so that no two workers see half of it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::{CompanyId, JobId};
use redis::{AsyncConnectionConfig, Script};

use crate::{
    ANY_LOCATION, CONNECT_TIMEOUT, LONGEST_WAIT, OPERATION_TIMEOUT, Queue, QueueError, QueuedJob, within,
};

/// More tokens than this would only wake workers for nothing: one that finds work wakes the next.
const MAX_WAKE_TOKENS: usize = 8;
/// Redis does nothing else while a script runs.
const JOBS_PER_SCRIPT: usize = 500;
/// BLPOP takes 0 for "for ever".
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

static PUSH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/push.lua")));
static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/take.lua")));
static PARK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/park.lua")));
static ENSURE_RING: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/ensure_ring.lua")));

/// The companies that have jobs at a location, seen by one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its place: 1 is the next to be served. `None`: it does not stand in line.
    pub place: Option<u64>,
    /// How many companies stand in line, itself included.
    pub companies: u64,
}

impl Queue {
    /// Puts jobs on their lists and wakes workers. A job that is on its list already stays where it is. Of several
    /// jobs for the head, the last one given comes first.
    ///
    /// # Errors
    /// Some or all may not have been pushed.
    pub async fn push(&self, jobs: &[QueuedJob]) -> Result<(), QueueError> {
        for jobs in jobs.chunks(JOBS_PER_SCRIPT) {
            let mut invocation = PUSH.prepare_invoke();
            invocation.arg(MAX_WAKE_TOKENS);
            for job in jobs {
                invocation
                    .key(self.keys.ready(&job.location, job.company_id))
                    .key(self.keys.ring(&job.location))
                    .key(self.keys.wake(&job.location))
                    .arg(job.id.0)
                    .arg(job.company_id.to_string())
                    .arg(u8::from(job.at_head));
            }
            self.run(async |connection| invocation.invoke_async::<()>(connection).await)
                .await?;
        }
        Ok(())
    }

    /// Takes the next job of these locations, if there is one: of [`ANY_LOCATION`] (which need not be named) first,
    /// then of each location in turn, and of each company there in turn. The caller claims it in Postgres.
    ///
    /// # Errors
    /// A job may be off its list and not here: the sweeper finds it.
    pub async fn take(&self, locations: &[String]) -> Result<Option<JobId>, QueueError> {
        self.take_except(locations, &[]).await
    }

    /// As [`Queue::take`], but none of these companies, save from [`ANY_LOCATION`]. They keep their places in line.
    ///
    /// # Errors
    /// As there.
    pub async fn take_except(
        &self,
        locations: &[String],
        companies: &[CompanyId],
    ) -> Result<Option<JobId>, QueueError> {
        let mut locations: Vec<&str> = locations.iter().map(String::as_str).collect();
        locations.retain(|location| *location != ANY_LOCATION);
        if !locations.is_empty() {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % locations.len();
            locations.rotate_left(first);
        }
        locations.insert(0, ANY_LOCATION);
        let mut invocation = TAKE.prepare_invoke();
        for location in locations {
            invocation
                .key(self.keys.ring(location))
                .key(self.keys.wake(location))
                .arg(self.keys.ready_start(location));
        }
        for company in companies {
            invocation.arg(company.to_string());
        }
        let id: Option<i64> = self
            .run(async |connection| invocation.invoke_async(connection).await)
            .await?;
        Ok(id.map(JobId))
    }

    /// Waits until a job may have come to these locations or [`ANY_LOCATION`] (`true`), or until `timeout` or
    /// [`LONGEST_WAIT`] is over (`false`). After either, [`Queue::take`] tells whether there is one: a token is a
    /// hint. May be dropped at any time.
    ///
    /// # Errors
    /// At once where Redis is down: pause before the next call.
    pub async fn wait(&self, locations: &[String], timeout: Duration) -> Result<bool, QueueError> {
        let timeout = timeout.clamp(SHORTEST_WAIT, LONGEST_WAIT);
        let mut command = redis::cmd("BLPOP");
        command.arg(self.keys.wake(ANY_LOCATION));
        for location in locations.iter().filter(|location| *location != ANY_LOCATION) {
            command.arg(self.keys.wake(location));
        }
        command.arg(timeout.as_secs_f64());
        // On a connection of its own: others would wait behind it, and it must not time out before its answer comes.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None);
        within(timeout + OPERATION_TIMEOUT, async {
            let mut connection = self
                .client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            let token: Option<(String, String)> = command.query_async(&mut connection).await?;
            Ok(token.is_some())
        })
        .await
    }

    /// Puts a job back at the head of its list and takes its company off the ring: the company has as many jobs
    /// running as it may. [`Queue::ensure_ring`] puts it on again.
    ///
    /// # Errors
    /// It may not have happened: the sweeper finds the job.
    pub async fn put_back_parked(&self, job: &QueuedJob) -> Result<(), QueueError> {
        let mut invocation = PARK.prepare_invoke();
        invocation
            .key(self.keys.ready(&job.location, job.company_id))
            .key(self.keys.ring(&job.location))
            .arg(job.id.0)
            .arg(job.company_id.to_string());
        self.run(async |connection| invocation.invoke_async(connection).await)
            .await
    }

    /// Puts those of these companies that have jobs at the location on its ring. Returns how many were not there.
    ///
    /// # Errors
    /// Some or all may not have been put.
    pub async fn ensure_ring(&self, lines: &[(String, CompanyId)]) -> Result<usize, QueueError> {
        let mut added = 0;
        for lines in lines.chunks(JOBS_PER_SCRIPT) {
            let mut invocation = ENSURE_RING.prepare_invoke();
            for (location, company) in lines {
                invocation
                    .key(self.keys.ready(location, *company))
                    .key(self.keys.ring(location))
                    .key(self.keys.wake(location))
                    .arg(company.to_string());
            }
            added += self
                .run(async |connection| invocation.invoke_async::<usize>(connection).await)
                .await?;
        }
        Ok(added)
    }

    /// How many jobs wait for each of these companies at the location, in the order given.
    ///
    /// # Errors
    /// Where Redis fails.
    pub async fn counts(&self, lines: &[(String, CompanyId)]) -> Result<Vec<u64>, QueueError> {
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for (location, company) in lines {
            pipeline.cmd("LLEN").arg(self.keys.ready(location, *company));
        }
        self.run(async |connection| pipeline.query_async(connection).await)
            .await
    }

    /// Where each of these companies stands at the location, in the order given.
    ///
    /// # Errors
    /// Where Redis fails.
    pub async fn places(&self, lines: &[(String, CompanyId)]) -> Result<Vec<Line>, QueueError> {
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for (location, company) in lines {
            let ring = self.keys.ring(location);
            pipeline.cmd("LPOS").arg(&ring).arg(company.to_string());
            pipeline.cmd("LLEN").arg(&ring);
        }
        let answers: Vec<Option<u64>> = self
            .run(async |connection| pipeline.query_async(connection).await)
            .await?;
        let line = |answer: &[Option<u64>; 2]| Line {
            place: answer[0].map(|before| before + 1),
            companies: answer[1].unwrap_or(0),
        };
        Ok(answers.as_chunks().0.iter().map(line).collect())
    }

    /// Which of these jobs are not on their lists, in the order given. Reads each list whole: ask [`Queue::counts`]
    /// first.
    ///
    /// # Errors
    /// Where Redis fails.
    pub async fn missing(&self, jobs: &[QueuedJob]) -> Result<Vec<QueuedJob>, QueueError> {
        let mut present: HashMap<String, HashSet<i64>> = HashMap::new();
        for job in jobs {
            let key = self.keys.ready(&job.location, job.company_id);
            if let Entry::Vacant(list) = present.entry(key) {
                let mut command = redis::cmd("LRANGE");
                command.arg(list.key()).arg(0).arg(-1);
                let ids = self
                    .run(async |connection| command.query_async(connection).await)
                    .await?;
                list.insert(ids);
            }
        }
        let is_missing = |job: &&QueuedJob| {
            let list = present.get(&self.keys.ready(&job.location, job.company_id));
            list.is_none_or(|list| !list.contains(&job.id.0))
        };
        Ok(jobs.iter().filter(is_missing).cloned().collect())
    }
}
