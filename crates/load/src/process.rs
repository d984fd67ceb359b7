//! Processes with clients.

use crate::Result;
use crate::args::MemberArgs;
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A process with clients. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) child: Child,
    pub(crate) lines: Lines<BufReader<ChildStdout>>,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts so many, each with what `part` says of it.
pub(crate) fn members(count: u32, part: impl Fn(u32) -> MemberArgs) -> Result<Vec<Member>> {
    let own = std::env::current_exe()?;
    let start = |at| {
        let MemberArgs { server, certs, first, clients, seconds } = part(at);
        let mut command = Command::new(&own);
        command.args(["member", "--server", &server.to_string(), "--certs"]).arg(certs);
        for (name, value) in [("--first", first), ("--clients", clients), ("--seconds", seconds)] {
            command.args([name, &value.to_string()]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        Ok(Member { child, lines })
    };
    (0..count).map(start).collect()
}
