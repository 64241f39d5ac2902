//! Takes the body of a PUT: streams it to a file of its own, checks every digest the client gave.
//!
//! At most [`BUFFER_BYTES`] of a body are in memory. A body that is refused leaves nothing behind.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3Result, TrailingHeaders, s3_error};
use tempfile::TempPath;
use tokio::io::AsyncWriteExt as _;

use super::checksums::{Algorithm, Hasher, Sums};

const BUFFER_BYTES: usize = 512 * 1024;

/// What the client said about the body.
#[derive(Default)]
pub(super) struct Claims {
    pub(super) content_md5: Option<String>,
    pub(super) sums: Sums,
    /// Algorithms to compute besides those in `sums`.
    pub(super) wanted: Vec<Algorithm>,
    pub(super) trailers: Option<TrailingHeaders>,
}

impl Claims {
    /// Adds the algorithms a client announced by name or as a trailer.
    pub(super) fn announce(&mut self, name: Option<&str>, headers: &http::HeaderMap) -> S3Result<()> {
        if let Some(name) = name {
            let algorithm = Algorithm::from_name(name)
                .ok_or_else(|| s3_error!(InvalidRequest, "unknown checksum algorithm {name}"))?;
            self.wanted.push(algorithm);
        }
        let trailers = headers
            .get_all("x-amz-trailer")
            .iter()
            .filter_map(|value| value.to_str().ok());
        for trailer in trailers.flat_map(|value| value.split(',')) {
            self.wanted.extend(
                Algorithm::ALL
                    .into_iter()
                    .filter(|algorithm| algorithm.header().eq_ignore_ascii_case(trailer.trim())),
            );
        }
        Ok(())
    }
}

/// A body that has arrived whole, and is what the client said.
pub(super) struct Received {
    pub(super) bytes: Arrived,
    pub(super) size_bytes: u64,
    pub(super) md5: [u8; 16],
    /// Those the client asked for, or the CRC-64/NVME when it asked for none.
    pub(super) sums: Sums,
    pub(super) crc64nvme: String,
}

/// Where the bytes are until they get their name.
pub(super) enum Arrived {
    Memory(Bytes),
    File(TempPath),
}

impl Arrived {
    /// Makes a file of it in `folder`, if it is none. Blocks.
    pub(super) fn into_file(self, folder: &Path) -> std::io::Result<TempPath> {
        match self {
            Self::File(path) => Ok(path),
            Self::Memory(bytes) => {
                let mut file = tempfile::Builder::new().make_in(folder, create_new)?;
                std::io::Write::write_all(file.as_file_mut(), &bytes)?;
                Ok(file.into_temp_path())
            }
        }
    }
}

/// Readable for everybody who may read the folder: what arrives is there to be looked at.
fn create_new(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
}

/// Reads `body` to its end.
pub(super) async fn receive(
    body: Option<StreamingBlob>,
    claims: Claims,
    folder: PathBuf,
) -> S3Result<Received> {
    let mut requested = claims.sums.algorithms();
    requested.extend(claims.wanted.iter().copied());
    if requested.is_empty() {
        requested.push(Algorithm::Crc64nvme);
    }
    let mut computed = requested.clone();
    computed.push(Algorithm::Crc64nvme);
    let mut unique = Vec::with_capacity(computed.len());
    for algorithm in computed {
        if !unique.contains(&algorithm) {
            unique.push(algorithm);
        }
    }

    let mut hasher = Hasher::new(&unique);
    let (bytes, size_bytes) = drain(body, &mut hasher, folder).await?;
    let (md5, all_sums) = hasher.finish();

    if let Some(content_md5) = claims.content_md5
        && content_md5 != BASE64.encode(md5)
    {
        return Err(s3_error!(
            BadDigest,
            "The Content-MD5 you specified did not match what we received."
        ));
    }
    let mut claimed = claims.sums;
    read_trailers(claims.trailers.as_ref(), &mut claimed)?;
    if let Some(algorithm) = claimed.mismatch(&all_sums) {
        return Err(s3_error!(
            BadDigest,
            "The {} you specified did not match the calculated checksum.",
            algorithm.name()
        ));
    }
    let crc64nvme = all_sums.crc64nvme.clone().unwrap_or_default();
    let mut sums = all_sums;
    if !requested.contains(&Algorithm::Crc64nvme) {
        sums.crc64nvme = None;
    }
    Ok(Received {
        bytes,
        size_bytes,
        md5,
        sums,
        crc64nvme,
    })
}

async fn drain(
    body: Option<StreamingBlob>,
    hasher: &mut Hasher,
    folder: PathBuf,
) -> S3Result<(Arrived, u64)> {
    let mut buffer = BytesMut::new();
    let mut file: Option<(tokio::fs::File, TempPath)> = None;
    let mut size_bytes = 0_u64;
    let mut body = body;
    while let Some(body) = body.as_mut()
        && let Some(chunk) = body.next().await
    {
        let chunk = chunk.map_err(|error| refusal(error.as_ref()))?;
        hasher.update(&chunk);
        size_bytes += chunk.len() as u64;
        buffer.extend_from_slice(&chunk);
        if buffer.len() >= BUFFER_BYTES {
            if file.is_none() {
                let folder = folder.clone();
                let make = move || {
                    tempfile::Builder::new()
                        .make_in(folder, create_new)
                        .map_err(internal)
                };
                let made = blocking(make).await?;
                let (made, path) = made.into_parts();
                file = Some((tokio::fs::File::from_std(made), path));
            }
            if let Some((file, _)) = &mut file {
                file.write_all(&buffer).await.map_err(internal)?;
            }
            buffer.clear();
        }
    }
    let Some((mut file, path)) = file else {
        return Ok((Arrived::Memory(buffer.freeze()), size_bytes));
    };
    let written = async {
        file.write_all(&buffer).await?;
        file.flush().await
    };
    written.await.map_err(internal)?;
    Ok((Arrived::File(path), size_bytes))
}

fn read_trailers(trailers: Option<&TrailingHeaders>, claimed: &mut Sums) -> S3Result<()> {
    let Some(trailers) = trailers.and_then(TrailingHeaders::take) else {
        return Ok(());
    };
    for algorithm in Algorithm::ALL {
        if let Some(value) = trailers.get(algorithm.header()) {
            let value = value
                .to_str()
                .map_err(|_| s3_error!(InvalidRequest, "unreadable trailer"))?;
            claimed.set(algorithm, value.to_owned());
        }
    }
    Ok(())
}

/// The answer for a failure of the server's own disk.
pub(super) fn internal(error: std::io::Error) -> S3Error {
    s3_error!(error, InternalError)
}

/// The answer for a body that broke off or is not what its signature says. The protocol crate keeps these error
/// types to itself, so their text decides.
fn refusal(error: &(dyn std::error::Error + Send + Sync + 'static)) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        let code = s3s::S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into());
        let mut refusal = S3Error::with_message(code, "The body does not match its x-amz-content-sha256.");
        refusal.set_status_code(http::StatusCode::BAD_REQUEST);
        refusal
    } else if text.contains("SignatureMismatch") {
        s3_error!(SignatureDoesNotMatch)
    } else {
        s3_error!(IncompleteBody, "{text}")
    }
}

/// Runs file work off the async threads.
pub(super) async fn blocking<T: Send + 'static, E: Into<S3Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> S3Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(s3_error!(error, InternalError)),
    }
}
