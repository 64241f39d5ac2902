//! The head of a request, as far as the sink cares.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::percent_decode_str;

use super::input::Input;
use crate::s3::checksums::Algorithm;

const MOST_HEADERS: usize = 100;

/// A checksum as a client told it, in base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) algorithm: Algorithm,
    pub(super) value: Box<str>,
}

impl Claim {
    /// Of a header or trailer, when it is one with a checksum.
    pub(super) fn of_header(name: &str, value: &str) -> Option<Self> {
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|algorithm| name.eq_ignore_ascii_case(algorithm.header()))?;
        Some(Self {
            algorithm,
            value: value.into(),
        })
    }
}

/// The head of a request.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) method: String,
    /// Bucket and key, decoded, without the slash at the beginning.
    pub(super) path: String,
    query: String,
    pub(super) content_length: u64,
    pub(super) is_chunked: bool,
    pub(super) is_aws_chunked: bool,
    pub(super) expects_continue: bool,
    /// The client goes when it has its answer.
    pub(super) closes: bool,
    pub(super) md5: Option<[u8; 16]>,
    pub(super) claim: Option<Claim>,
    /// `x-amz-checksum-type` is FULL_OBJECT.
    pub(super) is_full_object: bool,
    pub(super) is_copy: bool,
}

impl Head {
    /// Reads the next one; none at the end of the stream.
    pub(super) fn read(input: &mut Input) -> io::Result<Option<Self>> {
        loop {
            let available = input.available();
            if !available.is_empty() {
                let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
                let mut request = httparse::Request::new(&mut headers);
                match request.parse(available) {
                    Ok(httparse::Status::Complete(length)) => {
                        let head = Self::of(&request);
                        input.consume(length);
                        return Ok(Some(head));
                    }
                    Ok(httparse::Status::Partial) => {}
                    Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                }
            }
            if !input.fill()? {
                return Ok(None);
            }
        }
    }

    fn of(request: &httparse::Request<'_, '_>) -> Self {
        let target = request.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = percent_decode_str(path.trim_start_matches('/'));
        let mut head = Self {
            method: request.method.unwrap_or_default().to_owned(),
            path: path.decode_utf8_lossy().into_owned(),
            query: query.to_owned(),
            ..Self::default()
        };
        for header in &*request.headers {
            if let Ok(value) = std::str::from_utf8(header.value) {
                head.take(header.name, value.trim());
            }
        }
        head
    }

    fn take(&mut self, name: &str, value: &str) {
        let has = |word: &str| value.to_ascii_lowercase().contains(word);
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("content-length") {
            self.content_length = value.parse().unwrap_or(0);
        } else if is("transfer-encoding") {
            self.is_chunked = has("chunked");
        } else if is("content-encoding") {
            self.is_aws_chunked |= has("aws-chunked");
        } else if is("x-amz-content-sha256") {
            self.is_aws_chunked |= value.starts_with("STREAMING-");
        } else if is("expect") {
            self.expects_continue = has("100-continue");
        } else if is("connection") {
            self.closes = has("close");
        } else if is("content-md5") {
            self.md5 = BASE64.decode(value).ok().and_then(|md5| md5.try_into().ok());
        } else if is("x-amz-checksum-type") {
            self.is_full_object = has("full_object");
        } else if is("x-amz-copy-source") {
            self.is_copy = true;
        } else if let Some(claim) = Claim::of_header(name, value) {
            self.claim = Some(claim);
        }
    }

    /// A parameter of the query, decoded.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.replace('+', " ");
            (found == name).then(|| percent_decode_str(&value).decode_utf8_lossy().into_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        assert!(request.parse(text.as_bytes()).unwrap().is_complete());
        Head::of(&request)
    }

    #[test]
    fn a_part_is_told_from_its_head() {
        let head = head(
            "PUT /bucket/a%20b/%2B+.bin?partNumber=7&uploadId=a%2Fb&x HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\
             Expect: 100-Continue\r\nContent-MD5: XUFAKrxLKna5cZ2REBfFkg==\r\nX-Amz-Checksum-Crc32C: AAAAAA==\r\n\r\n",
        );
        assert_eq!(head.path, "bucket/a b/++.bin");
        assert_eq!(head.parameter("partNumber").as_deref(), Some("7"));
        assert_eq!(head.parameter("uploadId").as_deref(), Some("a/b"));
        assert_eq!(head.parameter("x").as_deref(), Some(""));
        assert_eq!(head.parameter("uploads"), None);
        assert!(head.expects_continue && !head.closes && !head.is_chunked && !head.is_aws_chunked);
        assert_eq!(head.content_length, 12);
        assert_eq!(hex::encode(head.md5.unwrap()), "5d41402abc4b2a76b9719d911017c592");
        assert_eq!(head.claim.unwrap().algorithm, Algorithm::Crc32c);
    }

    #[test]
    fn both_signs_of_aws_chunked_are_seen() {
        for sign in [
            "content-encoding: aws-chunked,gzip",
            "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        ] {
            assert!(
                head(&format!("PUT /b/k HTTP/1.1\r\n{sign}\r\n\r\n")).is_aws_chunked,
                "{sign}"
            );
        }
        assert!(!head("PUT /b/k HTTP/1.1\r\nx-amz-content-sha256: UNSIGNED-PAYLOAD\r\n\r\n").is_aws_chunked);
    }
}
