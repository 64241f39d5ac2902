//! What a dry run found, told to a person.

use crate::api::{FailureGroup, null_is_default};
use crate::render::{files, printable, size, table, time_left};
use indicatif::HumanCount;
use serde::Deserialize;
use std::fmt::Write as _;

/// A number of files and their bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Amount {
    files: u64,
    size_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Excluded {
    files: u64,
    directories: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct SizedFile {
    path: String,
    size_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Requests {
    put_object: u64,
    create_multipart_upload: u64,
    upload_part: u64,
    complete_multipart_upload: u64,
    list_objects: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Estimate {
    low_s: u64,
    high_s: u64,
    basis: String,
    sessions: Option<u64>,
}

/// A plan, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Plan {
    #[serde(deserialize_with = "null_is_default")]
    send: Amount,
    overwrite: Option<Amount>,
    #[serde(deserialize_with = "null_is_default")]
    compare: Amount,
    #[serde(deserialize_with = "null_is_default")]
    left_alone: Vec<FailureGroup>,
    #[serde(deserialize_with = "null_is_default")]
    skipped: Vec<FailureGroup>,
    #[serde(deserialize_with = "null_is_default")]
    conflicts: Vec<FailureGroup>,
    #[serde(deserialize_with = "null_is_default")]
    unreadable: Vec<FailureGroup>,
    #[serde(deserialize_with = "null_is_default")]
    excluded: Excluded,
    #[serde(deserialize_with = "null_is_default")]
    largest: Vec<SizedFile>,
    #[serde(deserialize_with = "null_is_default")]
    requests: Requests,
    #[serde(deserialize_with = "null_is_default")]
    compare_requests: Requests,
    estimate: Option<Estimate>,
    no_estimate: Option<String>,
}

/// The plan of this dry run: what would be sent and what not, how long it may take, and what to do next.
pub(crate) fn text(session: &str, plan: &Plan) -> String {
    let session = printable(session);
    let mut text = format!("Plan of dry run {session}:");
    for line in table(&[], rows(plan)).lines() {
        let _ = write!(text, "\n  {line}");
    }
    for (title, groups) in [("Conflicts", &plan.conflicts), ("Unreadable", &plan.unreadable)] {
        if !groups.is_empty() {
            let _ = write!(text, "\n\n{title}:");
        }
        for group in groups {
            for path in &group.example_paths {
                let _ = write!(text, "\n  {}: {}", printable(&group.error_code), printable(path));
            }
            let more = group.count.saturating_sub(group.example_paths.len() as u64);
            if more > 0 {
                let _ = write!(
                    text,
                    "\n  {}: {} more",
                    printable(&group.error_code),
                    HumanCount(more)
                );
            }
        }
    }
    if !plan.largest.is_empty() {
        let row = |file: &SizedFile| vec![size(file.size_bytes), printable(&file.path)];
        text.push_str("\n\nLargest:");
        for line in table(&[], plan.largest.iter().map(row).collect()).lines() {
            let _ = write!(text, "\n  {line}");
        }
    }
    let _ = write!(text, "\n\nRequests: {}", requests(&plan.requests));
    if plan.compare.files > 0 {
        let _ = write!(
            text,
            "\n  and where bytes differ, at most: {}",
            requests(&plan.compare_requests)
        );
    }
    let _ = write!(text, "\nTime: {}", time(plan));
    if plan.send.files + plan.compare.files > 0 {
        let _ = write!(text, "\n\nNext: `uploader upload --plan {session}` does it.");
    }
    text
}

fn rows(plan: &Plan) -> Vec<Vec<String>> {
    let row = |name: &str, count: u64, bytes: u64, note: String| {
        vec![name.to_owned(), files(count), size(bytes), note]
    };
    let replaced = match plan.overwrite {
        None if plan.send.files > 0 => {
            "those whose key has an object replace it: the bucket was not looked at".to_owned()
        }
        Some(amount) if amount.files > 0 => {
            format!(
                "of which {}, {} replace objects",
                files(amount.files),
                size(amount.size_bytes)
            )
        }
        _ => String::new(),
    };
    let mut rows = vec![row("to send", plan.send.files, plan.send.size_bytes, replaced)];
    if plan.compare.files > 0 {
        let note = "not compared: sent unless their objects have the same bytes";
        rows.push(row(
            "to compare",
            plan.compare.files,
            plan.compare.size_bytes,
            note.to_owned(),
        ));
    }
    for (name, groups) in [
        ("left alone", &plan.left_alone),
        ("skipped", &plan.skipped),
        ("conflicts", &plan.conflicts),
        ("unreadable", &plan.unreadable),
    ] {
        for group in groups {
            rows.push(row(
                name,
                group.count,
                group.size_bytes,
                printable(&group.error_code),
            ));
        }
    }
    let Excluded { files, directories } = plan.excluded;
    if files > 0 {
        rows.push(row("excluded", files, 0, "by pattern".to_owned()));
        // Nobody asked for their sizes.
        if let Some(cell) = rows.last_mut().and_then(|row| row.get_mut(2)) {
            "-".clone_into(cell);
        }
    }
    if directories > 0 {
        let name = if directories == 1 { "folder" } else { "folders" };
        rows.push(vec![
            "excluded".to_owned(),
            format!("{} {name}", HumanCount(directories)),
            "-".to_owned(),
            "by pattern, with all that is in them".to_owned(),
        ]);
    }
    rows
}

fn requests(requests: &Requests) -> String {
    let named = [
        (requests.put_object, "PutObject"),
        (requests.create_multipart_upload, "CreateMultipartUpload"),
        (requests.upload_part, "UploadPart"),
        (requests.complete_multipart_upload, "CompleteMultipartUpload"),
        (requests.list_objects, "ListObjects"),
    ];
    let shown: Vec<String> = named
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{} {name}", HumanCount(*count)))
        .collect();
    if shown.is_empty() {
        "none".to_owned()
    } else {
        shown.join(", ")
    }
}

fn time(plan: &Plan) -> String {
    if let Some(estimate) = &plan.estimate {
        let (low, high) = (time_left(estimate.low_s), time_left(estimate.high_s));
        let range = if low == high {
            format!("about {high}")
        } else {
            format!("{low} to {high}")
        };
        let whose = match estimate.basis.as_str() {
            "project_sessions" => "the project",
            "company_sessions" => "the company",
            _ => return format!("{range}, by what the workers did in the last minute"),
        };
        let sessions = match estimate.sessions {
            None | Some(1) => "latest upload".to_owned(),
            Some(count) => format!("latest {count} uploads"),
        };
        return format!("{range}, by the {sessions} of {whose}");
    }
    match plan.no_estimate.as_deref() {
        Some("nothing_to_send") => "none, there is nothing to send".to_owned(),
        Some("too_little_known") => "not known: earlier uploads were much smaller".to_owned(),
        _ => "not known: nothing was uploaded yet that would tell".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::view;
    use serde_json::json;

    #[test]
    fn a_plan_tells_what_would_be_done() {
        let plan: Plan = view(&json!({
            "send": {"files": 3, "size_bytes": 9_437_190}, "overwrite": {"files": 1, "size_bytes": 6},
            "compare": {"files": 1, "size_bytes": 5},
            "left_alone": [{"error_code": "unchanged", "count": 2, "size_bytes": 20, "example_paths": ["u"]}],
            "skipped": [{"error_code": "symlink_not_followed", "count": 1, "size_bytes": 0}],
            "conflicts": [{"error_code": "name_collision", "count": 7, "size_bytes": 1, "example_paths": ["a\nb"]}],
            "unreadable": [], "excluded": {"files": 4, "directories": 1},
            "largest": [{"path": "big", "size_bytes": 9_437_184}, {"path": "small", "size_bytes": 6}],
            "requests": {"put_object": 2, "create_multipart_upload": 1, "upload_part": 2,
                         "complete_multipart_upload": 1, "list_objects": 1},
            "compare_requests": {"put_object": 1},
            "estimate": {"low_s": 4, "high_s": 65, "basis": "project_sessions", "sessions": 3}, "a_later_invention": 1
        }));
        assert_eq!(
            text("s1", &plan),
            "Plan of dry run s1:\n  \
             to send     3 files   9.00 MiB  of which 1 file, 6 B replace objects\n  \
             to compare  1 file    5 B       not compared: sent unless their objects have the same bytes\n  \
             left alone  2 files   20 B      unchanged\n  \
             skipped     1 file    0 B       symlink_not_followed\n  \
             conflicts   7 files   1 B       name_collision\n  \
             excluded    4 files   -         by pattern\n  \
             excluded    1 folder  -         by pattern, with all that is in them\n\n\
             Conflicts:\n  name_collision: a\\nb\n  name_collision: 6 more\n\n\
             Largest:\n  9.00 MiB  big\n  6 B       small\n\n\
             Requests: 2 PutObject, 1 CreateMultipartUpload, 2 UploadPart, 1 CompleteMultipartUpload, 1 ListObjects\n  \
             and where bytes differ, at most: 1 PutObject\n\
             Time: 4 s to 1m 05s, by the latest 3 uploads of the project\n\n\
             Next: `uploader upload --plan s1` does it."
        );
    }

    #[test]
    fn what_is_not_known_is_said_to_be_so() {
        let plan: Plan = view(&json!({
            "send": {"files": 1, "size_bytes": 1}, "overwrite": null, "no_estimate": "nothing_known"
        }));
        let told = text("s1", &plan);
        assert!(told.contains("the bucket was not looked at"), "{told}");
        assert!(
            told.contains("Time: not known: nothing was uploaded yet"),
            "{told}"
        );
        let nothing: Plan = view(&json!({"overwrite": {"files": 0}, "no_estimate": "nothing_to_send"}));
        let told = text("s1", &nothing);
        assert!(
            told.contains("Time: none") && told.contains("Requests: none") && !told.contains("Next"),
            "{told}"
        );
    }
}
