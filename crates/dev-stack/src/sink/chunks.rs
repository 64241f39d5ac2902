//! Chunked bodies: HTTP's own chunks and those of `aws-chunked`, which have the same form. A size in hexadecimal with
//! extensions behind `;` (AWS has its signatures there), the bytes, at last a chunk of size 0 with trailers.

use std::io;

/// The longest line that is taken.
const LINE_BYTES: usize = 8 * 1024;

/// Takes a chunked body apart, in whatever pieces it comes.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    line: Vec<u8>,
    trailers: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Done,
}

impl Chunks {
    /// Gives the payload in `bytes` to `take`, and tells how many of `bytes` are of this body: all, unless it ends.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() && self.state != State::Done {
            if let State::Data(left) = self.state {
                let count = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                let (data, behind) = rest.split_at(count);
                take(data)?;
                rest = behind;
                self.state = match left - count as u64 {
                    0 => State::DataEnd,
                    left => State::Data(left),
                };
            } else {
                rest = self.line(rest)?;
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// The whole body was there. A body that ends with its last chunk, before the empty line, is whole, too.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.state, State::Done | State::Trailer)
    }

    /// The empty line behind the trailers was there.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What came behind the last chunk, as names and values.
    pub(super) fn trailers(&self) -> &[(String, String)] {
        &self.trailers
    }

    /// Takes a line, or the beginning of one, and gives what is behind it.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (part, rest) = match end {
            Some(end) => (bytes.get(..end), bytes.get(end + 1..)),
            None => (Some(bytes), None),
        };
        self.line.extend_from_slice(part.unwrap_or_default());
        if self.line.len() > LINE_BYTES {
            return Err(invalid("a line of a chunk is too long"));
        }
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            self.whole_line(line.strip_suffix(b"\r").unwrap_or(&line))?;
        }
        Ok(rest.unwrap_or_default())
    }

    fn whole_line(&mut self, line: &[u8]) -> io::Result<()> {
        let line = std::str::from_utf8(line).map_err(|_| invalid("a line of a chunk is no text"))?;
        self.state = match self.state {
            State::Size => {
                let size = line.split(';').next().unwrap_or_default().trim();
                match u64::from_str_radix(size, 16) {
                    Ok(0) => State::Trailer,
                    Ok(size_bytes) => State::Data(size_bytes),
                    Err(_) => return Err(invalid("a chunk has no size")),
                }
            }
            State::DataEnd if line.is_empty() => State::Size,
            State::DataEnd => return Err(invalid("a chunk is longer than it says")),
            _ if line.is_empty() => State::Done,
            state => {
                if let Some((name, value)) = line.split_once(':') {
                    self.trailers
                        .push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
                }
                state
            }
        };
        Ok(())
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The payload, how much of the body was taken, and the decoder.
    fn decoded(body: &[u8], piece_bytes: usize) -> io::Result<(Vec<u8>, usize, Chunks)> {
        let (mut chunks, mut payload, mut taken) = (Chunks::default(), Vec::new(), 0);
        for piece in body.chunks(piece_bytes) {
            let count = chunks.feed(piece, &mut |data| {
                payload.extend_from_slice(data);
                Ok(())
            })?;
            taken += count;
            if count < piece.len() {
                break;
            }
        }
        Ok((payload, taken, chunks))
    }

    #[test]
    fn a_signed_body_with_trailers_is_read_in_any_pieces() {
        let body = b"5;chunk-signature=ad80\r\nhello\r\nB;chunk-signature=00\r\n big\r\nworld\r\n0;chunk-signature=b6\r\n\
            x-amz-checksum-crc64nvme: AAAAAAAAAAA=\r\nX-Amz-Trailer-Signature:d8\r\n\r\nGET / HTTP/1.1";
        for piece_bytes in 1..=body.len() {
            let (payload, taken, chunks) = decoded(body, piece_bytes).unwrap();
            assert_eq!(payload, b"hello big\r\nworld");
            assert_eq!(body.get(taken..), Some(b"GET / HTTP/1.1".as_slice()));
            assert!(chunks.is_done() && chunks.is_whole());
            let trailers: Vec<&str> = chunks.trailers().iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(trailers, ["x-amz-checksum-crc64nvme", "x-amz-trailer-signature"]);
            assert_eq!(chunks.trailers()[0].1, "AAAAAAAAAAA=");
        }
    }

    #[test]
    fn an_empty_body_and_one_without_its_last_line_are_whole() {
        let (payload, _, chunks) = decoded(b"0\r\n\r\n", 2).unwrap();
        assert!(payload.is_empty() && chunks.is_done());
        let (payload, _, chunks) = decoded(b"1\r\nx\r\n0\r\n", 3).unwrap();
        assert!(payload == b"x" && chunks.is_whole() && !chunks.is_done());
        let (_, _, chunks) = decoded(b"5\r\nhel", 3).unwrap();
        assert!(!chunks.is_whole());
    }

    #[test]
    fn what_is_not_chunked_is_refused() {
        for body in [&b"hello\r\n"[..], b"\r\n", b"3\r\nhello\r\n", b"-1\r\n"] {
            assert!(decoded(body, 64).is_err(), "{body:?}");
        }
        assert!(decoded(&[b'1'; LINE_BYTES + 1], 64).is_err());
    }
}
