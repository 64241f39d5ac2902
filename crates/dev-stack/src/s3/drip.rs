//! A connection that can be made to pass a byte a second.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::weather::Weather;

const EVERY: Duration = Duration::from_secs(1);
const NEVER: u64 = u64::MAX;

/// Makes its connection slow, for as long as the trouble lasts that it began with.
#[derive(Clone, Debug)]
pub(super) struct Drip {
    weather: Weather,
    since: Arc<AtomicU64>,
}

impl Drip {
    pub(super) fn new(weather: Weather) -> Self {
        Self {
            weather,
            since: Arc::new(AtomicU64::new(NEVER)),
        }
    }

    /// From now on, until there is other trouble than that of `change`.
    pub(super) fn begin(&self, change: u64) {
        self.since.store(change, Ordering::Relaxed);
    }

    fn is_slow(&self) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since != NEVER && since == self.weather.change()
    }
}

/// A connection, slow while its [`Drip`] says so.
pub(super) struct Dripping {
    stream: TcpStream,
    drip: Drip,
    read: Pin<Box<Sleep>>,
    write: Pin<Box<Sleep>>,
}

impl Dripping {
    pub(super) fn new(stream: TcpStream, drip: Drip) -> Self {
        Self {
            stream,
            drip,
            read: Box::pin(tokio::time::sleep(EVERY)),
            write: Box::pin(tokio::time::sleep(EVERY)),
        }
    }
}

fn again(sleep: &mut Pin<Box<Sleep>>) {
    sleep.as_mut().reset(Instant::now() + EVERY);
}

impl AsyncRead for Dripping {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.drip.is_slow() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        ready!(self.read.as_mut().poll(context));
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut one))?;
        buffer.put_slice(one.filled());
        again(&mut self.read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Dripping {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.drip.is_slow() {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        ready!(self.write.as_mut().poll(context));
        let one = bytes.get(..1).unwrap_or_default();
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, one))?;
        again(&mut self.write);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
