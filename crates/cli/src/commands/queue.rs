//! `queue`: what waits and runs, and why.

use super::App;
use crate::api::{Queue, QueueRoot, view};
use crate::render::{files, printable, size, table, time_left};
use anyhow::Result;

pub(super) async fn run(app: &App) -> Result<()> {
    let queue = app.client.get(&["queue"]).await?;
    app.show(&queue, |queue| explain(&view(queue)))
}

/// A line for each source root, and one for each reason to wait.
fn explain(queue: &Queue) -> String {
    let header = [
        "root",
        "state",
        "waiting",
        "running",
        "left",
        "place",
        "workers",
        "time left",
    ];
    let mut text = table(&header, queue.roots.iter().map(row).collect());
    let mut add = |line: String| {
        text.push('\n');
        text.push_str(&line);
    };
    if let Some(limit) = queue.max_concurrent_jobs {
        let running = queue.running_upload_jobs;
        add(format!(
            "your company runs {running} of at most {limit} upload jobs"
        ));
    }
    for root in &queue.roots {
        if let Some(reason) = queue.reason_at(root) {
            add(format!("{}: waiting: {reason}", printable(&root.root)));
        }
    }
    text
}

fn row(root: &QueueRoot) -> Vec<String> {
    let known = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
    let left = match root.files_left {
        0 => "-".to_owned(),
        count => format!("{}, {}", files(count), size(root.bytes_left)),
    };
    let place = match (root.place_in_line, root.companies_in_line) {
        (Some(place), Some(companies)) => format!("{place} of {companies}"),
        _ => "-".to_owned(),
    };
    vec![
        printable(&root.root),
        printable(&root.state.replace('_', " ")),
        (root.waiting_jobs + root.delayed_jobs + root.paused_jobs).to_string(),
        root.running_jobs.to_string(),
        left,
        place,
        known(root.workers_alive),
        root.eta_s.map_or("-".to_owned(), time_left),
    ]
}
