//! The lines that a client takes.

use std::str::FromStr;

/// What `help` prints.
pub(crate) const HELP: &str = "\
send TEXT           send a message; the server echoes it
write TEXT          write into your region of the server's memory, one-sided
read [LEN]          read it back: as much as was written last, or LEN bytes
add N               add to a counter there, atomically; the server says whether there are any
swap COMPARE NEW    store NEW in the counter if it holds COMPARE, atomically
stats               what was moved so far
help                this
quit                close the session (so does the end of the input)";

/// A line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Nothing to do.
    Empty,
    Send(String),
    Write(String),
    /// As much as was written last without a length.
    Read(Option<usize>),
    Add(u64),
    Swap {
        compare: u64,
        new: u64,
    },
    Stats,
    Help,
    Quit,
}

/// A line that can't be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    #[error("{0:?} is no command: there are send, write, read, add, swap, stats, help and quit")]
    Unknown(String),
    #[error("{command} needs more: {usage}")]
    Missing { command: &'static str, usage: &'static str },
    #[error("{command} takes nothing more than: {usage}")]
    TooMuch { command: &'static str, usage: &'static str },
    #[error("{found:?} is not a number from 0 to {max}: {usage}")]
    Number { found: String, max: u64, usage: &'static str },
}

impl FromStr for Line {
    type Err = LineError;

    fn from_str(text: &str) -> Result<Self, LineError> {
        let text = text.trim_start();
        // What follows the first space is taken as it is: it may begin with spaces.
        let (command, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        match command {
            "" => Ok(Self::Empty),
            "send" => content("send", "send TEXT", rest).map(Self::Send),
            "write" => content("write", "write TEXT", rest).map(Self::Write),
            "read" => {
                let mut words = Words::new("read", "read [LEN]", rest);
                let len = words.0.clone().next().map(|_| words.number(usize::MAX as u64)).transpose()?;
                words.end()?;
                Ok(Self::Read(len.and_then(|len| usize::try_from(len).ok())))
            }
            "add" => {
                let mut words = Words::new("add", "add N", rest);
                let add = words.number(u64::MAX)?;
                words.end()?;
                Ok(Self::Add(add))
            }
            "swap" => {
                let mut words = Words::new("swap", "swap COMPARE NEW", rest);
                let (compare, new) = (words.number(u64::MAX)?, words.number(u64::MAX)?);
                words.end()?;
                Ok(Self::Swap { compare, new })
            }
            "stats" => Words::new("stats", "stats", rest).end().map(|()| Self::Stats),
            "help" => Words::new("help", "help", rest).end().map(|()| Self::Help),
            "quit" | "exit" => Words::new("quit", "quit", rest).end().map(|()| Self::Quit),
            other => Err(LineError::Unknown(other.chars().take(40).collect())),
        }
    }
}

fn content(command: &'static str, usage: &'static str, text: &str) -> Result<String, LineError> {
    if text.is_empty() { Err(LineError::Missing { command, usage }) } else { Ok(text.to_owned()) }
}

/// The words behind a command.
struct Words<'a>(std::str::SplitWhitespace<'a>, &'static str, &'static str);

impl<'a> Words<'a> {
    fn new(command: &'static str, usage: &'static str, text: &'a str) -> Self {
        Self(text.split_whitespace(), command, usage)
    }

    fn number(&mut self, max: u64) -> Result<u64, LineError> {
        let word = self.0.next().ok_or(LineError::Missing { command: self.1, usage: self.2 })?;
        let refused = || LineError::Number { found: word.chars().take(40).collect(), max, usage: self.2 };
        word.parse().ok().filter(|&number| number <= max).ok_or_else(refused)
    }

    fn end(&mut self) -> Result<(), LineError> {
        match self.0.next() {
            None => Ok(()),
            Some(_) => Err(LineError::TooMuch { command: self.1, usage: self.2 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        for (text, line) in [
            ("", Line::Empty),
            ("  \t", Line::Empty),
            ("send hello", Line::Send("hello".into())),
            ("  send  two  spaces ", Line::Send(" two  spaces ".into())),
            ("write some data", Line::Write("some data".into())),
            ("read", Line::Read(None)),
            ("read ", Line::Read(None)),
            ("read 9", Line::Read(Some(9))),
            ("add 5", Line::Add(5)),
            ("add 18446744073709551615", Line::Add(u64::MAX)),
            ("swap 5 7", Line::Swap { compare: 5, new: 7 }),
            ("stats", Line::Stats),
            ("help", Line::Help),
            ("quit", Line::Quit),
        ] {
            assert_eq!(text.parse(), Ok(line), "{text:?}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_carried_out_explains_itself() {
        for (text, explanation) in [
            (
                "sned hello",
                "\"sned\" is no command: there are send, write, read, add, swap, stats, help and quit",
            ),
            ("send", "send needs more: send TEXT"),
            ("write ", "write needs more: write TEXT"),
            ("read x", "\"x\" is not a number from 0 to 18446744073709551615: read [LEN]"),
            ("read 1 2", "read takes nothing more than: read [LEN]"),
            ("add", "add needs more: add N"),
            ("add -1", "\"-1\" is not a number from 0 to 18446744073709551615: add N"),
            ("swap 1", "swap needs more: swap COMPARE NEW"),
            ("quit now", "quit takes nothing more than: quit"),
        ] {
            let error = text.parse::<Line>().unwrap_err();
            assert_eq!(error.to_string(), explanation, "{text:?}");
        }
    }

    #[test]
    fn no_line_panics() {
        for text in ["\0", "send \0", "\u{202e}", "read 99999999999999999999999", "ｓｅｎｄ x", "add ٣"]
        {
            let _ = text.parse::<Line>();
        }
    }
}
