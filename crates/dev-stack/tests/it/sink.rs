//! The sink of the benchmark, asked by boto3 and by hand.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use dev_stack::python;
use dev_stack::sink::Sink;
use tokio::process::Command;

/// Starts one that serves until this process ends, and gives its address.
fn start() -> String {
    let sink = Sink::bind(0).unwrap();
    let endpoint_url = sink.endpoint_url();
    std::thread::spawn(|| sink.serve());
    endpoint_url
}

/// Sends a request and reads until the sink closes the connection.
fn ask(endpoint_url: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(endpoint_url.trim_start_matches("http://")).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn begin_to_verify(endpoint_url: &str) {
    let request = b"POST /-/begin?verify=1 HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(ask(endpoint_url, request).starts_with("HTTP/1.1 200"));
}

fn objects(endpoint_url: &str) -> Vec<String> {
    let answer = ask(
        endpoint_url,
        b"GET /-/objects HTTP/1.1\r\nConnection: close\r\n\r\n",
    );
    let (_, lines) = answer.split_once("\r\n\r\n").unwrap();
    lines.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn boto3_uploads_lists_and_looks() {
    let endpoint_url = start();
    begin_to_verify(&endpoint_url);
    let python = python::with_packages(&["boto3==1.44.5", "awscrt==0.38.1"])
        .await
        .unwrap();
    let output = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sink_cases.py"))
        .env("S3_ENDPOINT_URL", &endpoint_url)
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn chunks_in_chunks_are_taken_apart() {
    let endpoint_url = start();
    begin_to_verify(&endpoint_url);
    // "123456789", whose CRC-64/NVME is known, in two chunks of aws-chunked with a trailer, cut up by HTTP anew.
    let coded = "4;chunk-signature=0a\r\n1234\r\n5;chunk-signature=0b\r\n56789\r\n0;chunk-signature=0c\r\n\
                 x-amz-checksum-crc64nvme:rosUhgp5mIg=\r\n\r\n";
    let mut body = String::new();
    for piece in coded.as_bytes().chunks(7) {
        let piece = std::str::from_utf8(piece).unwrap();
        body += &format!("{:x}\r\n{piece}\r\n", piece.len());
    }
    body += "0\r\n\r\n";
    let head = "PUT /bucket/a%20key HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Encoding: aws-chunked\r\n\
                x-amz-trailer: x-amz-checksum-crc64nvme\r\nConnection: close\r\n\r\n";
    let answer = ask(&endpoint_url, format!("{head}{body}").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("x-amz-checksum-crc64nvme: rosUhgp5mIg="),
        "{answer}"
    );
    assert_eq!(
        objects(&endpoint_url),
        ["9\tae8b14860a799888\tCRC64NVME:rosUhgp5mIg=\tbucket/a key"]
    );
}

#[test]
fn a_client_that_waits_is_told_to_go_on_and_a_wrong_checksum_is_refused() {
    let endpoint_url = start();
    begin_to_verify(&endpoint_url);
    let mut stream = TcpStream::connect(endpoint_url.trim_start_matches("http://")).unwrap();
    let head = "PUT /bucket/key HTTP/1.1\r\nContent-Length: 9\r\nExpect: 100-continue\r\nConnection: close\r\n\
                x-amz-checksum-crc64nvme: AAAAAAAAAAA=\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"123456789").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("BadDigest"),
        "{answer}"
    );
    assert!(objects(&endpoint_url).is_empty());
}
