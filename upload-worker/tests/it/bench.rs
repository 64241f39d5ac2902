//! `make bench` works: at a small size, with what is ours alone. Its figures mean nothing here.

use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

#[tokio::test]
async fn a_small_benchmark_measures_what_it_should() {
    let bin_folder = dev_stack::bin_folder().unwrap();
    let program = bin_folder.join("dev-stack");
    assert!(program.exists(), "build it first: cargo build -p dev-stack");
    let folder = tempfile::tempdir().unwrap();
    let (json, markdown) = (
        folder.path().join("figures.json"),
        folder.path().join("figures.md"),
    );
    let running = Command::new(program)
        .args([
            "bench",
            "--small",
            "--sets",
            "A,C",
            "--peers",
            "floor,engine",
            "--dir",
        ])
        .arg(folder.path().join("scratch"))
        .arg("--json")
        .arg(&json)
        .arg("--markdown")
        .arg(&markdown)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(300), running)
        .await
        .expect("it does not end")
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let figures: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    // An example is built with all tests, and not with those of this crate alone.
    let tools: &[&str] = if bin_folder.join("examples/engine").exists() {
        &["floor", "engine", "service"]
    } else {
        &["floor", "service"]
    };
    let sets = figures["sets"].as_array().unwrap();
    assert_eq!(sets.len(), 2, "{figures}");
    for set in sets {
        let results = set["tools"].as_array().unwrap();
        let names: Vec<&str> = results
            .iter()
            .map(|result| result["tool"].as_str().unwrap())
            .collect();
        assert_eq!(names, tools, "{figures}");
        let run = &results.last().unwrap()["runs"][0];
        for (figure, least) in [("wall_s", 0.01), ("peak_bytes", 1e6), ("wal_bytes", 1e3)] {
            assert!(run[figure].as_f64().unwrap() > least, "{figure}: {run}");
        }
        assert!(run["cpu_s"]["postgres"].as_f64().unwrap() > 0.0, "{run}");
    }
    let table = std::fs::read_to_string(&markdown).unwrap();
    assert!(
        table.contains("| service | ") && table.contains("### Goals"),
        "{table}"
    );
    let left = std::fs::read_dir(folder.path().join("scratch")).unwrap().count();
    assert_eq!(left, 0, "the files are still there");
}
