use dev_stack::Redis;
use tokio::process::Command;

async fn ask(redis: &Redis, command: &[&str]) -> String {
    let url = redis.url();
    let output = Command::new("redis-cli")
        .args(["--no-auth-warning", "-u", &url])
        .args(command)
        .output();
    let output = output.await.unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned() + String::from_utf8_lossy(&output.stderr).trim()
}

#[tokio::test]
async fn it_answers_stops_and_comes_back_empty_at_the_same_address() {
    let folder = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(folder.path()).await.unwrap();
    let url = redis.url();
    assert_eq!(ask(&redis, &["set", "k", "v"]).await, "OK");
    redis.stop().await;
    assert!(ask(&redis, &["get", "k"]).await.contains("Could not connect"));
    redis.start_again().await.unwrap();
    assert_eq!(
        (redis.url(), ask(&redis, &["dbsize"]).await),
        (url, "0".to_owned())
    );
    redis.stop().await;
}
