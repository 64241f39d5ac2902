//! Sources that somebody works on: what arrives is one version of a file, and what does not is named.

use crate::ordinary_user;
use crate::proxy::Kind;
use crate::world::{PART, Recorder, World, content, planned};
use domain::{FileErrorCode, FileStatus, SessionErrorCode, Symlinks};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use transfer::{Engine, PlannedFile};

/// Rewrites a file in its place with as many bytes, and puts the time of its last modification back.
fn rewrite_unseen(path: &Path, bytes: &[u8]) {
    let before = fs::metadata(path).unwrap();
    assert_eq!(before.len(), bytes.len() as u64);
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    put_time_back(path, &before);
}

fn put_time_back(path: &Path, before: &fs::Metadata) {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: before.mtime(),
            tv_nsec: before.mtime_nsec(),
        },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
    let after = fs::metadata(path).unwrap();
    assert_eq!(
        (before.len(), before.mtime(), before.mtime_nsec()),
        (after.len(), after.mtime(), after.mtime_nsec())
    );
}

/// Puts another file in the place of `path`, in one step.
fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, path).unwrap();
}

/// Uploads the file `large`, of three parts, and does something to it when the first part has been read and the
/// others have not.
async fn while_in_parts(world: &mut World, change: impl FnOnce(&Path, &[u8])) -> Arc<Recorder> {
    world.engine = Engine::new(1, 64 << 20);
    let content = world.write("large", 3 * PART);
    // So that the source is not empty when it is gone.
    world.write("beside", 1);
    world.proxy.hold(Kind::Part);
    let path = world.path("large");
    let changing = async {
        world.proxy.arrived(Kind::Part, 1).await;
        change(&path, &content);
        world.proxy.release();
    };
    let ((_, recorder), ()) = tokio::join!(world.upload(vec![planned(1, "large", content.len())]), changing);
    assert_eq!(world.open_uploads().await, 0);
    recorder
}

/// What arrived of `large`, and what is recorded of it, are the bytes that are there now.
async fn assert_is_the_present_version(world: &World, recorder: &Recorder) {
    recorder.assert_uploaded(1);
    let path = world.path("large");
    let (bytes, found) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap());
    let outcome = recorder.only();
    assert_eq!(outcome.size_bytes, found.len());
    assert_eq!(
        outcome.modified_at_ns,
        Some(found.mtime() * 1_000_000_000 + found.mtime_nsec())
    );
    assert!(
        world.object("p/large").await == Some(bytes),
        "a mixture, or an older version"
    );
}

#[tokio::test]
async fn one_that_is_replaced_while_its_parts_are_read_arrives_as_it_is_then() {
    let mut world = World::new().await;
    let recorder = while_in_parts(&mut world, |path, old| {
        let before = fs::metadata(path).unwrap();
        let mut new = old.to_vec();
        new.iter_mut().for_each(|byte| *byte ^= 1);
        replace(path, &new);
        put_time_back(path, &before);
        assert_ne!(before.ino(), fs::metadata(path).unwrap().ino());
    })
    .await;
    assert_is_the_present_version(&world, &recorder).await;
}

#[tokio::test]
async fn one_that_is_rewritten_with_its_time_put_back_arrives_as_it_is_then() {
    let mut world = World::new().await;
    let recorder = while_in_parts(&mut world, |path, old| {
        rewrite_unseen(path, &content(old.len(), 99));
    })
    .await;
    assert_is_the_present_version(&world, &recorder).await;
}

#[tokio::test]
async fn one_that_is_emptied_and_grows_back_arrives_as_it_is_then() {
    let mut world = World::new().await;
    let recorder = while_in_parts(&mut world, |path, old| {
        let before = fs::metadata(path).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(&content(old.len(), 7), 0).unwrap();
        put_time_back(path, &before);
    })
    .await;
    assert_is_the_present_version(&world, &recorder).await;
}

#[tokio::test]
async fn one_that_shrinks_below_a_part_arrives_as_it_is_then() {
    let mut world = World::new().await;
    let recorder = while_in_parts(&mut world, |path, _| {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(3)
            .unwrap();
    })
    .await;
    assert_is_the_present_version(&world, &recorder).await;
}

