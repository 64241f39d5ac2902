//! A dry run whose workers die plans what one does that nobody disturbs.

use crate::fixture::{World, assert_killed_at};
use serde_json::json;

/// Several pages of the bucket's listing, and several batches of the scan.
const FILES: usize = 3_300;

#[tokio::test]
async fn workers_killed_in_a_dry_run_change_nothing_of_its_plan() {
    let mut world = World::start(1, super::LEASE_S).await;
    let mut place = world.place("plan-killed").await;
    place.source.write_many(FILES);
    place.upload(json!({}), "completed").await;
    world.stack.kill_worker(0).await.unwrap();
    place.source.write("zz new", "new");
    for path in ["000/x.tmp", "016/y.tmp", "zz.tmp", "001/cache/one"] {
        place.source.write_unexpected(path.as_bytes(), "left out");
    }
    let settings =
        json!({ "on_existing": "skip_unchanged", "exclude": ["*.tmp", "cache/"], "dry_run": true });
    let id = place.start(settings).await;
    // Two batches are recorded when the first dies. The second walks to the end, and dies before it can say so.
    for (point, schedule) in [
        ("scan.before_commit", "scan.before_commit=2*off->1*kill"),
        ("end.before_commit", "end.before_commit=kill"),
        ("finish.before_commit", "finish.before_commit=kill"),
    ] {
        let worker = world.armed_worker(schedule, None);
        assert_killed_at(point, worker).await;
    }
    world.stack.start_worker().unwrap();
    let session = place.api.ended_as(&id, "completed").await;
    place.assert_consistent(&session).await;
    let plan = place.plan(&session).await;
    assert_eq!(plan["send"], json!({ "files": 1, "size_bytes": 3 }));
    assert_eq!(plan["left_alone"][0]["count"], FILES);
    assert_eq!(plan["excluded"], json!({ "files": 3, "directories": 1 }));
    assert_eq!(
        plan["requests"],
        json!({
            "put_object": 1, "create_multipart_upload": 0, "upload_part": 0, "complete_multipart_upload": 0,
            "list_objects": FILES.div_ceil(1_000),
        })
    );
    world.stack.stop().await;
}
