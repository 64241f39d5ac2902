//! The format as a whole: one vector that other programs can be held against, and every way of tampering.

use super::*;
use domain::{FileStatus, SessionStatus};
use serde_json::{Value, json};

fn id<T: std::str::FromStr>(last: u8) -> T
where
    T::Err: std::fmt::Debug,
{
    format!("0197f000-0000-7000-8000-0000000000{last:02x}")
        .parse()
        .unwrap()
}

fn header() -> Header {
    Header {
        format: FORMAT.into(),
        tool: Tool {
            name: "data-uploader".into(),
            version: "0.1.0".into(),
        },
        company: Company {
            id: id(0xa),
            code: "ACME".into(),
        },
        project: Named {
            id: id(0xb),
            name: "Scans \"ü\"".into(),
        },
        cycle: Named {
            id: id(0xc),
            name: "C1".into(),
        },
        session: SessionPart {
            id: id(1),
            run: 1,
            status: SessionStatus::CompletedWithErrors,
            created_at: "2026-11-28T10:00:00.000000Z".into(),
            started_at: Some("2026-11-28T10:00:01.000000Z".into()),
            ended_at: "2026-11-28T10:00:02.500000Z".into(),
        },
        source: Source {
            root: "media".into(),
            path: "run-42".into(),
        },
        bucket: "lab-scans".into(),
        region: "eu-central-1".into(),
        endpoint_url: None,
        key_prefix: "p/C1/".into(),
        settings: json!({"part_size_bytes": 8_388_608, "checksum": "crc64nvme", "include": []}),
        counts: Counts {
            files: FileCounts {
                total: 3,
                uploaded: 2,
                skipped: 0,
                failed: 1,
                cancelled: 0,
            },
            bytes: ByteCounts {
                total: 16,
                uploaded: 12,
                skipped: 0,
                failed: 4,
            },
        },
    }
}

fn entries() -> Vec<Entry> {
    let uploaded = Entry {
        checksum: Some("crc64nvme:rosUhgp5mIg=".into()),
        error_code: None,
        etag: Some("25f9e794323b453885f5181f1b624d0b".into()),
        key: "p/C1/a b.txt".into(),
        number: 1,
        path_is_encoded: false,
        size_bytes: 9,
        status: FileStatus::Uploaded,
    };
    vec![
        uploaded.clone(),
        Entry {
            checksum: Some("sha256:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=-1".into()),
            etag: None,
            key: "p/C1/odd%0Aname \"ü\"".into(),
            number: 2,
            path_is_encoded: true,
            size_bytes: 3,
            ..uploaded.clone()
        },
        Entry {
            checksum: None,
            etag: None,
            error_code: Some("permission_denied".into()),
            key: "p/C1/secret".into(),
            number: 7,
            size_bytes: 4,
            status: FileStatus::Failed,
            ..uploaded
        },
    ]
}

fn signing_key() -> SigningKey {
    SigningKey::from_seed(&[7; 32]).unwrap()
}

fn written(header: &Header, entries: &[Entry], key: &SigningKey) -> Vec<u8> {
    let (header, mut bytes) = (header.to_canonical(), Vec::new());
    let mut writer = Writer::new(&header, &mut bytes);
    for entry in entries {
        writer.entry(entry, &mut bytes);
    }
    let root = writer.finish();
    let signature = key.sign(&signed_message(&header, root));
    Writer::tail(root, &key.public_key(), &signature, &mut bytes);
    bytes
}

fn receipt() -> Vec<u8> {
    written(&header(), &entries(), &signing_key())
}

/// The document shows this receipt, its root hash and what is signed. Another program may be held against them.
#[test]
fn the_test_vector_of_the_document_is_what_is_written() {
    let bytes = receipt();
    let text = std::str::from_utf8(&bytes).unwrap();
    let document = include_str!("../../../docs/RECEIPTS.md");
    assert!(document.contains(text), "docs/RECEIPTS.md should show:\n{text}");
    let read = read(bytes.as_slice(), |_| true).unwrap();
    assert_eq!(read.check(), Ok(signing_key().public_key()));
}

#[test]
fn what_was_written_is_read() {
    let mut found = Vec::new();
    let receipt = read(receipt().as_slice(), |entry| {
        found.push(entry);
        true
    });
    let receipt = receipt.unwrap();
    assert_eq!((receipt.header.clone(), found), (header(), entries()));
    assert_eq!(receipt.check(), Ok(signing_key().public_key()));
    // One without any file, too.
    let header = Header {
        counts: Counts::default(),
        ..header()
    };
    let empty = read(written(&header, &[], &signing_key()).as_slice(), |_| true).unwrap();
    assert_eq!(empty.check(), Ok(signing_key().public_key()));
}

#[test]
fn whoever_has_enough_gets_no_more_and_the_rest_is_checked() {
    let mut given = 0;
    let read = read(receipt().as_slice(), |_| {
        given += 1;
        false
    });
    assert_eq!(given, 1);
    assert!(read.unwrap().check().is_ok());
}

#[test]
fn another_spelling_of_the_same_json_is_the_same_receipt() {
    let value: Value = serde_json::from_slice(&receipt()).unwrap();
    for text in [
        serde_json::to_vec(&value).unwrap(),
        serde_json::to_vec_pretty(&value).unwrap(),
    ] {
        assert!(read(text.as_slice(), |_| true).unwrap().check().is_ok());
    }
}

