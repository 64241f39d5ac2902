//! What it costs to record files: each row is visited once, whatever the statistics say.

use crate::fixture::{Fixture, found, outcome};
use domain::FileStatus;

/// Updates of files, those of them that touched no index, rows that were read without an index, index entries read.
const VISITS: &str = "SELECT sum(t.n_tup_upd), sum(t.n_tup_hot_upd), sum(t.seq_tup_read), sum(i.idx_tup_read)
    FROM pg_stat_user_tables t JOIN pg_stat_user_indexes i USING (relid)
    WHERE t.relname LIKE 'file_uploads_%' AND i.indexrelname LIKE '%_pkey'";
/// A backend tells what it did when it ends.
const END_BACKENDS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[tokio::test]
async fn recording_visits_the_files_of_the_batch_and_no_others() {
    const JOBS: i64 = 20;
    const FILES: i64 = 500;
    let fixture = Fixture::new().await;
    // Nobody may come along and make the statistics right.
    fixture
        .sql("ALTER TABLE file_uploads_default SET (autovacuum_enabled = off)")
        .await;
    let (_, scan) = fixture.session().await;
    let scan = fixture.claim(scan.id, "scanner").await.unwrap();
    for job in 0..JOBS {
        let upload = fixture
            .emit(&scan, found(job * FILES + 1..=(job + 1) * FILES))
            .await
            .unwrap()
            .unwrap();
        let upload = fixture.claim(upload.id, "w1").await.unwrap();
        for half in 0..2 {
            let first = job * FILES + half * FILES / 2;
            let outcomes =
                (first + 1..=first + FILES / 2).map(|number| outcome(number, FileStatus::Uploaded));
            fixture.record(&upload, outcomes.collect()).await.unwrap();
        }
    }
    fixture.sql(END_BACKENDS).await;
    let [updates, in_page, read_without_index, read_by_index] = loop {
        let visits = fixture.sql(VISITS).await;
        let figures: Vec<i64> = visits.split('|').map(|figure| figure.parse().unwrap()).collect();
        if figures[0] >= JOBS * FILES {
            break figures.try_into().unwrap();
        }
    };
    assert_eq!(updates, JOBS * FILES);
    assert_eq!(in_page, updates, "an outcome stays in its page");
    assert_eq!(read_without_index, 0);
    assert!(
        read_by_index <= 2 * JOBS * FILES,
        "{read_by_index} index entries for {updates} files"
    );
}
