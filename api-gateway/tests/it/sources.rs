//! Source roots and browsing.

use crate::fixture::{World, text};
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

fn names(page: &Value) -> Vec<String> {
    page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| text(entry, "name").to_owned())
        .collect()
}

#[tokio::test]
async fn a_company_sees_its_roots_only() {
    let world = World::new().await;
    let admin = world.admin().await;
    let acme = world.other_company(&admin, "ACME").await;
    let roots = admin.get("/api/source-roots").await.ok();
    assert_eq!(names(&roots), ["samples", "away"]);
    let available: Vec<&Value> = roots["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|root| &root["available"])
        .collect();
    assert_eq!(available, [true, false]);
    assert!(
        !roots.to_string().contains("/root"),
        "paths of the machine are not shown"
    );
    assert_eq!(
        names(&acme.get("/api/source-roots").await.ok()),
        ["samples", "acme", "away"]
    );
    let first = acme.get("/api/source-roots?limit=2").await.ok();
    assert_eq!(names(&first), ["samples", "acme"]);
    let second = format!("/api/source-roots?limit=2&cursor={}", text(&first, "next_cursor"));
    let second = acme.get(&second).await.ok();
    assert_eq!(
        (names(&second), &second["next_cursor"]),
        (vec!["away".to_owned()], &Value::Null)
    );
    assert_eq!(
        acme.get("/api/source-roots?limit=0&cursor=x").await.bad_fields(),
        ["/limit", "/cursor"]
    );
    acme.get("/api/source-roots/acme/entries").await.ok();
    let hidden = admin
        .get("/api/source-roots/acme/entries")
        .await
        .problem(404, "not_found");
    let unknown = admin
        .get("/api/source-roots/unknown/entries")
        .await
        .problem(404, "not_found");
    assert_eq!(hidden["detail"], unknown["detail"]);
    admin
        .get("/api/source-roots/away/entries")
        .await
        .problem(503, "root_unavailable");
}

#[tokio::test]
async fn a_folder_is_browsed_page_by_page() {
    let world = World::new().await;
    let admin = world.admin().await;
    std::fs::create_dir_all(world.root.join("sub/deeper")).unwrap();
    std::fs::write(world.root.join("b.txt"), "12345").unwrap();
    std::fs::write(world.root.join(".hidden"), "").unwrap();
    std::fs::write(world.root.join(OsStr::from_bytes(b"latin1-\xe9")), "").unwrap();
    std::os::unix::fs::symlink("/etc", world.root.join("out")).unwrap();
    std::os::unix::fs::symlink("sub", world.root.join("inside")).unwrap();
    let path = "/api/source-roots/samples/entries";
    let all = admin.get(path).await.ok();
    assert_eq!(names(&all), [".hidden", "b.txt", "inside", "latin1-%E9", "sub"]);
    let file = &all["items"][1];
    assert_eq!(
        (text(file, "kind"), &file["size_bytes"]),
        ("file", &serde_json::json!(5))
    );
    assert!(file["modified_at"].is_string());
    assert_eq!(
        (text(&all["items"][4], "kind"), &all["items"][4]["size_bytes"]),
        ("directory", &Value::Null)
    );

    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = admin.get(&format!("{path}?limit=2&cursor={cursor}")).await.ok();
        seen.extend(names(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, names(&all));
    assert_eq!(
        names(&admin.get(&format!("{path}?path=sub")).await.ok()),
        ["deeper"]
    );
    assert_eq!(
        names(&admin.get(&format!("{path}?path=sub/")).await.ok()),
        ["deeper"]
    );
}

#[tokio::test]
async fn nothing_outside_is_reached() {
    let world = World::new().await;
    let admin = world.admin().await;
    std::fs::write(world.root.join("file"), "").unwrap();
    std::os::unix::fs::symlink("/etc", world.root.join("out")).unwrap();
    std::os::unix::fs::symlink("round", world.root.join("round")).unwrap();
    let path = "/api/source-roots/samples/entries?path=";
    for bad in ["/etc", "..", "../..", "a/../..", "%2e%2e", "./x", "a//b", "a%00b"] {
        assert_eq!(
            admin.get(&format!("{path}{bad}")).await.bad_fields(),
            ["/path"],
            "{bad}"
        );
    }
    for missing in [
        "missing",
        "out",
        "out/ssl",
        "round",
        "file",
        "file/x",
        &"x".repeat(300),
    ] {
        admin
            .get(&format!("{path}{missing}"))
            .await
            .problem(404, "not_found");
    }
}
