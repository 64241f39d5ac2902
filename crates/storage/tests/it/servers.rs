//! The servers that the cases run against. Those without a TLS of their own are started once for the process.

use bytes::Bytes;
use dev_stack::s3::{S3Options, S3Server};
use domain::backoff::Backoff;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use storage::{Bucket, BucketConfig, Credentials};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;

/// A bucket of its own for one test.
pub(crate) struct Store {
    pub(crate) config: BucketConfig,
    pub(crate) bucket: Bucket,
}

/// Credentials that the development server knows.
pub(crate) fn known() -> Credentials {
    credentials("test", "testsecret")
}

pub(crate) fn credentials(id: &str, secret: &str) -> Credentials {
    Credentials::Static {
        access_key_id: id.to_owned(),
        secret_access_key: secret.to_owned().into(),
        session_token: None,
    }
}

/// A configuration whose waits are short.
pub(crate) fn config(bucket: &str, endpoint: &str) -> BucketConfig {
    let mut config = BucketConfig::new(bucket, "us-east-1", known());
    config.endpoint_url = Some(endpoint.parse().unwrap());
    config.retry.backoff = Backoff {
        base: Duration::from_millis(5),
        cap: Duration::from_millis(50),
    };
    config
}

fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("bucket-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn store(config: BucketConfig) -> Store {
    let bucket = Bucket::open(config.clone()).unwrap();
    Store { config, bucket }
}

/// The development server of this process, and the folder it serves.
pub(crate) async fn development() -> &'static S3Server {
    static SERVER: OnceCell<(S3Server, tempfile::TempDir)> = OnceCell::const_new();
    let start = || async {
        let folder = tempfile::tempdir().unwrap();
        (
            S3Server::start(S3Options::in_folder(folder.path()))
                .await
                .unwrap(),
            folder,
        )
    };
    &SERVER.get_or_init(start).await.0
}

pub(crate) async fn ours() -> Store {
    let server = development().await;
    let name = fresh_name();
    server.create_bucket(&name).unwrap();
    store(config(&name, &server.endpoint_url()))
}

/// Ends with this process, even when that is killed: its standard input closes then.
const MOTO: &str = "
import os, sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
os._exit(0)
";

async fn start_moto() -> (u16, Child) {
    let python = dev_stack::python::with_packages(&["moto[server]==5.2.5"])
        .await
        .unwrap();
    let mut child = std::process::Command::new(python)
        .args(["-c", MOTO])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    (port.trim().parse().expect("moto tells its port"), child)
}

pub(crate) async fn moto() -> Store {
    static SERVER: OnceCell<(u16, Child)> = OnceCell::const_new();
    let (port, _) = SERVER.get_or_init(start_moto).await;
    let name = fresh_name();
    // moto looks into the signature for the service, and believes it.
    let request = format!(
        "PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, \
         Signature=0\r\n\r\n"
    );
    let mut stream = TcpStream::connect(("127.0.0.1", *port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    store(config(&name, &format!("http://127.0.0.1:{port}")))
}

/// The development server behind TLS, with a certificate of an authority of the test's own.
pub(crate) async fn over_tls() -> Store {
    let plain = ours().await;
    let upstream = development().await.port();
    let (authority_pem, tls) = certificates();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust us goes away.
                let Ok(mut client) = acceptor.accept(client).await else {
                    return;
                };
                let mut server = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let mut config = config(plain.bucket.name(), &format!("https://localhost:{port}"));
    config.extra_root_certificates_pem = Some(authority_pem);
    store(config)
}

fn certificates() -> (Vec<u8>, rustls::ServerConfig) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (authority_pem.into_bytes(), config)
}

/// Bytes that compress to nothing and differ from one another.
pub(crate) fn noise(size: usize, seed: u32) -> Bytes {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}
