//! The prompt at a terminal: line editing and history.

use crate::failure::Failure;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

const PROMPT: &str = "secure-rdma> ";

/// A line editor with its history.
#[derive(Debug)]
pub(crate) struct Prompt {
    editor: DefaultEditor,
    history: Option<PathBuf>,
}

impl Prompt {
    /// An editor whose history is kept in the directory `state`; without one, or if that can't be used, it
    /// ends with the program.
    pub(crate) fn open(state: Option<PathBuf>) -> Result<Self, Failure> {
        let mut editor =
            DefaultEditor::new().map_err(|error| Failure::Other(format!("the terminal: {error}")))?;
        let make = |dir: &PathBuf| DirBuilder::new().recursive(true).mode(0o700).create(dir);
        let history = state.filter(|dir| make(dir).is_ok()).map(|dir| dir.join("history"));
        if let Some(history) = &history {
            // There is none at the first time.
            let _ = editor.load_history(history);
        }
        Ok(Self { editor, history })
    }

    /// A line; `None` at the end of the input (Ctrl-D).
    pub(crate) fn read(&mut self) -> Option<Result<String, Failure>> {
        loop {
            match self.editor.readline(PROMPT) {
                Ok(line) => {
                    self.remember(&line);
                    return Some(Ok(line));
                }
                // Ctrl-C drops what was typed, as a shell does.
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => return None,
                Err(error) => return Some(Err(Failure::Other(format!("the terminal: {error}")))),
            }
        }
    }

    /// The line can be called back; if the history can't be written, as long as the program runs.
    fn remember(&mut self, line: &str) {
        let _ = self.editor.add_history_entry(line);
        if let Some(history) = &self.history {
            let _ = self.editor.save_history(history);
        }
    }
}
