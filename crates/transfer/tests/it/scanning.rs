//! Scans of real trees.

use crate::ordinary_user;
use domain::object_key::PathText;
use domain::{FileErrorCode, Symlinks};
use rustix::fs::{CWD, FileType, Mode};
use std::ffi::OsStr;
use std::fs::{create_dir, create_dir_all, write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use tempfile::tempdir;
use tokio_util::sync::CancellationToken;
use transfer::{Filter, ScanError, ScanEvent, ScanOptions, ScanTotals, SourceRoot, scan};

/// Scans to the end. Files come back as (path, size), the others as (path, code, skipped).
struct Found {
    files: Vec<(String, u64)>,
    others: Vec<(String, FileErrorCode, bool)>,
    events: Vec<ScanEvent>,
    result: Result<ScanTotals, ScanError>,
}

impl Found {
    fn names(&self) -> Vec<&str> {
        self.files.iter().map(|file| file.0.as_str()).collect()
    }

    fn others(&self) -> Vec<(&str, FileErrorCode, bool)> {
        self.others
            .iter()
            .map(|other| (other.0.as_str(), other.1, other.2))
            .collect()
    }
}

async fn found(root: &Path, source_path: &str, symlinks: Symlinks, filter: Filter) -> Found {
    let options = ScanOptions {
        source_path: source_path.to_owned(),
        filter,
        symlinks,
        in_key_order: false,
    };
    let mut scan = scan(
        &SourceRoot::open(root).unwrap(),
        options,
        CancellationToken::new(),
    );
    let mut events = Vec::new();
    while let Some(batch) = scan.events.recv().await {
        assert!(!batch.is_empty());
        events.extend(batch);
    }
    let mut found = Found {
        files: Vec::new(),
        others: Vec::new(),
        events: events.clone(),
        result: scan.result.await.unwrap(),
    };
    for event in events {
        match event {
            ScanEvent::File(file) => found.files.push((file.path.text, file.size_bytes)),
            ScanEvent::NotSendable {
                path, code, skipped, ..
            } => found.others.push((path.text, code, skipped)),
        }
    }
    if let Ok(totals) = &found.result {
        assert_eq!(totals.files, found.files.len() as u64);
        assert_eq!(totals.bytes, found.files.iter().map(|file| file.1).sum::<u64>());
        let skipped = found.others.iter().filter(|other| other.2).count() as u64;
        assert_eq!(
            (totals.skipped, totals.failed),
            (skipped, found.others.len() as u64 - skipped)
        );
    }
    found
}

fn all() -> Filter {
    Filter::compile(&[], &[]).unwrap()
}

fn filter(include: &[&str], exclude: &[&str]) -> Filter {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Filter::compile(&owned(include), &owned(exclude)).unwrap()
}

#[tokio::test]
async fn everything_is_found_in_order_with_size_and_time() {
    let root = tempdir().unwrap();
    create_dir_all(root.path().join("b/.hidden/deep")).unwrap();
    create_dir(root.path().join("empty")).unwrap();
    write(root.path().join("a"), "").unwrap();
    write(root.path().join("z"), "12345").unwrap();
    write(root.path().join(".dot"), "1").unwrap();
    write(root.path().join("b/.hidden/deep/file"), "123").unwrap();
    write(root.path().join("b/x"), "12").unwrap();
    let modified = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1_600_000_000_123_456_789);
    let file = std::fs::File::options()
        .write(true)
        .open(root.path().join("z"))
        .unwrap();
    file.set_modified(modified).unwrap();

    let found = found(root.path(), "", Symlinks::Skip, all()).await;
    let files: Vec<(&str, u64)> = found
        .files
        .iter()
        .map(|(path, size)| (path.as_str(), *size))
        .collect();
    assert_eq!(
        files,
        [
            (".dot", 1),
            ("a", 0),
            ("z", 5),
            ("b/x", 2),
            ("b/.hidden/deep/file", 3)
        ]
    );
    let totals = found.result.unwrap();
    assert_eq!((totals.directories, totals.bytes), (5, 11));
    let time = found.events.iter().find_map(|event| match event {
        ScanEvent::File(file) if file.path.text == "z" => Some(file.modified_at_ns),
        _ => None,
    });
    assert_eq!(time, Some(1_600_000_000_123_456_789));
}

