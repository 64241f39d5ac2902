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
    let mut command = Command::new("/proc/self/exe");
    command
        .env("TMPDIR", "/tmp")
        .current_dir("/")
        .gid(NOBODY)
        .uid(NOBODY);
    assert_passes(command, name);
    false
}

/// Asserts that the test `name` passes in a process of its own, begun with `command`.
pub(crate) fn assert_passes(mut command: Command, name: &str) {
    let output = command.args(["--exact", name, "--nocapture"]).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "in another process: {text}");
    assert!(text.contains("1 passed"), "{name} did not run: {text}");
}
