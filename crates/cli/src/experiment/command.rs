//! Commands that are run for the experiment, and remembered: who reads the report can run them again.

use super::document::Command as Entry;
use crate::failure::Failure;
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// No command takes so long, unless something is stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// This program's name, as commands are shown.
const NAME: &str = "secure-rdma";

/// Runs commands one after the other.
#[derive(Debug)]
pub(super) struct Runner {
    program: PathBuf,
    /// Where agents have their sockets: those of the user's own programs are left alone.
    scratch: TempDir,
    commands: Vec<Entry>,
}

impl Runner {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self {
            program: std::env::current_exe().map_err(Failure::system("finding this program's own file"))?,
            scratch: TempDir::new().map_err(Failure::system("making a temporary directory"))?,
            commands: Vec::new(),
        })
    }

    /// This program's file.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// A directory that is gone after the experiment.
    pub(super) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// What was run.
    pub(super) fn into_commands(self) -> Vec<Entry> {
        self.commands
    }

    /// The last command was an attempt that came too early.
    pub(super) fn forget_last(&mut self) {
        self.commands.pop();
    }

    /// Runs this program; what it printed, or why it failed.
    pub(super) async fn own(&mut self, arguments: &[&str]) -> Result<String, String> {
        let line = shown(NAME, arguments);
        let child = self.start_own(arguments)?;
        self.end(line, child).await
    }

    /// The same, for one that prints JSON.
    pub(super) async fn json<T: DeserializeOwned>(&mut self, arguments: &[&str]) -> Result<T, String> {
        let text = self.own(arguments).await?;
        serde_json::from_str(&text).map_err(|error| format!("reading what it printed: {error}"))
    }

    /// Runs another program.
    pub(super) async fn other(&mut self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let line = shown(program, arguments);
        let child = self.start(program.as_ref(), arguments)?;
        self.end(line, child).await
    }

    /// Starts this program, to be ended by [`end`](Self::end) or by dropping it.
    pub(super) fn start_own(&self, arguments: &[&str]) -> Result<Child, String> {
        self.start(self.program.as_os_str(), arguments)
    }

    fn start(&self, program: &OsStr, arguments: &[&str]) -> Result<Child, String> {
        let mut command = Command::new(program);
        command.args(arguments).env("XDG_RUNTIME_DIR", self.scratch.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|error| format!("starting {}: {error}", program.display()))
    }

    /// Waits until it has ended, and remembers it by `line`.
    pub(super) async fn end(&mut self, line: String, child: Child) -> Result<String, String> {
        let begun = Instant::now();
        let result = match tokio::time::timeout(PATIENCE, child.wait_with_output()).await {
            Ok(Ok(output)) => judge(&output),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it hadn't ended after {} s", PATIENCE.as_secs())),
        };
        let outcome = result.as_ref().map_or_else(Clone::clone, |_| "done".to_owned());
        self.commands.push(Entry { line, seconds: begun.elapsed().as_secs_f64(), outcome });
        result
    }
}

/// This program's command as a user types it.
pub(super) fn own_line(arguments: &[&str]) -> String {
    shown(NAME, arguments)
}

fn shown(program: &str, arguments: &[&str]) -> String {
    let mut line = program.to_owned();
    for argument in arguments {
        line.push(' ');
        if argument.is_empty() || argument.contains(|c: char| c.is_whitespace() || "\"'$&;|<>".contains(c)) {
            line.push_str(&format!("'{}'", argument.replace('\'', r"'\''")));
        } else {
            line.push_str(argument);
        }
    }
    line
}

/// What it printed, if it was done; else the last thing that it said.
fn judge(output: &Output) -> Result<String, String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(format!("{}: {last}", output.status))
}

/// Whether a program is there.
pub(super) fn is_installed(program: &str) -> bool {
    let places = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&places).any(|place| place.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_so_that_a_shell_takes_them() {
        assert_eq!(shown("a", &["-n", "1", "b c", "it's"]), r"a -n 1 'b c' 'it'\''s'");
    }
}
