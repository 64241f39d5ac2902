//! Directories that somebody works on while they are walked. A walk waits for its reader, and so can be held.

use domain::{FileErrorCode, Symlinks};
use rustix::fs::{CWD, FileType, Mode};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::{TempDir, tempdir};
use tokio_util::sync::CancellationToken;
use transfer::{Filter, Scan, ScanError, ScanEvent, ScanOptions, ScanTotals, SourceRoot, scan};

/// More files than fit between a walk and its reader (17 batches of 256).
const MANY: usize = 4_500;
/// As many that the walk is held before it has read all of their names (4,096 at a time).
const VERY_MANY: usize = 9_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// A walk below `source` that is held in its folder `a`, before the others were opened.
struct Held {
    root: TempDir,
    scan: Scan,
}

impl Held {
    async fn new(files: usize, symlinks: Symlinks) -> Self {
        let root = tempdir().unwrap();
        let source = root.path().join("source");
        fs::create_dir_all(source.join("a")).unwrap();
        for number in 0..files {
            fs::write(source.join(format!("a/{number:05}")), "").unwrap();
        }
        for folder in ["b", "c", "d", "e", "f"] {
            fs::create_dir_all(source.join(folder).join("below")).unwrap();
            fs::write(source.join(folder).join("below/file"), "").unwrap();
        }
        let options = ScanOptions {
            source_path: "source".into(),
            filter: Filter::compile(&[], &[]).unwrap(),
            symlinks,
            in_key_order: false,
        };
        let opened = SourceRoot::open(root.path()).unwrap();
        let scan = scan(&opened, options, CancellationToken::new());
        let start = Instant::now();
        while scan.events.len() < scan.events.max_capacity() {
            assert!(start.elapsed() < PATIENCE, "the walk found too little");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self { root, scan }
    }

    fn source(&self) -> std::path::PathBuf {
        self.root.path().join("source")
    }

    /// Lets it go on to its end: the files that are in no folder `a`, what is no file, and how it ended.
    async fn ended(mut self) -> (Vec<String>, Vec<Told>, Result<ScanTotals, ScanError>) {
        let (mut files, mut others) = (Vec::new(), Vec::new());
        while let Some(events) = self.scan.events.recv().await {
            for event in events {
                match event {
                    ScanEvent::File(file) => files.push(file.path.text),
                    ScanEvent::NotSendable {
                        path, code, skipped, ..
                    } => others.push((path.text, code, skipped)),
                }
            }
        }
        files.retain(|path| !path.starts_with("a/"));
        (files, others, self.scan.result.await.unwrap())
    }
}

type Told = (String, FileErrorCode, bool);

#[tokio::test]
async fn folders_that_become_something_else_are_failed_rows() {
    for symlinks in [Symlinks::Skip, Symlinks::FollowInside] {
        let held = Held::new(MANY, symlinks).await;
        let outside = tempdir().unwrap();
        fs::create_dir(outside.path().join("below")).unwrap();
        fs::write(outside.path().join("below/secret"), "").unwrap();
        let at = |name: &str| held.source().join(name);
        fs::remove_dir_all(at("b")).unwrap();
        fs::rename(at("c"), held.root.path().join("elsewhere")).unwrap();
        let away = |name: &str| fs::rename(at(name), held.root.path().join(name)).unwrap();
        away("d");
        symlink(outside.path(), at("d")).unwrap();
        away("e");
        rustix::fs::mknodat(CWD, at("e"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let (files, others, result) = held.ended().await;
        assert_eq!(files, ["f/below/file"]);
        let expected: Vec<Told> = ["b/", "c/", "d/", "e/"]
            .map(|path| (path.to_owned(), FileErrorCode::FileVanished, false))
            .into();
        assert_eq!(others, expected);
        assert_eq!(result.unwrap().failed, 4);
    }
}

/// The system tells of a directory that is removed while it is listed that it is at its end.
#[tokio::test]
async fn a_folder_that_is_removed_while_it_is_listed_is_a_failed_row() {
    let held = Held::new(VERY_MANY, Symlinks::Skip).await;
    fs::remove_dir_all(held.source().join("a")).unwrap();
    let (files, others, result) = held.ended().await;
    assert_eq!(files.len(), 5);
    let (folder, below): (Vec<Told>, Vec<Told>) = others.into_iter().partition(|other| other.0 == "a/");
    assert_eq!(folder, [("a/".to_owned(), FileErrorCode::FileVanished, false)]);
    let vanished = |told: &Told| told.1 == FileErrorCode::FileVanished && !told.2;
    assert!(below.iter().all(vanished), "{below:?}");
    result.unwrap();
}

/// One that is moved is walked on: it is open. What it holds is looked for under its old name when it is sent.
#[tokio::test]
async fn a_folder_that_is_moved_while_it_is_listed_is_listed_to_its_end() {
    let mut held = Held::new(MANY, Symlinks::Skip).await;
    fs::rename(held.source().join("a"), held.source().join("moved")).unwrap();
    let mut found = 0;
    while let Some(events) = held.scan.events.recv().await {
        let is_in_it =
            |event: &&ScanEvent| matches!(event, ScanEvent::File(file) if file.path.text.starts_with("a/"));
        found += events.iter().filter(is_in_it).count();
    }
    assert_eq!(found, MANY);
    assert_eq!(held.scan.result.await.unwrap().unwrap().failed, 0);
}

#[tokio::test]
async fn a_source_that_goes_away_in_the_middle_ends_the_walk_with_its_cause() {
    type Loss = fn(&Path);
    let losses: [Loss; 3] = [
        |root| fs::rename(root.join("source"), root.join("away")).unwrap(),
        |root| fs::remove_dir_all(root.join("source")).unwrap(),
        |root| fs::remove_dir_all(root).unwrap(),
    ];
    for lose in losses {
        let held = Held::new(MANY, Symlinks::Skip).await;
        lose(held.root.path());
        let moved = held.root.path().join("away");
        if moved.exists() {
            // Otherwise it would be walked to its end: it is open, and nothing of it fails.
            fs::remove_dir_all(moved.join("f")).unwrap();
        }
        let (_, others, result) = held.ended().await;
        assert_eq!(others, [], "no row for what is not to blame");
        let error = result.unwrap_err();
        assert!(matches!(error, ScanError::SourceUnreadable { .. }), "{error:?}");
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
