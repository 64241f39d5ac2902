//! One connection: requests in, answers out, one after the other.

use std::io::{self, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::answer::{Answer, escaped};
use super::body::{self, Body, Wanted};
use super::control;
use super::etag::ETag;
use super::head::Head;
use super::input::Input;
use super::listing;
use super::store::{Object, Store};
use crate::s3::checksums::Algorithm;

/// Serves until the client goes.
pub(super) fn serve(stream: TcpStream, store: &Store) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Input::new(stream.try_clone()?);
    let mut output = stream;
    let mut out = Vec::with_capacity(1024);
    while let Some(head) = Head::read(&mut input)? {
        if head.expects_continue && input.available().is_empty() {
            output.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let wanted = match head.method.as_str() {
            "PUT" if store.verifies() => Wanted::Checksum,
            "PUT" => Wanted::Size,
            _ => Wanted::Document,
        };
        let body = body::read(&mut input, &head, wanted)?;
        out.clear();
        answer(store, &head, body).write(&mut out, head.method == "HEAD");
        output.write_all(&out)?;
        if head.closes {
            return Ok(());
        }
    }
    Ok(())
}

fn answer(store: &Store, head: &Head, body: Body) -> Answer {
    let (bucket, key) = head.path.split_once('/').unwrap_or((&head.path, ""));
    match (bucket, key) {
        ("-", question) => control::answer(store, head, question),
        ("", _) => Answer::xml("ListAllMyBucketsResult", "<Buckets></Buckets>"),
        (bucket, "") => of_bucket(store, head, bucket, &body),
        (bucket, key) => of_object(store, head, bucket, key, body),
    }
}

/// Every bucket is there.
fn of_bucket(store: &Store, head: &Head, bucket: &str, body: &Body) -> Answer {
    let has = |parameter| head.parameter(parameter).is_some();
    match head.method.as_str() {
        "GET" if has("location") => Answer::xml("LocationConstraint", ""),
        "GET" if has("uploads") => listing::uploads(store, head, bucket),
        "GET" => listing::objects(store, head, bucket),
        "POST" if has("delete") => {
            let document = String::from_utf8_lossy(&body.document);
            let mut objects = store.objects();
            for key in document
                .split("<Key>")
                .skip(1)
                .filter_map(|rest| rest.split('<').next())
            {
                objects.remove(format!("{bucket}/{key}").as_str());
            }
            Answer::xml("DeleteResult", "")
        }
        _ => Answer::empty(200),
    }
}

fn of_object(store: &Store, head: &Head, bucket: &str, key: &str, body: Body) -> Answer {
    let upload = head.parameter("uploadId");
    match (head.method.as_str(), upload) {
        ("PUT", _) if head.is_copy => not_implemented("the sink copies nothing"),
        ("PUT", upload) => put(store, head, upload.as_deref(), body),
        ("POST", None) if head.parameter("uploads").is_some() => {
            let id = store.uploads().open(head);
            let (bucket, key) = (escaped(bucket), escaped(key));
            Answer::xml(
                "InitiateMultipartUploadResult",
                &format!("<Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>"),
            )
        }
        ("POST", Some(upload)) => complete(store, head, (bucket, key), &upload, &body),
        ("GET", Some(upload)) => listing::parts(store, head, &upload),
        ("DELETE", Some(upload)) => {
            if store.uploads().abort(&upload) {
                Answer::empty(204)
            } else {
                Answer::error(404, "NoSuchUpload", "there is no such upload")
            }
        }
        ("DELETE", None) => {
            store.objects().remove(head.path.as_str());
            Answer::empty(204)
        }
        ("HEAD", _) => match store.objects().get(head.path.as_str()) {
            Some(object) => Answer::empty(200)
                .header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
                .of(object)
                .told_length(object.size_bytes),
            None => Answer::empty(404),
        },
        _ => not_implemented("the sink keeps no bytes"),
    }
}

fn put(store: &Store, head: &Head, upload: Option<&str>, body: Body) -> Answer {
    let object = Object {
        size_bytes: body.size_bytes,
        etag: head.md5.map_or(ETag::Unknown(body.size_bytes), ETag::Md5),
        claim: head.claim.clone().or(body.claim),
        is_full_object: true,
        crc64nvme: body.crc64nvme,
    };
    if is_contradicted(&object) {
        return Answer::error(400, "BadDigest", "the checksum is not that of the bytes");
    }
    let answer = Answer::empty(200).of(&object);
    match upload {
        None => {
            store.objects().insert(head.path.as_str().into(), object);
        }
        Some(upload) => {
            let number = head
                .parameter("partNumber")
                .and_then(|number| number.parse().ok());
            let Some(number) = number else {
                return Answer::error(400, "InvalidArgument", "the part has no number");
            };
            if !store.uploads().add(upload, number, object) {
                return Answer::error(404, "NoSuchUpload", "there is no such upload");
            }
        }
    }
    answer
}

/// The client claims another CRC-64/NVME than the one that was computed.
fn is_contradicted(object: &Object) -> bool {
    match (&object.claim, object.crc64nvme) {
        (Some(claim), Some(crc)) if claim.algorithm == Algorithm::Crc64nvme => {
            *claim.value != *BASE64.encode(crc.to_be_bytes())
        }
        _ => false,
    }
}

fn complete(store: &Store, head: &Head, (bucket, key): (&str, &str), upload: &str, body: &Body) -> Answer {
    let document = String::from_utf8_lossy(&body.document);
    let object = match store.uploads().complete(upload, head, &document) {
        Ok(object) => object,
        Err(code) => {
            let status = if code == "NoSuchUpload" { 404 } else { 400 };
            return Answer::error(status, code, "the upload cannot be completed");
        }
    };
    let checksum = object.claim.as_ref().map_or(String::new(), |claim| {
        let name = claim.algorithm.name();
        let kind = if object.is_full_object {
            "FULL_OBJECT"
        } else {
            "COMPOSITE"
        };
        format!(
            "<Checksum{name}>{}</Checksum{name}><ChecksumType>{kind}</ChecksumType>",
            claim.value
        )
    });
    let answer = Answer::xml(
        "CompleteMultipartUploadResult",
        &format!(
            "<Bucket>{}</Bucket><Key>{}</Key><ETag>&quot;{}&quot;</ETag>{checksum}",
            escaped(bucket),
            escaped(key),
            object.etag
        ),
    );
    store.objects().insert(head.path.as_str().into(), object);
    answer
}

fn not_implemented(message: &str) -> Answer {
    Answer::error(501, "NotImplemented", message)
}
