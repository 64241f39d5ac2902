//! A wire between the product and Postgres that loses the answers to COMMIT, or carries nothing for a while.
//!
//! It reads as much of the protocol as it needs: where messages begin and end, which statements a transaction sent,
//! and that its COMMIT succeeded. An answer is lost after the server has given it: what was committed stays, the
//! connection breaks, and the client cannot know.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Which answers to COMMIT are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Losing {
    /// None.
    #[default]
    Nothing,
    /// Of 1,000, how many.
    PerMille(u32),
    /// The first one of each kind of transaction: of those that send the same statements.
    FirstOfEachKind,
}

/// A proxy in front of a Postgres server; ends when it is dropped, and its connections with it.
#[derive(Debug)]
pub struct PostgresProxy {
    port: u16,
    server_port: u16,
    wire: Arc<Wire>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Wire {
    losing: Mutex<Losing>,
    commits: AtomicU64,
    lost: AtomicU64,
    /// The statements of the transactions that lost an answer as [`Losing::FirstOfEachKind`].
    lost_kinds: Mutex<BTreeSet<String>>,
    connections: AtomicU64,
    /// Connections below this number carry nothing.
    stranded_below: watch::Sender<u64>,
}

impl PostgresProxy {
    /// Serves on a free port of 127.0.0.1 what listens on `server_port`, whether it is up now or not.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(server_port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("no port for the proxy of Postgres")?;
        let port = listener.local_addr()?.port();
        let wire = Arc::new(Wire {
            losing: Mutex::default(),
            commits: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            lost_kinds: Mutex::default(),
            connections: AtomicU64::new(0),
            stranded_below: watch::Sender::new(0),
        });
        let serving = tokio::spawn(serve(listener, server_port, wire.clone()));
        Ok(Self {
            port,
            server_port,
            wire,
            _serving: AbortOnDropHandle::new(serving),
        })
    }

    /// The URL that leads through here to where `url` leads: without TLS, which nobody could read on its way.
    pub fn through(&self, url: &str) -> String {
        let (direct, proxied) = (format!(":{}/", self.server_port), format!(":{}/", self.port));
        format!("{}?sslmode=disable", url.replace(&direct, &proxied))
    }

    /// Loses answers from now on.
    pub fn set_losing(&self, losing: Losing) {
        *lock(&self.wire.losing) = losing;
        lock(&self.wire.lost_kinds).clear();
    }

    /// How many transactions were committed, their answers lost or not.
    pub fn commits(&self) -> u64 {
        self.wire.commits.load(Ordering::Relaxed)
    }

    /// How many answers to COMMIT were lost.
    pub fn lost(&self) -> u64 {
        self.wire.lost.load(Ordering::Relaxed)
    }

    /// The statements of each transaction that lost its answer as the first of its kind, since they are lost so.
    pub fn lost_kinds(&self) -> Vec<String> {
        lock(&self.wire.lost_kinds).iter().cloned().collect()
    }

    /// Carries nothing any more, in either direction, on any connection, until [`PostgresProxy::go_on`].
    pub fn hang(&self) {
        self.wire.stranded_below.send_replace(u64::MAX);
    }

    /// Carries nothing any more on the connections that are open now; later ones are served.
    pub fn strand(&self) {
        let next = self.wire.connections.load(Ordering::Relaxed);
        self.wire.stranded_below.send_replace(next);
    }

    /// Carries everything again, what has been held back first.
    pub fn go_on(&self) {
        self.wire.stranded_below.send_replace(0);
    }
}

async fn serve(listener: TcpListener, server_port: u16, wire: Arc<Wire>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let number = wire.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(carry(client, server_port, number, wire.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection until either end closes it or an answer is lost; both ends are closed then.
async fn carry(client: TcpStream, server_port: u16, number: u64, wire: Arc<Wire>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server_port)).await else {
        return;
    };
    // Small messages must not wait for acknowledgements.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let transaction = Mutex::new(Transaction::default());
    let questions = pump(from_client, to_server, number, &wire, true, |kind, body| {
        lock(&transaction).note(kind, body);
        true
    });
    let answers = pump(from_server, to_client, number, &wire, false, |kind, body| {
        !(kind == b'C' && body == b"COMMIT\0" && wire.loses(&lock(&transaction)))
    });
    tokio::select! {
        () = questions => {}
        () = answers => {}
    }
}

/// Hands messages on until the connection ends, or one is not to be handed on.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: u64,
    wire: &Wire,
    begins_with_startup: bool,
    mut may_pass: impl FnMut(u8, &[u8]) -> bool,
) {
    let mut stranded = wire.stranded_below.subscribe();
    let (mut received, mut checked) = (BytesMut::new(), BytesMut::new());
    // The first message of a client has no kind before its length.
    let mut header = if begins_with_startup { 0 } else { 1 };
    loop {
        let mut is_cut = false;
        while let Some(size) = message_size(&received, header) {
            let message = received.split_to(size);
            let kind = if header == 0 { 0 } else { message[0] };
            is_cut = !may_pass(kind, &message[header + 4..]);
            if is_cut {
                break;
            }
            checked.extend_from_slice(&message);
            header = 1;
        }
        if stranded.wait_for(|below| number >= *below).await.is_err()
            || to.write_all(&checked).await.is_err()
            || is_cut
        {
            return;
        }
        checked.clear();
        match from.read_buf(&mut received).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The size of the whole message that `received` begins with, if all of it is there.
fn message_size(received: &BytesMut, header: usize) -> Option<usize> {
    let mut length = received.get(header..header + 4)?;
    let size = header + length.get_u32() as usize;
    (received.len() >= size).then_some(size)
}

/// What a connection has sent since its last BEGIN.
#[derive(Debug, Default)]
struct Transaction {
    prepared: HashMap<Vec<u8>, String>,
    statements: Vec<String>,
}

impl Transaction {
    fn note(&mut self, kind: u8, body: &[u8]) {
        let mut texts = body.split(|byte| *byte == 0);
        let mut text = || texts.next().unwrap_or_default();
        match kind {
            // Query. What sets a scope names its company.
            b'Q' => {
                let sql = text();
                if sql.starts_with(b"BEGIN") {
                    self.statements.clear();
                }
            }
            // Parse: name, statement. Bind: portal, name.
            b'P' => {
                let (name, sql) = (text().to_vec(), String::from_utf8_lossy(text()).into_owned());
                self.prepared.insert(name, sql);
            }
            b'B' => {
                let (_portal, name) = (text(), text());
                if let Some(sql) = self.prepared.get(name)
                    && self.statements.last() != Some(sql)
                {
                    self.statements.push(sql.clone());
                }
            }
            _ => {}
        }
    }
}

impl Wire {
    /// Counts a COMMIT and tells whether its answer is lost.
    fn loses(&self, transaction: &Transaction) -> bool {
        self.commits.fetch_add(1, Ordering::Relaxed);
        let is_lost = match *lock(&self.losing) {
            Losing::Nothing => false,
            Losing::PerMille(share) => rand::random_range(0..1_000) < share,
            Losing::FirstOfEachKind => lock(&self.lost_kinds).insert(transaction.statements.join(";\n")),
        };
        self.lost.fetch_add(u64::from(is_lost), Ordering::Relaxed);
        is_lost
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
