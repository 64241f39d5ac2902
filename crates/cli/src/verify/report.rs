//! What came of a check, for people and for programs.

use super::Voucher;
use crate::Exit;
use crate::render::{files, printable, size};
use receipts::{PublicKey, Receipt};
use serde_json::{Value, json};
use std::fmt::Write as _;
use transfer::check::Finding;

/// So many findings are told one by one; the others are counted.
const MAX_TOLD: usize = 1_000;

/// What came of one comparison.
pub(crate) struct Comparison {
    /// `directory` or `bucket`.
    pub(crate) with: &'static str,
    same: u64,
    missing: u64,
    different: u64,
    extra: u64,
    unchecked: u64,
    /// Files that the receipt does not call delivered: there is nothing to compare.
    pub(crate) not_delivered: u64,
    /// Why it could not be brought to its end; what was found until then is here.
    pub(crate) incomplete: Option<String>,
    told: Vec<(&'static str, String, String)>,
}

impl Comparison {
    pub(crate) fn new(with: &'static str) -> Self {
        Self {
            with,
            same: 0,
            missing: 0,
            different: 0,
            extra: 0,
            unchecked: 0,
            not_delivered: 0,
            incomplete: None,
            told: Vec::new(),
        }
    }

    /// Counts a file of the receipt.
    pub(crate) fn add(&mut self, key: &str, finding: Finding) {
        let (count, what, detail) = match finding {
            Finding::Same => {
                self.same += 1;
                return;
            }
            Finding::Missing => (&mut self.missing, "missing", String::new()),
            Finding::Different(detail) => (&mut self.different, "different", detail),
            Finding::Unchecked(detail) => (&mut self.unchecked, "unchecked", detail),
        };
        *count += 1;
        self.tell(what, key, detail);
    }

    /// Counts a file that is in no receipt.
    pub(crate) fn add_extra(&mut self, path: &str) {
        self.extra += 1;
        self.tell("extra", path, String::new());
    }

    fn tell(&mut self, what: &'static str, name: &str, detail: String) {
        if self.told.len() < MAX_TOLD {
            self.told.push((what, name.to_owned(), detail));
        }
    }

    fn findings(&self) -> u64 {
        self.missing + self.different + self.extra + self.unchecked
    }

    fn verdict(&self) -> Verdict {
        if self.missing + self.different + self.extra > 0 {
            Verdict::Differs
        } else if self.unchecked > 0 || self.incomplete.is_some() {
            Verdict::NotChecked
        } else {
            Verdict::Right
        }
    }

    fn to_json(&self) -> Value {
        let findings: Vec<Value> = self
            .told
            .iter()
            .map(|(what, name, detail)| json!({"what": what, "name": name, "detail": detail}))
            .collect();
        json!({
            "with": self.with,
            "same": self.same,
            "missing": self.missing,
            "different": self.different,
            "extra": self.extra,
            "unchecked": self.unchecked,
            "not_delivered": self.not_delivered,
            "incomplete": self.incomplete,
            "findings_left_out": self.findings() - self.told.len() as u64,
            "findings": findings,
        })
    }

    fn write(&self, text: &mut String) {
        for (what, name, detail) in &self.told {
            let colon = if detail.is_empty() { "" } else { ": " };
            let _ = writeln!(text, "{what:<10} {}{colon}{}", printable(name), printable(detail));
        }
        let left_out = self.findings() - self.told.len() as u64;
        if left_out > 0 {
            let _ = writeln!(text, "... and {left_out} more");
        }
        let _ = write!(text, "{:<10} {} the same", self.with, files(self.same));
        for (count, what) in [
            (self.missing, "missing"),
            (self.different, "different"),
            (self.extra, "too much"),
            (self.unchecked, "not checked"),
        ] {
            if count > 0 {
                let _ = write!(text, ", {count} {what}");
            }
        }
        text.push('\n');
    }
}

/// The worst that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Right,
    NotChecked,
    Differs,
}

impl Verdict {
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::Right => Exit::Success,
            Self::NotChecked => Exit::Failed,
            Self::Differs => Exit::Partly,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::NotChecked => "not_checked",
            Self::Differs => "differs",
        }
    }
}

/// All that came of a check.
pub(crate) struct Report<'r> {
    pub(crate) receipt: &'r Receipt,
    /// The key that signed, or what is wrong with the receipt itself.
    pub(crate) signed_by: Result<PublicKey, String>,
    pub(crate) voucher: Voucher,
    pub(crate) comparisons: Vec<Comparison>,
}