#[tokio::test]
async fn one_that_is_removed_between_its_parts_has_vanished() {
    let mut world = World::new().await;
    let recorder = while_in_parts(&mut world, |path, _| fs::remove_file(path).unwrap()).await;
    recorder.assert_failed(FileErrorCode::FileVanished);
    assert_eq!(world.object("p/large").await, None);
}

#[tokio::test]
async fn one_that_may_not_be_read_any_more_between_its_parts_fails() {
    let name = "changing_files::one_that_may_not_be_read_any_more_between_its_parts_fails";
    if !ordinary_user::is_this_process(name) {
        return;
    }
    let mut world = World::new().await;
    let recorder = while_in_parts(&mut world, |path, _| {
        fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
    })
    .await;
    recorder.assert_failed(FileErrorCode::PermissionDenied);
    assert_eq!(world.object("p/large").await, None);
}

/// What is put in the place of a file between the scan and its turn, and what is told of it.
#[tokio::test]
async fn what_took_a_files_place_is_named_and_never_read() {
    let mut world = World::new().await;
    world.engine = Engine::new(1, 1 << 20);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "secret").unwrap();
    let names = ["folder", "fifo", "link", "inside", "socket"];
    for name in names {
        world.write(name, 10);
    }
    for name in ["moved", "swapped", "linked"] {
        fs::create_dir(world.path(name)).unwrap();
        world.write(&format!("{name}/file"), 10);
    }
    let source = world.source.path().to_owned();
    let elsewhere = outside.path().to_owned();
    let change = move || {
        let at = |name: &str| source.join(name);
        names.iter().for_each(|name| fs::remove_file(at(name)).unwrap());
        fs::create_dir(at("folder")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        symlink(elsewhere.join("file"), at("link")).unwrap();
        symlink("good", at("inside")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
        fs::rename(at("moved"), at("moved away")).unwrap();
        fs::rename(at("swapped"), at("swapped away")).unwrap();
        symlink(&elsewhere, at("swapped")).unwrap();
        fs::rename(at("linked"), at("linked away")).unwrap();
        symlink("linked away", at("linked")).unwrap();
    };
    let once = std::sync::Mutex::new(Some(change));
    let recorder = Arc::new(Recorder {
        on_start: Some(Box::new(move || {
            if let Some(change) = once.lock().unwrap().take() {
                change();
            }
        })),
        ..Recorder::default()
    });
    world.write("good", 10);
    let expected = BTreeMap::from([
        ("folder", Some(FileErrorCode::SpecialFile)),
        ("fifo", Some(FileErrorCode::SpecialFile)),
        ("socket", Some(FileErrorCode::SpecialFile)),
        ("link", Some(FileErrorCode::SymlinkNotFollowed)),
        ("inside", Some(FileErrorCode::SymlinkNotFollowed)),
        ("moved/file", Some(FileErrorCode::FileVanished)),
        ("swapped/file", Some(FileErrorCode::SymlinkNotFollowed)),
        ("linked/file", Some(FileErrorCode::SymlinkNotFollowed)),
        ("good", None),
    ]);
    // The first file to be begun brings the change about.
    let mut paths: Vec<&str> = expected.keys().copied().collect();
    paths.sort_unstable_by_key(|path| *path != "good");
    let files = (0..)
        .zip(&paths)
        .map(|(number, path)| planned(number, path, 10))
        .collect();
    let summary = world.upload_to(files, Arc::clone(&recorder)).await;
    assert_eq!(summary, transfer::Summary::default());
    let outcomes = recorder.outcomes.lock().unwrap();
    let found: BTreeMap<&str, Option<FileErrorCode>> = outcomes
        .iter()
        .map(|outcome| {
            let code = outcome.error.as_ref().map(|error| error.0);
            (paths[outcome.number as usize], code)
        })
        .collect();
    assert_eq!(found, expected, "{outcomes:#?}");
}

#[tokio::test]
async fn a_folder_that_became_a_link_is_followed_inside_only() {
    let mut world = World::new().await;
    world.settings.symlinks = Symlinks::FollowInside;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "secret").unwrap();
    fs::create_dir(world.path("inside")).unwrap();
    let content = world.write("inside/file", 10);
    symlink("inside", world.path("to-inside")).unwrap();
    symlink(outside.path(), world.path("to-outside")).unwrap();
    let (_, recorder) = world.upload(vec![planned(1, "to-outside/file", 10)]).await;
    recorder.assert_failed(FileErrorCode::SymlinkRefused);
    assert_eq!(world.object("p/to-outside/file").await, None);
    let (_, recorder) = world.upload(vec![planned(1, "to-inside/file", 10)]).await;
    recorder.assert_uploaded(1);
    assert_eq!(world.object("p/to-inside/file").await, Some(content));
}

