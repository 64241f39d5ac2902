//! The S3 server, asked by boto3: the judge is a client that the rest of the world uses.

use std::path::Path;

use dev_stack::python;
use dev_stack::s3::{S3Options, S3Server};
use tokio::process::Command;

async fn ask(server: &S3Server, case: &str) {
    let python = python::with_packages(&["boto3==1.44.5", "awscrt==0.38.1"])
        .await
        .unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/s3_cases.py");
    let output = Command::new(python)
        .arg(script)
        .arg(case)
        .env("S3_ENDPOINT_URL", server.endpoint_url())
        .env("S3_ACCESS_KEY_ID", server.access_key_id())
        .env("S3_SECRET_ACCESS_KEY", server.secret_access_key())
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{case}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn asked(case: &str) {
    let folder = tempfile::tempdir().unwrap();
    let server = S3Server::start(S3Options::in_folder(folder.path()))
        .await
        .unwrap();
    server.create_bucket("bucket").unwrap();
    ask(&server, case).await;
    server.stop().await;
}

macro_rules! cases {
    ($($name:ident)*) => { $(
        #[tokio::test]
        async fn $name() {
            asked(stringify!($name)).await;
        }
    )* };
}

cases! {
    buckets
    odd_keys_and_metadata
    ranges_and_conditions
    checksums_of_puts
    listings
    multipart
    multipart_checksums
    open_uploads
    refused_bodies
    refused_credentials
    copies_and_deletes
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = S3Server::start(S3Options::in_folder(folder.path()))
        .await
        .unwrap();
    server.create_bucket("bucket").unwrap();
    ask(&server, "before_restart").await;
    let options = server.options();
    server.stop().await;
    let again = S3Server::start(options.clone()).await.unwrap();
    assert_eq!(again.port(), options.port);
    ask(&again, "after_restart").await;
    assert_eq!(
        std::fs::read(folder.path().join("bucket/objects/kept/file.txt")).unwrap(),
        b"kept"
    );
    again.stop().await;
    assert!(std::net::TcpStream::connect(("127.0.0.1", options.port)).is_err());
}
