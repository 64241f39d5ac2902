//! The OpenAPI document: committed as it is, complete, and served.

use crate::fixture::World;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[test]
fn the_committed_document_is_the_programs() {
    let output = Command::new(env!("CARGO_BIN_EXE_api-gateway"))
        .arg("openapi")
        .output()
        .unwrap();
    assert!(output.status.success());
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi.yaml");
    let committed = std::fs::read_to_string(committed).unwrap();
    let generated = String::from_utf8(output.stdout).unwrap();
    assert!(
        committed == generated,
        "openapi.yaml is not what the program prints: run `make generate`"
    );
}

#[tokio::test]
async fn it_is_served_and_every_reference_and_operation_is_sound() {
    let world = World::new().await;
    let anonymous = world.anonymous();
    let document = anonymous.get("/openapi.json").await.ok();
    assert_eq!(document["openapi"], "3.1.0");
    let yaml = anonymous.get("/openapi.yaml").await;
    assert!(
        yaml.status == 200 && yaml.text.starts_with("openapi: 3.1.0"),
        "{}",
        yaml.text
    );
    let page = anonymous.get("/docs/").await;
    assert!(
        page.status == 200 && page.text.contains("swagger-ui"),
        "{}",
        page.text
    );
    assert_eq!(anonymous.get("/docs").await.header("location"), "/docs/");
    assert_eq!(anonymous.get("/docs/swagger-ui-bundle.js").await.status, 200);

    let text = document.to_string();
    for reference in text
        .split("\"$ref\":\"#")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
    {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} is not unique");
            if path.starts_with("/api/") {
                assert!(operation["responses"]["500"].is_object(), "{method} {path}");
            }
            for parameter in path.split(['{', '}']).skip(1).step_by(2) {
                let documented = operation["parameters"].as_array().unwrap();
                assert!(
                    documented.iter().any(|known| known["name"] == parameter),
                    "{method} {path}: {parameter}"
                );
            }
        }
    }
    assert!(names.len() > 30, "{names:?}");
    assert_eq!(
        document["security"],
        serde_json::json!([{"bearer": []}, {"cookie": []}])
    );
}
