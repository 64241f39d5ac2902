//! The sink as a process of its own, so that its CPU can be told from that of whoever sends.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use dev_stack::fetch;
use dev_stack::process::{Server, ServerCommand, free_port};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::processes;
use super::sets::{DataSet, Expected};

pub(super) const BUCKET: &str = "bench";
const START_LIMIT: Duration = Duration::from_secs(10);

pub(super) struct Sink {
    server: Server,
    http: Client<HttpConnector, Empty<Bytes>>,
    endpoint_url: String,
}

impl Sink {
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot tell where this program lies")?;
        let port = free_port()?;
        let endpoint_url = format!("http://127.0.0.1:{port}");
        let mut server = ServerCommand::new("sink", program, folder.join("sink.log"))
            .args(["sink".to_owned(), "--port".to_owned(), port.to_string()])
            .spawn()?;
        let ready_url = format!("{endpoint_url}/-/ready");
        let is_ready = async || {
            fetch::status(&ready_url)
                .await
                .is_ok_and(|status| status == StatusCode::OK)
        };
        server.wait_ready(START_LIMIT, is_ready).await?;
        Ok(Self {
            server,
            http: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
            endpoint_url,
        })
    }

    pub(super) fn endpoint_url(&self) -> &str {
        &self.endpoint_url
    }

    pub(super) fn cpu_s(&self) -> anyhow::Result<f64> {
        processes::cpu_s(self.server.pid())
    }

    /// Forgets all objects; from now on it computes checksums, or does not.
    pub(super) async fn begin(&self, verifies: bool) -> anyhow::Result<()> {
        let question = format!("begin?verify={}", u8::from(verifies));
        self.ask(Method::POST, &question).await.map(drop)
    }

    /// Fails unless it has as many objects and bytes as the set, and no multipart upload is open.
    pub(super) async fn check_totals(&self, set: &DataSet) -> anyhow::Result<()> {
        let told = self.ask(Method::GET, "totals").await?;
        let expected = format!("{}\t{}\t0\n", set.files, set.size_bytes());
        if told != expected {
            bail!(
                "objects, bytes and open uploads at the sink: {:?} instead of {:?}",
                told.trim(),
                expected.trim()
            );
        }
        Ok(())
    }

    /// Fails unless the objects below `prefix` are the files of the set: by name, size and the checksum of the bytes that
    /// arrived.
    pub(super) async fn check_objects(&self, prefix: &str, expected: &Expected) -> anyhow::Result<()> {
        let told = self.ask(Method::GET, "objects").await?;
        compare(&told, &format!("{BUCKET}/{prefix}"), expected)
    }

    async fn ask(&self, method: Method, question: &str) -> anyhow::Result<String> {
        let url = format!("{}/-/{question}", self.endpoint_url);
        let request = Request::builder().method(method).uri(&url).body(Empty::new())?;
        let answer = self.http.request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if status != StatusCode::OK {
            bail!("{url}: {status}");
        }
        Ok(String::from_utf8(body.into())?)
    }

    pub(super) async fn stop(mut self) {
        self.server.stop().await;
    }
}

/// Compares what the sink tells, a line an object, with what was sent.
fn compare(told: &str, prefix: &str, expected: &Expected) -> anyhow::Result<()> {
    let mut count = 0;
    for line in told.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [size, crc, _, path] = fields[..] else {
            bail!("the sink says {line:?}");
        };
        let path = path.strip_prefix(prefix);
        let file = path.and_then(|path| expected.get(path));
        let (size_bytes, expected_crc) = file.with_context(|| format!("nobody should have sent {line:?}"))?;
        if size.parse() != Ok(*size_bytes) || crc != format!("{expected_crc:016x}") {
            bail!("{line:?} instead of {size_bytes} bytes with the checksum {expected_crc:016x}");
        }
        count += 1;
    }
    // No path is there twice, and all are expected.
    if count != expected.len() {
        bail!("{count} objects instead of {}", expected.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_must_be_what_was_sent() {
        let expected = Expected::from([("a".to_owned(), (1, 0xab)), ("b/c".to_owned(), (2, 0xcd))]);
        let good = "1\t00000000000000ab\t-\tbench/p/a\n2\t00000000000000cd\tCRC32:x\tbench/p/b/c\n";
        compare(good, "bench/p/", &expected).unwrap();
        for (part, wrong) in [
            ("0ab", "0ac"),
            ("00000000000000ab", "-"),
            ("1\t0", "2\t0"),
            ("p/a", "p/d"),
            ("bench/p/a", "other/p/a"),
            ("2\t00000000000000cd\tCRC32:x\tbench/p/b/c\n", ""),
        ] {
            let told = good.replacen(part, wrong, 1);
            assert_ne!(told, good);
            assert!(compare(&told, "bench/p/", &expected).is_err(), "{told}");
        }
    }
}
