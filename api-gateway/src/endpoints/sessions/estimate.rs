//! How long an upload may take: from what others took, and from nothing else.

use database::plans::Achieved;
use domain::plan::Amount;
use queue::Pace;
use serde::Serialize;
use utoipa::ToSchema;

/// From how much less than is planned nobody concludes anything.
const MAX_TIMES: f64 = 100.0;

/// How long an upload may take once it has begun, if it goes as it did with others.
///
/// Files cost time, and bytes do; nobody knows how much of it each. So the range goes from all for the one to all for the
/// other, and is the narrower the more the files are like those that were sent before.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Estimate {
    /// Not less, in seconds.
    low_s: u64,
    /// Not more, in seconds.
    high_s: u64,
    basis: Basis,
    /// From how many ended sessions; null where it is from none.
    sessions: Option<i64>,
}

/// What an estimate is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Basis {
    /// The latest sessions of the project, 20 at most.
    ProjectSessions,
    /// The latest sessions of the company, 20 at most, for the project has none.
    CompanySessions,
    /// What the workers that serve the source root got done in the last minute, for whomever.
    WorkersPace,
}

/// Why there is no estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum NoEstimate {
    /// There is nothing to send.
    NothingToSend,
    /// No session of the company has ended, and no worker has sent anything lately.
    NothingKnown,
    /// What was sent before is less than a hundredth of this.
    TooLittleKnown,
}

/// What is to be sent, and under which limit.
pub(super) struct Task {
    /// What is sent for sure.
    pub least: Amount,
    /// What may have to be.
    pub most: Amount,
    /// In bytes a second.
    pub bandwidth_limit: Option<u64>,
}

impl Task {
    /// From the first of these that tells anything.
    pub(super) fn estimate(&self, known: &[(Basis, Achieved)]) -> Result<Estimate, NoEstimate> {
        if self.most.files == 0 {
            return Err(NoEstimate::NothingToSend);
        }
        let (basis, achieved) = known
            .iter()
            .find(|(_, achieved)| achieved.files > 0 && achieved.seconds > 0.0)
            .ok_or(NoEstimate::NothingKnown)?;
        let (low, _) = times(self.least, achieved).ok_or(NoEstimate::TooLittleKnown)?;
        let (_, high) = times(self.most, achieved).ok_or(NoEstimate::TooLittleKnown)?;
        if high > MAX_TIMES {
            return Err(NoEstimate::TooLittleKnown);
        }
        let by_limit = |amount: Amount| match self.bandwidth_limit {
            Some(limit) => amount.size_bytes / limit.max(1),
            None => 0,
        };
        Ok(Estimate {
            low_s: whole((low * achieved.seconds).floor()).max(by_limit(self.least)),
            high_s: whole((high * achieved.seconds).ceil()).max(by_limit(self.most)),
            basis: *basis,
            sessions: (achieved.sessions > 0).then_some(achieved.sessions),
        })
    }
}

/// How many times what was achieved this is, by files or by bytes: the smaller and the larger. `None`: of bytes nothing
/// is known.
fn times(amount: Amount, achieved: &Achieved) -> Option<(f64, f64)> {
    let by_files = amount.files as f64 / achieved.files as f64;
    let by_bytes = match (amount.size_bytes, achieved.bytes) {
        (0, 0) => by_files,
        (_, 0) => return None,
        (bytes, achieved) => bytes as f64 / achieved as f64,
    };
    Some((by_files.min(by_bytes), by_files.max(by_bytes)))
}

/// Of a time that is finite and positive.
fn whole(seconds: f64) -> u64 {
    seconds as u64
}

/// What is done in a minute at this pace.
pub(super) fn in_a_minute(pace: Pace) -> Achieved {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    Achieved {
        sessions: 0,
        files: count(pace.files_per_min),
        bytes: count(pace.bytes_per_min),
        seconds: 60.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(files: u64, size_bytes: u64) -> Amount {
        Amount { files, size_bytes }
    }

    fn task(least: Amount, most: Amount) -> Task {
        Task {
            least,
            most,
            bandwidth_limit: None,
        }
    }

    fn achieved(sessions: i64, files: i64, bytes: i64, seconds: f64) -> Achieved {
        Achieved {
            sessions,
            files,
            bytes,
            seconds,
        }
    }

    #[test]
    fn files_cost_time_and_bytes_do() {
        let known = [(Basis::ProjectSessions, achieved(3, 100, 10_000, 60.0))];
        let range = |files, size_bytes| {
            let amount = amount(files, size_bytes);
            let estimate = task(amount, amount).estimate(&known).unwrap();
            (estimate.low_s, estimate.high_s)
        };
        // The like takes what it took, twice as much twice the time.
        assert_eq!(range(100, 10_000), (60, 60));
        assert_eq!(range(200, 20_000), (120, 120));
        // Few large files, and many small ones.
        assert_eq!(range(1, 20_000), (0, 120));
        assert_eq!(range(400, 5_000), (30, 240));
        assert_eq!(range(50, 0), (0, 30));
    }

    #[test]
    fn what_may_have_to_be_sent_widens_the_range_and_a_limit_lifts_it() {
        let known = [(Basis::CompanySessions, achieved(1, 10, 1_000, 10.0))];
        let mut task = task(amount(10, 1_000), amount(30, 3_000));
        let expected = |low_s, high_s| {
            Ok(Estimate {
                low_s,
                high_s,
                basis: Basis::CompanySessions,
                sessions: Some(1),
            })
        };
        assert_eq!(task.estimate(&known), expected(10, 30));
        task.bandwidth_limit = Some(50);
        assert_eq!(task.estimate(&known), expected(20, 60));
        task.bandwidth_limit = Some(1_000_000);
        assert_eq!(task.estimate(&known), expected(10, 30));
    }

    #[test]
    fn the_first_that_tells_anything_counts() {
        let pace = in_a_minute(Pace {
            jobs_per_min: 1,
            files_per_min: 20,
            bytes_per_min: 2_000,
        });
        let known = [
            (Basis::ProjectSessions, achieved(0, 0, 0, 0.0)),
            (Basis::WorkersPace, pace),
        ];
        let one = amount(10, 1_000);
        let estimate = task(one, one).estimate(&known).unwrap();
        assert_eq!((estimate.basis, estimate.sessions), (Basis::WorkersPace, None));
        assert_eq!((estimate.low_s, estimate.high_s), (30, 30));
    }

    #[test]
    fn nothing_is_made_up() {
        let nothing = [(Basis::WorkersPace, in_a_minute(Pace::default()))];
        let (none, one) = (amount(0, 0), amount(1, 1_000));
        assert_eq!(
            task(none, none).estimate(&nothing),
            Err(NoEstimate::NothingToSend)
        );
        assert_eq!(task(one, one).estimate(&nothing), Err(NoEstimate::NothingKnown));
        for little in [achieved(1, 1, 9, 1.0), achieved(1, 1, 0, 1.0)] {
            let known = [(Basis::ProjectSessions, little)];
            assert_eq!(task(one, one).estimate(&known), Err(NoEstimate::TooLittleKnown));
        }
        assert!(
            task(one, one)
                .estimate(&[(Basis::ProjectSessions, achieved(1, 1, 10, 1.0))])
                .is_ok()
        );
    }
}
