//! Answers, written in one piece.

use std::fmt::Write as _;

use super::store::Object;

/// An answer to be sent.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    headers: String,
    body: String,
    /// What a HEAD request is told of the body that it does not get.
    told_length: Option<u64>,
}

impl Answer {
    pub(super) fn empty(status: u16) -> Self {
        Self {
            status,
            headers: String::new(),
            body: String::new(),
            told_length: None,
        }
    }

    pub(super) fn text(body: String) -> Self {
        Self {
            body,
            ..Self::empty(200)
        }
        .header("Content-Type", "text/plain")
    }

    /// A document; its root element and what is in it.
    pub(super) fn xml(root: &str, contents: &str) -> Self {
        Self {
            body: format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 {contents}</{root}>"
            ),
            ..Self::empty(200)
        }
        .header("Content-Type", "application/xml")
    }

    /// An error as S3 tells it.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        Self {
            body: format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"),
            ..Self::empty(status)
        }
        .header("Content-Type", "application/xml")
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        // Writing to a text does not fail.
        let _ = write!(self.headers, "{name}: {value}\r\n");
        self
    }

    /// ETag and checksum of an object, or of a part.
    pub(super) fn of(mut self, object: &Object) -> Self {
        let _ = write!(self.headers, "ETag: \"{}\"\r\n", object.etag);
        if let Some(claim) = &object.claim {
            let kind = if object.is_full_object {
                "FULL_OBJECT"
            } else {
                "COMPOSITE"
            };
            let name = claim.algorithm.header();
            let _ = write!(
                self.headers,
                "{name}: {}\r\nx-amz-checksum-type: {kind}\r\n",
                claim.value
            );
        }
        self
    }

    pub(super) fn told_length(mut self, size_bytes: u64) -> Self {
        self.told_length = Some(size_bytes);
        self
    }

    /// Writes it behind what is in `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>, is_head: bool) {
        let length = self.told_length.unwrap_or(self.body.len() as u64);
        let reason = reason(self.status);
        out.extend_from_slice(
            format!(
                "HTTP/1.1 {} {reason}\r\n{}Content-Length: {length}\r\n\r\n",
                self.status, self.headers
            )
            .as_bytes(),
        );
        if !is_head {
            out.extend_from_slice(self.body.as_bytes());
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        404 => "Not Found",
        _ => "Not Implemented",
    }
}

/// A text as it may stand in XML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
