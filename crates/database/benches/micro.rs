//! The flush of outcomes to a private Postgres. `make microbench`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench fails by panicking"
)]

#[allow(dead_code, unused_imports, unused_macros, reason = "it is made for the tests")]
#[path = "../tests/it/fixture.rs"]
mod fixture;

use divan::Bencher;
use divan::counter::ItemsCount;
use domain::FileStatus;
use fixture::{Fixture, found, outcome};

const ROWS: i64 = 1_000;

fn main() {
    divan::main();
}

/// The outcomes of 1,000 files, each in a job of its own range, from the fence to the commit.
#[divan::bench(sample_count = 30, sample_size = 1)]
fn flush_1000_rows(bencher: Bencher) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fixture = runtime.block_on(Fixture::new());
    let scan = runtime.block_on(async {
        let (_, scan) = fixture.session().await;
        fixture.claim(scan.id, "scanner").await.unwrap()
    });
    let mut last = 0;
    bencher
        .counter(ItemsCount::new(usize::try_from(ROWS).unwrap()))
        .with_inputs(|| {
            let numbers = last + 1..=last + ROWS;
            last += ROWS;
            runtime.block_on(async {
                let job = fixture
                    .emit(&scan, found(numbers.clone()))
                    .await
                    .unwrap()
                    .unwrap();
                let claim = fixture.claim(job.id, "worker").await.unwrap();
                (
                    claim,
                    numbers
                        .map(|number| outcome(number, FileStatus::Uploaded))
                        .collect(),
                )
            })
        })
        .bench_local_values(|(claim, outcomes)| runtime.block_on(fixture.record(&claim, outcomes)).unwrap());
}
