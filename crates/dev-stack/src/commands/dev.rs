//! `dev-stack dev`: the stack in the foreground, for people and programs that develop against it.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use dev_stack::{Stack, StackOptions};

use super::{asked_to_stop, claim};
use crate::DevArguments;

/// How often we look whether all servers are still there.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) async fn run(arguments: DevArguments) -> anyhow::Result<ExitCode> {
    let _claim = claim(&arguments.dir)?;
    let env_file = arguments.dir.join("env");
    // Nobody shall take the last run's for this one's.
    let _ = std::fs::remove_file(&env_file);
    let options = StackOptions {
        workers: arguments.workers,
        port: arguments.port,
        source_roots: arguments.source_roots.filter(|roots| !roots.is_empty()),
        ..StackOptions::in_folder(&arguments.dir)
    };
    let stop = asked_to_stop();
    tokio::pin!(stop);
    let mut stack = tokio::select! {
        stack = Stack::start(options) => stack?,
        stopped = &mut stop => return stopped.map(|()| ExitCode::SUCCESS),
    };
    write_env(&env_file, &stack)?;
    eprintln!(
        "environment: {}  logs: {}/logs  Ctrl-C stops all",
        env_file.display(),
        stack.dir().display()
    );
    println!("ready {}", stack.api_url());

    let casualty = tokio::select! {
        stopped = &mut stop => { stopped?; None }
        casualty = casualty(&mut stack) => Some(casualty),
    };
    // The next run writes it again; until then there is nothing to reach.
    let _ = std::fs::remove_file(&env_file);
    stack.stop().await;
    Ok(match casualty {
        None => ExitCode::SUCCESS,
        Some(casualty) => {
            eprintln!("dev-stack: {casualty}");
            ExitCode::FAILURE
        }
    })
}

/// Waits for a server that ends though nobody asked it to.
pub(super) async fn casualty(stack: &mut Stack) -> String {
    loop {
        if let Some(casualty) = stack.casualty() {
            return casualty;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// `KEY=value` lines that a shell can source and a simple program can split.
fn write_env(path: &Path, stack: &Stack) -> anyhow::Result<()> {
    let lines: String = stack
        .env()
        .into_iter()
        .map(|(name, value)| format!("{name}={}\n", quoted(&value)))
        .collect();
    dev_stack::stack::write_private(path, &lines).with_context(|| format!("cannot write {}", path.display()))
}

/// The value as it is when a shell takes it so, else in single quotes.
fn quoted(value: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./:@=,+%?".contains(character);
    if value.chars().all(is_plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn values_survive_a_shell() {
        for value in [
            "postgres://a:b@127.0.0.1:5/d?x=y",
            "r=/with space",
            "it's",
            "$HOME `id` \"x\" ; &",
            "",
        ] {
            let script = format!("V={}\nprintf %s \"$V\"", quoted(value));
            let output = std::process::Command::new("sh")
                .args(["-c", &script])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        }
        assert_eq!(
            quoted("redis://default:ab@127.0.0.1:1/0"),
            "redis://default:ab@127.0.0.1:1/0"
        );
    }
}
