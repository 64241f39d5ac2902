//! A listing beside keys that are asked for.

use crate::world::World;
use bytes::Bytes;
use domain::ChecksumKind;
use futures::stream::{self, StreamExt, TryStreamExt};
use storage::{Hasher, WriteOptions};
use transfer::{Listing, Look};

async fn with_objects(keys: impl Iterator<Item = String>) -> World {
    let mut world = World::new().await;
    world.direct(|_| {});
    let bucket = world.bucket.clone();
    stream::iter(keys)
        .map(|key| {
            let bucket = bucket.clone();
            async move {
                let options = WriteOptions::new(Hasher::of(ChecksumKind::Crc64nvme, b"x"));
                bucket.put(&key, Bytes::from_static(b"x"), &options).await
            }
        })
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    world
}

/// Whether there is an object, and how many pages that took.
async fn ask(listing: &mut Listing, key: &str) -> (bool, usize) {
    for pages in 0..20 {
        match listing.look(key) {
            Look::Found(object) => {
                assert_eq!(object.key, key);
                return (true, pages);
            }
            Look::Absent => return (false, pages),
            Look::Unknown => listing.fetch().await.unwrap(),
        }
    }
    panic!("{key:?}: it never ends");
}

#[tokio::test]
async fn each_page_is_fetched_once_and_what_nobody_asks_for_is_passed_over() {
    let keys = (0..5_500).map(|number| format!("p/{number:04}"));
    let world = with_objects(keys.chain(["a".to_owned(), "q".to_owned()])).await;
    let mut listing = Listing::below(world.bucket.clone(), "p/".to_owned());
    let before = world.server.requests();
    assert_eq!(ask(&mut listing, "p/0000").await, (true, 1));
    assert_eq!(ask(&mut listing, "p/0000").await, (true, 0), "asked again");
    assert_eq!(ask(&mut listing, "p/0000x").await, (false, 0));
    assert_eq!(ask(&mut listing, "p/0999").await, (true, 0));
    assert_eq!(ask(&mut listing, "p/1000").await, (true, 1));
    let (found, pages) = ask(&mut listing, "p/5400").await;
    assert!(found && pages <= 2, "{pages} pages");
    assert_eq!(ask(&mut listing, "p/9").await, (false, 0), "beyond the last");
    let (found, pages) = ask(&mut listing, "p/0500").await;
    assert!(found && pages == 1, "out of order");
    let asked = world.server.requests() - before;
    assert!(asked <= 8, "{asked} requests");
}

/// No text comes just before a key: here some thousand objects lie between the jump and the key.
#[tokio::test]
async fn a_key_is_found_behind_any_number_of_others_that_come_just_before_it() {
    let keys = (0..3_500).map(|number| format!("p/a\u{1F600}/{number:04}"));
    let world = with_objects(keys.chain(["p/b".to_owned()])).await;
    let mut listing = Listing::below(world.bucket.clone(), "p/".to_owned());
    assert!(ask(&mut listing, "p/b").await.0);
    assert!(!ask(&mut listing, "p/c").await.0);
}
