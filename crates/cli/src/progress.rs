//! What is seen while an upload is followed: a bar where a person looks on, a plain line every few seconds where
//! nobody does, one JSON line per change with `--json`. Messages and bars go to stderr, JSON to stdout.

use crate::api::{File, Session, view};
use crate::render::{percent, printable, progress_line, stage};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

const PLAIN_INTERVAL: Duration = Duration::from_secs(5);
const TEMPLATE: &str = "{bar:12} {wide_msg}";
const SHOWN_FAILURES: u32 = 20;

enum View {
    Bar(ProgressBar),
    Plain {
        last_line: Option<Instant>,
        last_stage: String,
    },
    Json {
        last_line: String,
    },
}

/// Shows one upload.
pub(crate) struct Progress {
    view: View,
    shown_failures: u32,
    /// It was said that the session waits for its store.
    told_wait: bool,
}

impl Progress {
    /// For the given form of output.
    pub(crate) fn new(json: bool) -> Self {
        let view = if json {
            View::Json {
                last_line: String::new(),
            }
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr_with_hz(8));
            // The template is a constant that the tests draw; a bad one would only cost the looks.
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style.progress_chars("=> "));
            }
            View::Bar(bar)
        } else {
            View::Plain {
                last_line: None,
                last_stage: String::new(),
            }
        };
        Self {
            view,
            shown_failures: 0,
            told_wait: false,
        }
    }

    /// The session as it stands now.
    pub(crate) fn session(&mut self, value: &Value) -> Result<()> {
        let session: Session = view(value);
        let waits_for = session.error_detail.as_deref().filter(|_| !session.is_ended());
        if let Some(detail) = waits_for
            && !self.told_wait
        {
            self.message(&format!("waiting: {}", printable(detail)));
        }
        self.told_wait = waits_for.is_some();
        match &mut self.view {
            View::Bar(bar) => {
                bar.set_position(percent(&session));
                bar.set_message(progress_line(&session));
            }
            View::Plain {
                last_line,
                last_stage,
            } => {
                let due = last_line.is_none_or(|at| at.elapsed() >= PLAIN_INTERVAL);
                if due || *last_stage != stage(&session) {
                    eprintln!("{}", progress_line(&session));
                    *last_line = Some(Instant::now());
                    stage(&session).clone_into(last_stage);
                }
            }
            View::Json { last_line } => {
                let line = value.to_string();
                if line != *last_line {
                    let mut stdout = std::io::stdout().lock();
                    writeln!(stdout, "{line}")?;
                    stdout.flush()?;
                    *last_line = line;
                }
            }
        }
        Ok(())
    }

    /// A file that failed. Only the first are shown; the summary has them all by cause.
    pub(crate) fn failure(&mut self, value: &Value) {
        if matches!(self.view, View::Json { .. }) {
            return;
        }
        self.shown_failures += 1;
        if self.shown_failures == SHOWN_FAILURES + 1 {
            self.message("more files failed; the summary will have their causes");
        }
        if self.shown_failures > SHOWN_FAILURES {
            return;
        }
        let file: File = view(value);
        let cause = file.error_code.as_deref().unwrap_or("failed");
        let mut text = format!("failed: {}: {}", printable(&file.path), printable(cause));
        if let Some(detail) = &file.error_detail {
            text.push_str(": ");
            text.push_str(&printable(detail));
        }
        self.message(&text);
    }

    /// Something a person wants to know meanwhile.
    pub(crate) fn message(&self, text: &str) {
        match &self.view {
            View::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            View::Plain { .. } | View::Json { .. } => eprintln!("{text}"),
        }
    }

    /// Takes the bar away, so that what follows stands alone.
    pub(crate) fn clear(&self) {
        if let View::Bar(bar) = &self.view {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::InMemoryTerm;
    use serde_json::json;

    #[test]
    fn the_bar_shows_the_line_and_messages_stand_above_it() {
        let term = InMemoryTerm::new(5, 100);
        let bar =
            ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::term_like(Box::new(term.clone())));
        bar.set_style(
            ProgressStyle::with_template(TEMPLATE)
                .unwrap()
                .progress_chars("=> "),
        );
        let mut progress = Progress {
            view: View::Bar(bar),
            shown_failures: 0,
            told_wait: false,
        };
        progress
            .session(&json!({
                "status": "in_progress", "phase": "uploading", "scan_complete": true,
                "files": {"total": 4, "uploaded": 2}, "bytes": {"total": 2048, "uploaded": 1024}
            }))
            .unwrap();
        let shown = term.contents();
        assert!(shown.starts_with("======>"), "{shown}");
        assert!(
            shown.contains("50%  2/4 files  1.00 KiB/2.00 KiB  uploading"),
            "{shown}"
        );
        progress.clear();
        assert_eq!(term.contents(), "");
    }
}
