//! HTTP by hand, as much as the floor needs.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context as _, bail};

const PIECE_BYTES: usize = 256 * 1024;
const HEAD_BYTES: usize = 4 * 1024;
const ANSWER_BYTES: usize = 64 * 1024;

/// Where files go.
pub(super) struct Target<'a> {
    /// Host and port.
    pub(super) address: &'a str,
    /// What the paths of all requests begin with.
    pub(super) path: String,
}

/// A good answer.
pub(super) struct Answer {
    pub(super) etag: String,
    pub(super) body: String,
}

/// One connection that is kept.
pub(super) struct Connection<'a> {
    target: &'a Target<'a>,
    stream: TcpStream,
    /// Room for a head and a piece behind it, so that both go in one write.
    buffer: Vec<u8>,
    answer: Vec<u8>,
}

impl<'a> Connection<'a> {
    pub(super) fn open(target: &'a Target<'a>) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(target.address).with_context(|| format!("cannot reach {}", target.address))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            target,
            stream,
            buffer: vec![0; HEAD_BYTES + PIECE_BYTES],
            answer: vec![0; ANSWER_BYTES],
        })
    }

    /// Puts the head of a request into the buffer, and tells its length.
    fn begin(&mut self, method: &str, path: &str, size_bytes: u64) -> anyhow::Result<usize> {
        let Target { address, path: base } = self.target;
        let mut space = self.buffer.get_mut(..HEAD_BYTES).unwrap_or_default();
        write!(
            space,
            "{method} {base}{path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {size_bytes}\r\n\r\n"
        )
        .context("the path is too long")?;
        Ok(HEAD_BYTES - space.len())
    }

    pub(super) fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Answer> {
        let head_bytes = self.begin(method, path, body.len() as u64)?;
        self.stream
            .write_all(self.buffer.get(..head_bytes).unwrap_or_default())?;
        self.stream.write_all(body)?;
        self.answer()
    }

    /// Reads a piece of a file and puts it.
    pub(super) fn send(
        &mut self,
        path: &str,
        source: &Path,
        offset: u64,
        size_bytes: u64,
    ) -> anyhow::Result<Answer> {
        let mut file = File::open(source)?;
        if offset > 0 {
            file.seek(SeekFrom::Start(offset))?;
        }
        let mut filled = self.begin("PUT", path, size_bytes)?;
        let mut left = size_bytes;
        loop {
            let count = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            let space = self.buffer.get_mut(filled..filled + count);
            file.read_exact(space.unwrap_or_default())
                .with_context(|| format!("cannot read {}", source.display()))?;
            self.stream
                .write_all(self.buffer.get(..filled + count).unwrap_or_default())?;
            left -= count as u64;
            filled = 0;
            if left == 0 {
                return self.answer();
            }
        }
    }

    fn answer(&mut self) -> anyhow::Result<Answer> {
        let mut count = 0;
        loop {
            let space = self.answer.get_mut(count..).unwrap_or_default();
            let read = self.stream.read(space)?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            count += read;
            if let Some(answer) = parse(self.answer.get(..count).unwrap_or_default())? {
                return Ok(answer);
            }
        }
    }
}

/// The answer, when all of it is there.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<Answer>> {
    let text = std::str::from_utf8(bytes)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Ok(None);
    };
    let length: usize = match between(head, "Content-Length: ", "\r\n").or(behind(head, "Content-Length: ")) {
        Some(length) => length.parse()?,
        None => 0,
    };
    if body.len() < length {
        return Ok(None);
    }
    if !head.starts_with("HTTP/1.1 200") {
        bail!("refused: {text}");
    }
    let etag = between(head, "ETag: ", "\r\n").unwrap_or_default().to_owned();
    let body = body.to_owned();
    Ok(Some(Answer { etag, body }))
}

pub(super) fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

fn behind<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_when_all_of_it_is_there() {
        let text = "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 4\r\n\r\nbody";
        assert!(parse(&text.as_bytes()[..text.len() - 1]).unwrap().is_none());
        let answer = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!((answer.etag.as_str(), answer.body.as_str()), ("\"x\"", "body"));
        assert!(parse(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").is_err());
    }
}