/// The source goes away while files are sent: they are none of them to blame.
#[tokio::test]
async fn a_source_that_goes_away_ends_the_call_and_fails_no_file() {
    type Loss = fn(&Path);
    let losses: [(&str, &str, Loss); 5] = [
        ("source", "No such file", |root| {
            fs::rename(root.join("source"), root.join("away")).unwrap();
        }),
        ("source", "No such file", |root| {
            fs::remove_dir_all(root.join("source")).unwrap();
        }),
        ("source", "Not a directory", |root| {
            fs::rename(root.join("source"), root.join("away")).unwrap();
            fs::write(root.join("source"), "a file now").unwrap();
        }),
        // As an unmounted share leaves its mount point.
        ("", "is its file system mounted", |root| {
            fs::remove_dir_all(root.join("source")).unwrap();
        }),
        ("", "removed", |root| fs::remove_dir_all(root).unwrap()),
    ];
    for (source_path, cause, lose) in losses {
        let mut world = World::new().await;
        world.engine = Engine::new(1, 64 << 20);
        world.source_path = source_path.to_owned();
        let below = if source_path.is_empty() { "source/" } else { "" };
        fs::create_dir(world.path("source")).unwrap();
        let mut files: Vec<PlannedFile> = Vec::new();
        for number in 1..=20 {
            world.write(&format!("source/{number}"), 10);
            files.push(planned(number, &format!("{below}{number}"), 10));
        }
        let root = world.source.path().to_owned();
        let started = std::sync::atomic::AtomicUsize::new(0);
        let recorder = Arc::new(Recorder {
            on_start: Some(Box::new(move || {
                if started.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 4 {
                    lose(&root);
                }
            })),
            ..Recorder::default()
        });
        let summary = world.upload_to(files, Arc::clone(&recorder)).await;
        let fatal = summary.fatal.unwrap();
        assert_eq!(fatal.code, SessionErrorCode::SourceUnreadable, "{fatal:?}");
        assert!(fatal.detail.contains(cause), "{fatal:?}");
        assert_eq!(summary.not_started, (5..=20).collect::<Vec<i64>>());
        recorder.assert_uploaded(4);
    }
}

/// The parts that were sent stay, for when the source is back.
#[tokio::test]
async fn a_source_that_goes_away_between_parts_leaves_the_file_without_an_outcome() {
    let mut world = World::new().await;
    world.engine = Engine::new(1, 64 << 20);
    world.source_path = "source".into();
    fs::create_dir(world.path("source")).unwrap();
    let content = world.write("source/large", 3 * PART);
    world.proxy.hold(Kind::Part);
    let (source, away) = (world.path("source"), world.path("away"));
    let changing = async {
        world.proxy.arrived(Kind::Part, 1).await;
        fs::rename(&source, &away).unwrap();
        // An open file is the same under whatever name, until it changes.
        File::options()
            .write(true)
            .open(away.join("large"))
            .unwrap()
            .set_len(1)
            .unwrap();
        world.proxy.release();
    };
    let file = planned(1, "large", content.len());
    let ((summary, recorder), ()) = tokio::join!(world.upload(vec![file.clone()]), changing);
    assert_eq!(summary.fatal.unwrap().code, SessionErrorCode::SourceUnreadable);
    assert_eq!(summary.not_started, [1]);
    assert!(recorder.outcomes.lock().unwrap().is_empty());
    fs::rename(&away, &source).unwrap();
    fs::write(source.join("large"), &content).unwrap();
    let (_, recorder) = world.upload(vec![file]).await;
    assert_eq!(recorder.only().status, FileStatus::Uploaded);
    assert!(world.object("p/large").await == Some(content));
}
