//! Bodies on their way: sent in pieces so that progress can be seen, and given up when there is none.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Small enough that a slow line shows progress within any idle time-out, large enough to cost nothing.
const PIECE_BYTES: usize = 256 << 10;

/// Counts what moved, in either direction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicU64>);

impl Progress {
    pub(crate) fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn steps(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The body of a request. The bytes are shared, so that sending them again costs no copy.
#[derive(Debug)]
pub(crate) struct Payload {
    rest: Bytes,
    progress: Progress,
}

impl Payload {
    pub(crate) fn new(bytes: Bytes, progress: Progress) -> Self {
        Self {
            rest: bytes,
            progress,
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        self.progress.step();
        let size = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(size)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// Why a request was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// Nothing moved for this long.
    Idle(Duration),
    /// It took longer than this altogether.
    Whole(Duration),
}

/// Waits for `work` as long as there is progress, and at most `whole`.
pub(crate) async fn within<T>(
    work: impl Future<Output = T>,
    progress: &Progress,
    idle: Duration,
    whole: Duration,
) -> Result<T, GivenUp> {
    let mut work = pin!(work);
    let deadline = Instant::now() + whole;
    let mut seen = progress.steps();
    loop {
        let look = (Instant::now() + idle).min(deadline);
        tokio::select! {
            biased;
            result = &mut work => return Ok(result),
            () = sleep_until(look) => {}
        }
        if look == deadline {
            return Err(GivenUp::Whole(whole));
        }
        let now = progress.steps();
        if now == seen {
            return Err(GivenUp::Idle(idle));
        }
        seen = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_payload_arrives_whole_and_in_pieces() {
        let bytes = Bytes::from(vec![7; PIECE_BYTES * 2 + 1]);
        let progress = Progress::default();
        let payload = Payload::new(bytes.clone(), progress.clone());
        assert_eq!(payload.size_hint().exact(), Some(bytes.len() as u64));
        assert_eq!(payload.collect().await.unwrap().to_bytes(), bytes);
        assert_eq!(progress.steps(), 3);
    }

    #[tokio::test]
    async fn standing_still_and_taking_too_long_are_given_up() {
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(60));
        let still = within(std::future::pending::<()>(), &Progress::default(), short, long).await;
        assert_eq!(still, Err(GivenUp::Idle(short)));

        let moving = |steps: u32| {
            let progress = Progress::default();
            let seen = progress.clone();
            let work = async move {
                for _ in 0..steps {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    progress.step();
                }
            };
            (work, seen)
        };
        let idle = Duration::from_millis(400);
        let (slow, progress) = moving(50);
        assert_eq!(within(slow, &progress, idle, long).await, Ok(()));

        let (endless, progress) = moving(u32::MAX);
        assert_eq!(
            within(endless, &progress, idle, idle * 2).await,
            Err(GivenUp::Whole(idle * 2))
        );
    }
}
