//! A request's body that can still be read after the service has answered without doing so.
//!
//! A server that answers before it has read the body must close the connection, and a client that has just been
//! given the answer, and sends its next request on that connection, then sees it break off. Reading the rest first,
//! as far as that is little, spares clients this.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::weather::Weather;

/// How much of a body that nobody wants is read, at most.
const REST_LIMIT_BYTES: usize = 1024 * 1024;

/// A body; clones read on where the others stopped.
#[derive(Clone)]
pub(super) struct RequestBody {
    incoming: Arc<Mutex<Incoming>>,
    /// Told how much has arrived.
    counter: Option<Weather>,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, counter: Option<Weather>) -> Self {
        Self {
            incoming: Arc::new(Mutex::new(incoming)),
            counter,
        }
    }

    /// Reads what is left, and throws it away. False when that is too much, or breaks off.
    pub(super) async fn drain(mut self) -> bool {
        let mut left_bytes = REST_LIMIT_BYTES;
        while let Some(frame) = self.frame().await {
            let Ok(frame) = frame else { return false };
            let size_bytes = frame.data_ref().map_or(0, Bytes::len);
            match left_bytes.checked_sub(size_bytes) {
                Some(left) => left_bytes = left,
                None => return false,
            }
        }
        true
    }

    fn incoming(&self) -> std::sync::MutexGuard<'_, Incoming> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut *self.incoming()).poll_frame(context);
        if let (Some(counter), Poll::Ready(Some(Ok(frame)))) = (&self.counter, &polled) {
            counter.count_received(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming().size_hint()
    }
}
