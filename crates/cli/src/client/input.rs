//! Where lines come from: the command line, a pipe, or a terminal.

use super::prompt::Prompt;
use crate::failure::Failure;
use crate::output;
use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::path::PathBuf;
use std::thread;
use tokio::sync::mpsc;

/// A line, or why there can be no more.
type Read = Result<String, Failure>;

/// The lines of one client.
#[derive(Debug)]
pub(crate) enum Lines {
    /// From the command line.
    Given(VecDeque<String>),
    /// From a thread that waits for them: waiting for a file or a terminal can't be cancelled.
    Waited(Waited),
}

/// A thread that reads a line whenever it is asked to. A prompt thus appears after what the line before it came to.
#[derive(Debug)]
pub(crate) struct Waited {
    ask: mpsc::UnboundedSender<()>,
    lines: mpsc::UnboundedReceiver<Read>,
    /// A line was asked for and hasn't come.
    asked: bool,
    forgiving: bool,
    terminal: Option<Terminal>,
}

impl Lines {
    /// Those of the command line.
    pub(crate) fn given(lines: Vec<String>) -> Self {
        Self::Given(lines.into())
    }

    /// Those of standard input.
    pub(crate) fn piped() -> Result<Self, Failure> {
        let mut number = 0_u64;
        let read = move || {
            number += 1;
            let line = io::stdin().lock().lines().next()?;
            Some(line.map_err(|error| Failure::Other(format!("standard input, line {number}: {error}"))))
        };
        Waited::start(read, false, None).map(Self::Waited)
    }

    /// Those that are typed at a terminal, with line editing. Their history is kept in `state`.
    pub(crate) fn typed(state: Option<PathBuf>) -> Result<Self, Failure> {
        let terminal = Terminal::remember();
        let mut prompt = Prompt::open(state)?;
        Waited::start(move || prompt.read(), true, terminal).map(Self::Waited)
    }

    /// The next line; `None` after the last. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Read> {
        match self {
            Self::Given(lines) => lines.pop_front().map(Ok),
            Self::Waited(waited) => waited.next().await,
        }
    }

    /// Whether a line that fails is no reason to stop: somebody is there to correct it.
    pub(crate) fn is_forgiving(&self) -> bool {
        matches!(self, Self::Waited(Waited { forgiving: true, .. }))
    }
}

impl Waited {
    fn start(
        mut read: impl FnMut() -> Option<Read> + Send + 'static,
        forgiving: bool,
        terminal: Option<Terminal>,
    ) -> Result<Self, Failure> {
        let (ask, mut asked) = mpsc::unbounded_channel();
        let (answer, lines) = mpsc::unbounded_channel();
        let work = move || {
            while asked.blocking_recv().is_some() {
                let Some(line) = read() else { return };
                if answer.send(line).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("lines".into())
            .spawn(work)
            .map_err(Failure::system("starting a thread"))?;
        Ok(Self { ask, lines, asked: false, forgiving, terminal })
    }

    async fn next(&mut self) -> Option<Read> {
        if !self.asked {
            // A thread that has ended answers with the end of the lines.
            let _ = self.ask.send(());
            self.asked = true;
        }
        let line = self.lines.recv().await;
        self.asked = false;
        line
    }
}

/// The terminal as it was, to be put back when the program ends while a line is being edited.
#[derive(Debug)]
struct Terminal(rustix::termios::Termios);

impl Terminal {
    fn remember() -> Option<Self> {
        rustix::termios::tcgetattr(io::stdin()).ok().map(Self)
    }

    fn restore(&self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &self.0);
        // Ends bracketed paste, which the editor began with its prompt, and the line that was being edited.
        let _ = output::line(format_args!("\x1b[?2004l"));
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        if let Some(terminal) = self.terminal.as_ref().filter(|_| self.asked) {
            terminal.restore();
        }
    }
}