impl Report<'_> {
    pub(crate) fn verdict(&self) -> Verdict {
        let receipt = match (&self.signed_by, &self.voucher) {
            (Err(_), _) | (_, Voucher::Denied(_)) => Verdict::Differs,
            (Ok(_), Voucher::Nobody(_)) => Verdict::NotChecked,
            (Ok(_), _) => Verdict::Right,
        };
        let found = self.comparisons.iter().map(Comparison::verdict);
        found.fold(receipt, Verdict::max)
    }

    pub(crate) fn to_json(&self) -> Value {
        let (vouched_by, detail) = match &self.voucher {
            Voucher::Company => (Some("company"), None),
            Voucher::Given => (Some("key"), None),
            Voucher::NotWanted => (None, None),
            Voucher::Nobody(detail) | Voucher::Denied(detail) => (None, Some(detail.clone())),
        };
        let mut receipt = serde_json::to_value(&self.receipt.header).unwrap_or_default();
        receipt["root"] = self.receipt.root.to_string().into();
        json!({
            "verdict": self.verdict().as_str(),
            "not_delivered": self.receipt.not_delivered,
            "receipt": receipt,
            "signature": {
                "is_genuine": self.signed_by.is_ok(),
                "key_id": self.signed_by.as_ref().ok().map(PublicKey::id),
                "vouched_by": vouched_by,
                "detail": self.signed_by.as_ref().err().cloned().or(detail),
            },
            "comparisons": self.comparisons.iter().map(Comparison::to_json).collect::<Vec<_>>(),
        })
    }

    pub(crate) fn to_text(&self) -> String {
        let header = &self.receipt.header;
        let (session, counts) = (&header.session, &header.counts);
        let mut text = String::new();
        for comparison in &self.comparisons {
            comparison.write(&mut text);
        }
        let _ = writeln!(
            text,
            "receipt    session {}, run {}, {}, ended {}",
            session.id,
            session.run,
            session.status,
            printable(&session.ended_at)
        );
        let _ = writeln!(
            text,
            "           {} uploaded ({}) to s3://{}/{}, {} skipped, {} failed",
            files(counts.files.uploaded),
            size(counts.bytes.uploaded),
            printable(&header.bucket),
            printable(&header.key_prefix),
            counts.files.skipped,
            counts.files.failed + counts.files.cancelled
        );
        let _ = write!(text, "signature  {}", self.signature_text());
        self.write_reservations(&mut text);
        text
    }

    /// What the figures above do not speak for, on the last lines.
    fn write_reservations(&self, text: &mut String) {
        if self.receipt.not_delivered > 0 {
            let _ = write!(
                text,
                "\nNOT DELIVERED  {}: failed, left out or not tried; the receipt tells why",
                files(self.receipt.not_delivered)
            );
        }
        for comparison in &self.comparisons {
            let with = comparison.with;
            if comparison.unchecked > 0 {
                let _ = write!(
                    text,
                    "\nNOT COMPARED   {} with the {with}: see above",
                    files(comparison.unchecked)
                );
            }
            if let Some(detail) = &comparison.incomplete {
                let _ = write!(
                    text,
                    "\nINCOMPLETE     the {with} was not compared to the end: {}",
                    printable(detail)
                );
            }
        }
    }

    fn signature_text(&self) -> String {
        let key = match &self.signed_by {
            Ok(key) => key,
            Err(flaw) => return format!("NOT GENUINE: {}", printable(flaw)),
        };
        let (id, code) = (key.id(), printable(&self.receipt.header.company.code));
        match &self.voucher {
            Voucher::Company => format!("genuine, by key {id} of the company {code}"),
            Voucher::Given => format!("genuine, by the key that was given ({id})"),
            Voucher::NotWanted => format!(
                "fits the key in the receipt ({id}): it was not changed since, but whose key that is nobody was asked"
            ),
            Voucher::Nobody(reason) => format!(
                "fits the key in the receipt ({id}), but NOBODY VOUCHES FOR THAT KEY: {}\n           sign in, or give the company's key with --key; --any-key is content without",
                printable(reason)
            ),
            Voucher::Denied(reason) => format!("NOT GENUINE: {} (key {id})", printable(reason)),
        }
    }
}