/// Every single value of a receipt, changed, taken away or doubled.
#[test]
fn each_value_that_is_tampered_with_is_noticed() {
    let whole: Value = serde_json::from_slice(&receipt()).unwrap();
    let mut pointers = Vec::new();
    list_pointers(&whole, String::new(), &mut pointers);
    assert!(pointers.len() > 50, "{pointers:?}");
    for pointer in &pointers {
        let mut tampered = whole.clone();
        let value = tampered.pointer_mut(pointer).unwrap();
        *value = match &*value {
            Value::Number(number) => (number.as_u64().unwrap() + 1).into(),
            Value::Bool(value) => (!value).into(),
            Value::Array(_) => json!([1]),
            Value::String(text) => another(text).into(),
            _ => continue,
        };
        assert!(is_refused(&tampered), "{pointer} changed");
        let mut tampered = whole.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match tampered.pointer_mut(parent).unwrap() {
            Value::Object(members) => drop(members.remove(name)),
            Value::Array(items) => drop(items.remove(name.parse().unwrap())),
            _ => unreachable!(),
        }
        assert!(is_refused(&tampered), "{pointer} taken away");
    }
    let mut tampered = whole.clone();
    tampered["more"] = true.into();
    assert!(is_refused(&tampered), "something added to the header");
    for index in 0..3 {
        let mut tampered = whole.clone();
        tampered["files"][index]["more"] = true.into();
        assert!(is_refused(&tampered), "something added to a file");
    }
    let mut tampered = whole.clone();
    tampered["files"].as_array_mut().unwrap().swap(0, 1);
    assert!(is_refused(&tampered), "files in another order");
}

fn is_refused(value: &Value) -> bool {
    match read(value.to_string().as_bytes(), |_| true) {
        Ok(receipt) => receipt.check().is_err(),
        Err(_) => true,
    }
}

/// A text of the same kind with another meaning.
fn another(text: &str) -> String {
    match text {
        "uploaded" => "skipped".into(),
        "failed" => "uploaded".into(),
        "completed_with_errors" => "completed".into(),
        _ => {
            let mut bytes = text.as_bytes().to_vec();
            bytes[0] = if bytes[0] == b'1' { b'2' } else { b'1' };
            String::from_utf8(bytes).unwrap()
        }
    }
}

fn list_pointers(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                list_pointers(member, format!("{at}/{name}"), pointers);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                list_pointers(item, format!("{at}/{index}"), pointers);
            }
        }
        _ => pointers.push(at),
    }
}

#[test]
fn another_key_does_not_vouch_for_itself_as_this_one() {
    let forged = written(&header(), &entries(), &SigningKey::from_seed(&[8; 32]).unwrap());
    let read = read(forged.as_slice(), |_| true).unwrap();
    assert_ne!(read.check().unwrap(), signing_key().public_key());
}

#[test]
fn counts_that_were_signed_wrong_are_noticed() {
    let mut header = header();
    header.counts.bytes.uploaded += 1;
    let read = read(written(&header, &entries(), &signing_key()).as_slice(), |_| true).unwrap();
    assert_eq!(read.check(), Err(Flaw::Counts));
}

#[test]
fn what_is_cut_off_at_any_byte_is_no_receipt() {
    let bytes = receipt();
    let whole = bytes.trim_ascii_end().len();
    for len in 0..whole {
        assert!(read(&bytes[..len], |_| true).is_err(), "cut to {len}");
    }
    assert!(matches!(
        read(&bytes[..whole - 1], |_| true),
        Err(ReadError::Truncated)
    ));
    let more = [&bytes[..], b"{}"].concat();
    assert!(matches!(
        read(more.as_slice(), |_| true),
        Err(ReadError::NoReceipt(_))
    ));
}

#[test]
fn what_is_there_twice_is_refused() {
    let text = String::from_utf8(receipt()).unwrap();
    for (from, to) in [
        ("\"bucket\":", "\"bucket\":\"other\",\"bucket\":"),
        ("\"root\":", "\"root\":\"x\",\"root\":"),
        ("\"files\":[", "\"files\":[],\"files\":["),
        ("\"number\":1,", "\"number\":1,\"number\":1,"),
    ] {
        let doubled = text.replacen(from, to, 1);
        assert_ne!(doubled, text);
        assert!(
            matches!(read(doubled.as_bytes(), |_| true), Err(ReadError::NoReceipt(_))),
            "{from}"
        );
    }
    let later = text.replace("receipt/1", "receipt/2");
    assert!(matches!(
        read(later.as_bytes(), |_| true),
        Err(ReadError::NoReceipt(_))
    ));
}

#[test]
fn keys_travel_as_base64_and_as_pem() {
    let key = signing_key().public_key();
    for text in [key.to_base64(), format!("\n{}\n", key.to_base64()), key.to_pem()] {
        assert_eq!(PublicKey::from_text(&text), Ok(key), "{text}");
    }
    for bad in [
        "",
        "AAAA",
        "no base64!",
        &key.to_pem().replace("PUBLIC", "PRIVATE"),
    ] {
        assert_eq!(PublicKey::from_text(bad), Err(KeyError::NotPublic), "{bad}");
    }
    assert_eq!(key.id().len(), 16);
    assert!(!format!("{:?}", signing_key()).contains("0707"));
    assert_ne!(SigningKey::new_seed().unwrap(), SigningKey::new_seed().unwrap());
    assert!(SigningKey::from_seed(&[1; 31]).is_err());
}

#[test]
fn a_receipt_lies_below_the_cycle_whatever_the_target() {
    let session = id(1);
    let name = ".receipts/0197f000-0000-7000-8000-000000000001.json";
    assert_eq!(receipt_key("p/C1/", "", session), format!("p/C1/{name}"));
    assert_eq!(receipt_key("p/C1/raw/", "raw/", session), format!("p/C1/{name}"));
    assert_eq!(receipt_key("", "", session), name);
}

#[test]
fn one_that_was_withdrawn_says_so() {
    let refused = read(withdrawn().as_bytes(), |_| true).unwrap_err();
    assert!(refused.to_string().contains("withdrawn"), "{refused}");
}
