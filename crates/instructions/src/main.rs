//! Does one stage of what a small file goes through, for as many files as it is told to, so that `.ci/instructions/run.py` can
//! count what a file costs: one thread for all that is async, a store within the process, nothing that depends on time.
//!
//! ```sh
//! instructions tree FILES DIR       # makes the files
//! instructions STAGE FILES DIR
//! ```

mod sink;
mod stages;

use anyhow::{Context as _, ensure};
use std::path::PathBuf;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [stage, files, dir] = arguments.as_slice() else {
        anyhow::bail!("usage: instructions STAGE FILES DIR");
    };
    let files = files.parse().context("FILES is no number")?;
    let dir = PathBuf::from(dir);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        match stage.as_str() {
            "tree" => stages::tree(files, &dir),
            "walk" => stages::walk(&dir).await.map(|found| found.len()),
            "read" => stages::read(files, &dir),
            "checksum" => Ok(stages::checksum(files)),
            "sign" => stages::sign(files).await,
            "put" => stages::put(files).await,
            "engine" => stages::engine(&dir).await,
            "record" => stages::record(files),
            other => anyhow::bail!("{other} is no stage"),
        }
    })?;
    ensure!(done == files, "{done} files instead of {files}");
    Ok(())
}