#[tokio::test]
async fn odd_names_come_with_their_bytes() {
    let root = tempdir().unwrap();
    let long = "n".repeat(255);
    let names: Vec<&[u8]> = vec![
        b"a b",
        b"100%",
        b"x+y#z",
        b"\"'",
        "caf\u{e9}".as_bytes(),
        "cafe\u{301}".as_bytes(),
        "🦀".as_bytes(),
        b"new\nline",
        b"latin-\xe9",
        long.as_bytes(),
    ];
    for name in &names {
        write(root.path().join(OsStr::from_bytes(name)), "x").unwrap();
    }
    let found = found(root.path(), "", Symlinks::Skip, all()).await;
    let mut expected: Vec<String> = names.iter().map(|name| PathText::from_bytes(name).text).collect();
    expected.sort_unstable();
    let mut texts = found.names();
    texts.sort_unstable();
    assert_eq!(texts, expected);
    assert!(texts.contains(&"new%0Aline") && texts.contains(&"latin-%E9"));
}

#[tokio::test]
async fn trees_deeper_than_a_path_may_be_long_end_in_a_failed_row() {
    let root = tempdir().unwrap();
    let folder = |dir: &rustix::fd::OwnedFd| {
        rustix::fs::mkdirat(dir, "d", Mode::RWXU).unwrap();
        rustix::fs::openat(dir, "d", rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap()
    };
    let file = |dir: &rustix::fd::OwnedFd, name| {
        rustix::fs::mknodat(dir, name, FileType::RegularFile, Mode::RUSR, 0).unwrap();
    };
    let mut dir = rustix::fs::openat(CWD, root.path(), rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    // More levels than a process may usually have files open; it can be made step by step only.
    for _ in 0..2000 {
        dir = folder(&dir);
    }
    file(&dir, "deep");
    for _ in 0..100 {
        dir = folder(&dir);
    }
    file(&dir, "too-deep");
    for symlinks in [Symlinks::Skip, Symlinks::FollowInside] {
        let found = found(root.path(), "", symlinks, all()).await;
        assert_eq!(found.names(), [format!("{}deep", "d/".repeat(2000))]);
        let cut = "d/".repeat(2049);
        assert_eq!(
            found.others(),
            [(cut.as_str(), FileErrorCode::NameNotSupported, false)]
        );
    }
}

#[tokio::test]
async fn many_files_come_in_batches_and_lose_none() {
    let root = tempdir().unwrap();
    for number in 0..10_000 {
        write(root.path().join(format!("{number:05}")), "").unwrap();
    }
    let found = found(root.path(), "", Symlinks::Skip, all()).await;
    let mut names = found.names();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 10_000);
}

#[tokio::test]
async fn a_single_file_is_a_source() {
    let root = tempdir().unwrap();
    create_dir(root.path().join("d")).unwrap();
    write(root.path().join("d/one"), "123").unwrap();
    write(root.path().join("d/two"), "1").unwrap();
    let found_file = found(root.path(), "d/one", Symlinks::Skip, all()).await;
    assert_eq!(found_file.files, [("one".to_owned(), 3)]);
    let found_folder = found(root.path(), "d/", Symlinks::Skip, all()).await;
    assert_eq!(found_folder.names(), ["one", "two"]);
}

#[tokio::test]
async fn a_missing_or_escaping_source_is_an_error() {
    let outer = tempdir().unwrap();
    let root = outer.path().join("root");
    create_dir(&root).unwrap();
    symlink("..", root.join("up")).unwrap();
    for (path, cause) in [
        ("missing", "No such file"),
        ("up", "leads out of the source root"),
    ] {
        let found = found(&root, path, Symlinks::FollowInside, all()).await;
        let error = found.result.unwrap_err();
        assert!(matches!(&error, ScanError::SourceUnreadable { path: told, .. } if told == path));
        assert!(error.to_string().contains(cause), "{error}");
    }
}

#[tokio::test]
async fn special_files_are_told_and_never_opened() {
    let root = tempdir().unwrap();
    rustix::fs::mknodat(CWD, root.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = UnixListener::bind(root.path().join("socket")).unwrap();
    write(root.path().join("file"), "x").unwrap();
    // Opening the FIFO would block for ever.
    let found = found(root.path(), "", Symlinks::Skip, all()).await;
    assert_eq!(found.names(), ["file"]);
    let special = FileErrorCode::SpecialFile;
    assert_eq!(
        found.others(),
        [("fifo", special, true), ("socket", special, true)]
    );
}

/// Links of every sort, some of them out of the root.
fn tree_with_links() -> (tempfile::TempDir, std::path::PathBuf) {
    let outer = tempdir().unwrap();
    write(outer.path().join("secret"), "secret").unwrap();
    create_dir(outer.path().join("outside")).unwrap();
    write(outer.path().join("outside/secret"), "secret").unwrap();
    let root = outer.path().join("root");
    create_dir_all(root.join("dir/sub")).unwrap();
    write(root.join("dir/sub/file"), "123").unwrap();
    symlink("dir/sub/file", root.join("to-file")).unwrap();
    symlink("dir/sub", root.join("to-dir")).unwrap();
    symlink("../secret", root.join("out-file")).unwrap();
    symlink("../outside", root.join("out-dir")).unwrap();
    symlink(outer.path().join("secret"), root.join("out-absolute")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("itself", root.join("itself")).unwrap();
    symlink("..", root.join("dir/back")).unwrap();
    (outer, root)
}

#[tokio::test]
async fn links_are_skipped_by_default() {
    let (_outer, root) = tree_with_links();
    let found = found(&root, "", Symlinks::Skip, all()).await;
    assert_eq!(found.names(), ["dir/sub/file"]);
    let names: Vec<&str> = found.others.iter().map(|other| other.0.as_str()).collect();
    assert_eq!(
        names,
        [
            "dangling",
            "itself",
            "out-absolute",
            "out-dir",
            "out-file",
            "to-dir",
            "to-file",
            "dir/back"
        ]
    );
    assert!(
        found
            .others
            .iter()
            .all(|other| other.1 == FileErrorCode::SymlinkNotFollowed && other.2)
    );
}

#[tokio::test]
async fn links_inside_are_followed_when_asked_and_others_refused() {
    let (_outer, root) = tree_with_links();
    let found = found(&root, "", Symlinks::FollowInside, all()).await;
    let files: Vec<(&str, u64)> = found
        .files
        .iter()
        .map(|(path, size)| (path.as_str(), *size))
        .collect();
    assert_eq!(files, [("to-file", 3), ("dir/sub/file", 3), ("to-dir/file", 3)]);
    let mut names: Vec<&str> = found.others.iter().map(|other| other.0.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "dangling",
            "dir/back/",
            "itself",
            "out-absolute",
            "out-dir",
            "out-file"
        ]
    );
    assert!(
        found
            .others
            .iter()
            .all(|other| other.1 == FileErrorCode::SymlinkRefused && other.2)
    );
}

#[tokio::test]
async fn a_source_may_be_reached_again_by_a_link_above_it_only_once() {
    let root = tempdir().unwrap();
    create_dir_all(root.path().join("source")).unwrap();
    write(root.path().join("source/file"), "1").unwrap();
    write(root.path().join("beside"), "1").unwrap();
    symlink("..", root.path().join("source/above")).unwrap();
    let found = found(root.path(), "source", Symlinks::FollowInside, all()).await;
    assert_eq!(found.names(), ["file", "above/beside"]);
    assert_eq!(
        found.others(),
        [("above/source/", FileErrorCode::SymlinkRefused, true)]
    );
}

#[tokio::test]
async fn filters_choose_files_and_prune_folders() {
    let root = tempdir().unwrap();
    for folder in ["raw/tmp", "cache/x", "docs"] {
        create_dir_all(root.path().join(folder)).unwrap();
    }
    for file in [
        "raw/a.csv",
        "raw/b.txt",
        "raw/tmp/c.csv",
        "cache/x/d.csv",
        "docs/e",
        "f.csv",
    ] {
        write(root.path().join(file), "1").unwrap();
    }
    symlink("f.csv", root.path().join("link.txt")).unwrap();
    let found = found(
        root.path(),
        "",
        Symlinks::Skip,
        filter(&["*.csv", "docs/"], &["/cache/", "tmp"]),
    )
    .await;
    assert_eq!(found.names(), ["f.csv", "docs/e", "raw/a.csv"]);
    assert_eq!(found.others(), [], "what is not asked for is not told");
    // The pruned folders were not even listed.
    assert_eq!(found.result.unwrap().directories, 3);
}

#[tokio::test]
async fn a_stopped_scan_says_so() {
    let root = tempdir().unwrap();
    // More than fits between the walk and its reader.
    for number in 0..6000 {
        write(root.path().join(number.to_string()), "").unwrap();
    }
    let options = ScanOptions {
        source_path: String::new(),
        filter: all(),
        symlinks: Symlinks::Skip,
        in_key_order: false,
    };
    let stop = CancellationToken::new();
    stop.cancel();
    let source = SourceRoot::open(root.path()).unwrap();
    let stopped = scan(&source, options.clone(), stop);
    assert!(matches!(stopped.result.await.unwrap(), Err(ScanError::Stopped)));
    let unread = scan(&source, options, CancellationToken::new());
    drop(unread.events);
    assert!(matches!(unread.result.await.unwrap(), Err(ScanError::Stopped)));
}

#[tokio::test]
async fn a_folder_without_permission_is_a_failed_row_and_the_rest_goes_on() {
    let name = "scanning::a_folder_without_permission_is_a_failed_row_and_the_rest_goes_on";
    if !ordinary_user::is_this_process(name) {
        return;
    }
    let root = tempdir().unwrap();
    for folder in ["closed", "open"] {
        create_dir(root.path().join(folder)).unwrap();
        write(root.path().join(folder).join("file"), "1").unwrap();
    }
    let close = |mode: u32| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(root.path().join("closed"), permissions).unwrap();
    };
    close(0o000);
    let walked = found(root.path(), "", Symlinks::Skip, all()).await;
    let denied = found(root.path(), "closed", Symlinks::Skip, all()).await;
    close(0o700);
    assert_eq!(walked.names(), ["open/file"]);
    assert_eq!(
        walked.others(),
        [("closed/", FileErrorCode::PermissionDenied, false)]
    );
    let error = denied.result.unwrap_err();
    assert!(error.to_string().contains("Permission denied"), "{error}");
}

/// Counted is what was met: what is in a directory that is not entered is not.
#[tokio::test]
async fn what_the_filter_leaves_out_is_counted() {
    let root = tempdir().unwrap();
    create_dir_all(root.path().join("a/cache/deep")).unwrap();
    create_dir_all(root.path().join("b/tmp")).unwrap();
    for path in [
        "a/1.csv",
        "a/2.txt",
        "a/cache/3.csv",
        "a/cache/deep/4",
        "b/5.csv",
        "b/no.csv",
    ] {
        write(root.path().join(path), path).unwrap();
    }
    symlink("1.csv", root.path().join("a/link")).unwrap();
    symlink("../b", root.path().join("a/tmp")).unwrap();
    let _socket = UnixListener::bind(root.path().join("b/socket")).unwrap();
    let excluded = async |path: &str, symlinks, filter| {
        let found = found(root.path(), path, symlinks, filter).await;
        let excluded = found.result.unwrap().excluded;
        (found.files.len(), excluded.files, excluded.directories)
    };
    let chosen = || filter(&["*.csv"], &["cache/", "no*", "tmp"]);
    // Left out: 2.txt, no.csv, the links and the socket; cache and b/tmp are not entered.
    assert_eq!(excluded("", Symlinks::Skip, chosen()).await, (2, 5, 2));
    // A link to a directory is one.
    assert_eq!(excluded("", Symlinks::FollowInside, chosen()).await, (2, 4, 3));
    assert_eq!(excluded("a/2.txt", Symlinks::Skip, chosen()).await, (0, 1, 0));
    assert_eq!(excluded("", Symlinks::Skip, all()).await, (6, 0, 0));
}
