//! What a client sends, read through a buffer of its connection.

use std::io::{self, Read as _};
use std::net::TcpStream;

/// Large enough for the head of a request with a small body, and for a loopback segment or two of a large one; small
/// enough to stay in the processor's cache.
const BUFFER_BYTES: usize = 128 * 1024;

/// The reading side of a connection.
pub(super) struct Input {
    stream: TcpStream,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// What was read and not consumed.
    pub(super) fn available(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads more behind what is available; false at the end of the stream.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if self.end == self.buffer.len() {
            if self.start == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the head is too large",
                ));
            }
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let count = self.stream.read(room)?;
        self.end += count;
        Ok(count > 0)
    }
}
