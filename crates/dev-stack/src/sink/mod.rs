//! A sink for benchmarks: it answers what S3 clients ask when they upload, and drops the bytes.
//!
//! It keeps of each object its size, its ETag and the checksum that the client claimed, in memory alone. No signature
//! is checked. It is cheap, because it shares the machine with what is measured: a thread for each connection with
//! blocking calls, which costs one read and one write for a small object. What clients send is taken at its word,
//! except while the sink [verifies](Sink#verifying): then it computes the CRC-64/NVME of every body and keeps that too.

mod answer;
mod body;
mod chunks;
mod connection;
mod control;
mod etag;
mod head;
mod input;
mod listing;
mod store;
mod uploads;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::Context as _;

use store::Store;

/// A sink that listens on 127.0.0.1.
///
/// # Verifying
/// `POST /-/begin?verify=1` forgets all objects and makes it verify from then on; `verify=0` ends that. `GET
/// /-/totals` counts the objects, and `GET /-/objects?prefix=` tells each in a line: size, CRC-64/NVME in
/// hexadecimal or `-`, the claimed checksum or `-`, and bucket and key, with tabs between them.
#[derive(Debug)]
pub struct Sink {
    listener: TcpListener,
    port: u16,
}

impl Sink {
    /// Takes the port; 0 takes a free one.
    ///
    /// # Errors
    /// When somebody else has it.
    pub fn bind(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("cannot listen on 127.0.0.1:{port}"))?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    /// `http://127.0.0.1:{port}`.
    pub fn endpoint_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Serves for ever. Blocks.
    ///
    /// # Errors
    /// When no more connections can be taken.
    pub fn serve(self) -> anyhow::Result<()> {
        let store = Arc::new(Store::default());
        for stream in self.listener.incoming() {
            let stream = match stream {
                // It went before we came to it.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                stream => stream?,
            };
            let store = Arc::clone(&store);
            std::thread::Builder::new()
                .name("connection".to_owned())
                .spawn(move || serve_one(stream, &store))
                .context("no thread for a connection")?;
        }
        Ok(())
    }
}

fn serve_one(stream: TcpStream, store: &Store) {
    // Clients close connections as they like: an error here is theirs.
    let _ = connection::serve(stream, store);
}
