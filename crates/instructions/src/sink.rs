//! A store that takes each put and confirms the checksum it came with: as little as there can be, for its instructions are
//! counted with those of the engine.

use anyhow::{Context as _, ensure};
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const CHECKSUM: &str = "x-amz-checksum-crc64nvme";
/// More than a head and a small file.
const REQUEST_BYTES: usize = 16 << 10;

/// A store, until it is dropped.
pub struct Sink {
    pub port: u16,
    task: JoinHandle<()>,
}

impl Sink {
    /// Starts it on this runtime.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    if let Err(error) = serve(stream).await {
                        eprintln!("sink: {error:#}");
                    }
                });
            }
        });
        Ok(Self { port, task })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = vec![0; REQUEST_BYTES];
    let mut filled = 0;
    loop {
        let room = request.get_mut(filled..).unwrap_or_default();
        ensure!(!room.is_empty(), "a request is too long");
        match stream.read(room).await? {
            0 => return Ok(()),
            read => filled += read,
        }
        if let Some(checksum) = whole(request.get(..filled).unwrap_or_default())? {
            // The headers of an answer of S3.
            let answer = format!(
                "HTTP/1.1 200 OK\r\n\
                 x-amz-id-2: c6Pl1eQV0LRTi2oYWUWfRYzWBYsKMqDkcCGRbVEy1lVZMDhN2nLpDvCwSZvCOuWPqnVyDdAzZBs=\r\n\
                 x-amz-request-id: KQ5NSCV9VDHRGVXF\r\n\
                 Date: Tue, 01 Dec 2026 12:00:00 GMT\r\n\
                 ETag: \"d41d8cd98f00b204e9800998ecf8427e\"\r\n\
                 {CHECKSUM}: {checksum}\r\n\
                 x-amz-checksum-type: FULL_OBJECT\r\n\
                 Content-Length: 0\r\n\
                 Server: AmazonS3\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await?;
            filled = 0;
        }
    }
}

/// The checksum that a request carries, once all of it is there.
fn whole(request: &[u8]) -> anyhow::Result<Option<&str>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = head.parse(request)? else {
        return Ok(None);
    };
    let header = |name: &str| {
        let found = head.headers.iter().find(|header| header.name == name);
        let value = found.with_context(|| format!("there is no {name}"))?.value;
        std::str::from_utf8(value).context("a header is no text")
    };
    let body_bytes: usize = header("content-length")?.parse()?;
    let checksum = header(CHECKSUM)?;
    Ok((request.len() == head_bytes + body_bytes).then_some(checksum))
}
