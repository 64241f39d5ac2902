//! How numbers, times, names and tables look to a person. Everything that came from outside passes
//! [`printable`], so that a file's name cannot drive the terminal.

use crate::api::Session;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;
use std::fmt::Write as _;

/// The text with control and direction-changing characters made visible (`\n`, `\u{1b}`).
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A size in bytes, such as `1.20 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// A number of files, such as `1,234 files`.
pub(crate) fn files(count: u64) -> String {
    format!(
        "{} {}",
        HumanCount(count),
        if count == 1 { "file" } else { "files" }
    )
}

/// A rate in bytes per second.
pub(crate) fn rate(bytes_per_s: f64) -> String {
    // Rates are finite and far below 2^63; anything else is nothing to show.
    format!("{}/s", size(bytes_per_s.max(0.0) as u64))
}

/// A duration, in the two units that matter: `4.2 s`, `1m 03s`, `2h 05m`, `3d 04h`.
pub(crate) fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{}.{} s", s, ms % 1000 / 100),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {:02}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// A time that is an estimate: whole seconds are enough.
pub(crate) fn time_left(s: u64) -> String {
    if s < 60 {
        format!("{s} s")
    } else {
        duration(s * 1000)
    }
}

/// A time that nobody knows better: it is the same text for a while.
pub(crate) fn roughly(s: u64) -> String {
    match s.div_ceil(60) {
        0 | 1 => "less than a minute".to_owned(),
        minutes if minutes < 100 => format!("about {minutes} minutes"),
        minutes => format!("about {} hours", minutes.div_ceil(60)),
    }
}

/// A time of the server in this machine's time zone, to the second.
pub(crate) fn time(rfc3339: &str) -> String {
    chrono::DateTime::parse_from_rfc3339(rfc3339).map_or_else(
        |_| printable(rfc3339),
        |time| {
            time.with_timezone(&chrono::Local)
                .format("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

/// One field of an answer as text; absent and null are `-`.
pub(crate) fn field(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) if name.ends_with("_at") => time(text),
        Value::String(text) => printable(text),
        Value::Number(number) if name.ends_with("_bytes") => number.as_u64().map_or("-".to_owned(), size),
        other => printable(&other.to_string()),
    }
}

/// Rows under a header, columns aligned, nothing wrapped: a line is a row. The cells must be printable already.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header.iter().map(|name| name.to_uppercase()));
    }
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Rows of the same fields of many answers.
pub(crate) fn fields_table(items: &[Value], names: &[&str]) -> String {
    let rows = items
        .iter()
        .map(|item| names.iter().map(|name| field(item, name)).collect());
    let header: Vec<String> = names.iter().map(|name| name.replace('_', " ")).collect();
    table(
        &header.iter().map(String::as_str).collect::<Vec<_>>(),
        rows.collect(),
    )
}

/// One answer, a field a line.
pub(crate) fn details(item: &Value, names: &[&str]) -> String {
    let rows = names
        .iter()
        .map(|name| vec![name.replace('_', " "), field(item, name)]);
    table(&[], rows.collect())
}

/// A session's progress in one line, what matters most first: a narrow terminal cuts its end off.
pub(crate) fn progress_line(session: &Session) -> String {
    let (files_, bytes) = (&session.files, &session.bytes);
    let more = if session.scan_complete { "" } else { "+" };
    let mut line = String::new();
    if session.scan_complete {
        let _ = write!(line, "{}%  ", percent(session));
    }
    let _ = write!(
        line,
        "{}/{}{more} files  {}/{}{more}",
        HumanCount(files_.done()),
        HumanCount(files_.total),
        size(bytes.done()),
        size(bytes.total)
    );
    if let Some(bytes_per_s) = session.rate_bytes_per_s.filter(|rate| *rate > 0.0) {
        let _ = write!(line, "  {}", rate(bytes_per_s));
    }
    if let Some(eta_s) = session
        .eta_s
        .filter(|eta| *eta >= 0.0 && session.scan_complete && !session.is_ended())
    {
        let _ = write!(line, "  {} left", time_left(eta_s as u64));
    }
    if files_.failed > 0 {
        let _ = write!(line, "  {} failed", HumanCount(files_.failed));
    }
    let _ = write!(line, "  {}", printable(stage(session)));
    line
}

/// What a session is at, in a word.
pub(crate) fn stage(session: &Session) -> &str {
    if session.status == "paused" {
        &session.status
    } else {
        &session.phase
    }
}

/// How much of a session is done, in percent: by bytes, or by files where all are empty. Never 100 before the end.
pub(crate) fn percent(session: &Session) -> u64 {
    let (done, total) = match (session.bytes.total, session.files.total) {
        (0, 0) => return if session.is_ended() { 100 } else { 0 },
        (0, total) => (session.files.done(), total),
        (total, _) => (session.bytes.done(), total),
    };
    let percent = (u128::from(done) * 100 / u128::from(total)).min(100) as u64;
    if session.is_ended() {
        percent
    } else {
        percent.min(99)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::view;
    use serde_json::json;

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(printable("a\n\u{1b}[2Jb\u{202e}é"), "a\\n\\u{1b}[2Jb\\u{202e}é");
        let shown = fields_table(&[json!({"name": "x\ny"}), json!({"name": null})], &["name"]);
        assert_eq!(shown, "NAME\nx\\ny\n-");
    }

    #[test]
    fn columns_line_up_by_width_on_screen() {
        let rows = vec![vec!["日本".into(), "1".into()], vec!["abcdef".into(), "2".into()]];
        assert_eq!(table(&["a", "b"], rows), "A       B\n日本    1\nabcdef  2");
    }

    #[test]
    fn durations_have_the_units_that_matter() {
        let shown = [0, 4_250, 63_000, 7_500_000, 273_600_000].map(duration);
        assert_eq!(shown, ["0.0 s", "4.2 s", "1m 03s", "2h 05m", "3d 04h"]);
        let shown = [60, 61, 720, 6_001].map(roughly);
        assert_eq!(
            shown,
            [
                "less than a minute",
                "about 2 minutes",
                "about 12 minutes",
                "about 2 hours"
            ]
        );
    }

    #[test]
    fn progress_tells_an_open_scan_from_a_complete_one() {
        let mut session: Session = view(&json!({
            "status": "in_progress", "phase": "scanning", "scan_complete": false, "rate_bytes_per_s": 1024, "eta_s": 5,
            "files": {"total": 2000, "uploaded": 500}, "bytes": {"total": 4096, "uploaded": 1024}
        }));
        assert_eq!(
            progress_line(&session),
            "500/2,000+ files  1.00 KiB/4.00 KiB+  1.00 KiB/s  scanning"
        );
        session.scan_complete = true;
        session.phase = "uploading".into();
        session.files.failed = 1;
        assert_eq!(
            progress_line(&session),
            "25%  501/2,000 files  1.00 KiB/4.00 KiB  1.00 KiB/s  5 s left  1 failed  uploading"
        );
    }

    #[test]
    fn nothing_is_at_100_percent_before_its_end() {
        let mut session: Session = view(&json!({
            "status": "in_progress", "files": {"total": 2, "uploaded": 2}, "bytes": {"total": 0}
        }));
        assert_eq!(percent(&session), 99);
        session.status = "completed".into();
        assert_eq!(percent(&session), 100);
    }
}
