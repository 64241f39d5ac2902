//! Root may read everything; what happens without permission is seen by an ordinary user only.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Any user without rights will do; this one needs no entry in the user database.
const NOBODY: u32 = 65534;

/// True when this process has no special rights. As root, runs the test `name` once more in a process without
/// them, asserts that it passes there, and returns false.
pub(crate) fn is_this_process(name: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let output = Command::new("/proc/self/exe")
        .args(["--exact", name, "--nocapture"])
        .env("TMPDIR", "/tmp")
        .current_dir("/")
        .gid(NOBODY)
        .uid(NOBODY)
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "as an ordinary user: {text}");
    assert!(text.contains("1 passed"), "{name} did not run: {text}");
    false
}
