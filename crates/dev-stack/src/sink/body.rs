//! The body of a request: read, counted, and dropped.

use std::io;

use crc_fast::{CrcAlgorithm, Digest};

use super::chunks::Chunks;
use super::head::{Claim, Head};
use super::input::Input;

/// The largest document that is kept to be read.
const DOCUMENT_BYTES: usize = 16 * 1024 * 1024;

/// What to find out about a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Size,
    Checksum,
    /// The bytes themselves: of documents, not of objects.
    Document,
}

/// What was found out.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) size_bytes: u64,
    pub(super) crc64nvme: Option<u64>,
    pub(super) document: Vec<u8>,
    /// The checksum in a trailer.
    pub(super) claim: Option<Claim>,
}

/// Reads the body that follows `head`.
pub(super) fn read(input: &mut Input, head: &Head, wanted: Wanted) -> io::Result<Body> {
    let mut body = Body::default();
    let mut digest = (wanted == Wanted::Checksum).then(|| Digest::new(CrcAlgorithm::Crc64Nvme));
    let mut take = |bytes: &[u8]| {
        body.size_bytes += bytes.len() as u64;
        if let Some(digest) = &mut digest {
            digest.update(bytes);
        }
        if wanted == Wanted::Document {
            if body.document.len() + bytes.len() > DOCUMENT_BYTES {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the document is too large",
                ));
            }
            body.document.extend_from_slice(bytes);
        }
        Ok(())
    };
    let mut coded = head.is_aws_chunked.then(Chunks::default);
    let mut decode = |bytes: &[u8]| match &mut coded {
        Some(coded) => coded.feed(bytes, &mut take).map(drop),
        None => take(bytes),
    };
    let mut trailers = Vec::new();
    if head.is_chunked {
        let mut chunks = Chunks::default();
        while !chunks.is_done() {
            let count = chunks.feed(ahead(input)?, &mut decode)?;
            input.consume(count);
        }
        trailers.extend_from_slice(chunks.trailers());
    } else {
        let mut left = head.content_length;
        while left > 0 {
            let bytes = ahead(input)?;
            let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            decode(bytes.get(..count).unwrap_or_default())?;
            input.consume(count);
            left -= count as u64;
        }
    }
    if let Some(coded) = &coded {
        if !coded.is_whole() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        trailers.extend_from_slice(coded.trailers());
    }
    body.claim = trailers
        .iter()
        .find_map(|(name, value)| Claim::of_header(name, value));
    body.crc64nvme = digest.map(|digest| digest.finalize());
    Ok(body)
}

/// What there is to read, at least one byte.
fn ahead(input: &mut Input) -> io::Result<&[u8]> {
    if input.available().is_empty() && !input.fill()? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(input.available())
}
