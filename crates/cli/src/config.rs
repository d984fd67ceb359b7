//! A server's options from a file: `--config FILE`.
//!
//! TOML; each key is the name of an option, without its two dashes. What a key may have is what the option
//! takes: the file is turned into arguments, and these are read as all arguments are.

use crate::failure::Failure;
use clap::{ArgAction, Command};
use std::ffi::OsString;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// Options that stand for something else than the server's settings.
const NOT_HERE: [&str; 4] = ["config", "check", "help", "version"];

/// The arguments that the file at `path` stands for.
///
/// # Errors
/// It can't be read, or a line of it is wrong: the error says which.
pub(crate) fn arguments(path: &Path, command: &Command) -> Result<Vec<OsString>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("--config {}: {error}", path.display())))?;
    parse(&text, command).map_err(|Wrong { line, reason }| {
        Failure::Usage(format!("--config {}, line {line}: {reason}", path.display()))
    })
}

/// What is wrong with a file.
#[derive(Debug)]
struct Wrong {
    line: usize,
    reason: String,
}

fn parse(text: &str, command: &Command) -> Result<Vec<OsString>, Wrong> {
    let wrong = |at: usize, reason: String| Wrong { line: line_of(text, at), reason };
    let table = DeTable::parse(text)
        .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    let mut keys: Vec<_> = table.get_ref().iter().collect();
    // In the file's order, so that the first mistake is told first.
    keys.sort_by_key(|(key, _)| key.span().start);
    let mut arguments = Vec::new();
    for (key, value) in keys {
        let (name, at) = (key.get_ref().as_ref(), key.span().start);
        let known = command.get_arguments().find(|arg| arg.get_long() == Some(name));
        let Some(option) = known.filter(|_| !NOT_HERE.contains(&name)) else {
            return Err(wrong(
                at,
                format!("there is no option {name:?}: the keys are those of --help, without --"),
            ));
        };
        let words = words(value.get_ref(), option.get_action())
            .map_err(|reason| wrong(at, format!("{name}: {reason}")))?;
        for word in words {
            let argument: OsString = match word {
                Some(word) => format!("--{name}={word}").into(),
                None => format!("--{name}").into(),
            };
            // By itself, so that what is wrong with it is told with its line.
            if let Err(error) = command.clone().no_binary_name(true).try_get_matches_from([&argument]) {
                let error = error.to_string();
                let first = error.lines().next().unwrap_or_default();
                return Err(wrong(at, first.strip_prefix("error: ").unwrap_or(first).to_owned()));
            }
            arguments.push(argument);
        }
    }
    Ok(arguments)
}

/// The words that an option has; `None` where its being there says it all.
fn words(value: &DeValue<'_>, action: &ArgAction) -> Result<Vec<Option<String>>, &'static str> {
    match (value, action) {
        (DeValue::Boolean(true), ArgAction::SetTrue) => Ok(vec![None]),
        (DeValue::Boolean(false), ArgAction::SetTrue) => Ok(Vec::new()),
        (_, ArgAction::SetTrue) => Err("it is true or false"),
        // As the options themselves have it.
        (DeValue::Boolean(on), _) => Ok(vec![Some(if *on { "on" } else { "off" }.into())]),
        (DeValue::Array(values), ArgAction::Append) => {
            values.iter().map(|value| Ok(Some(word(value.get_ref())?))).collect()
        }
        (DeValue::Array(_), _) => Err("it has one value"),
        (value, _) => Ok(vec![Some(word(value)?)]),
    }
}

fn word(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        _ => Err("it is a text or a decimal number"),
    }
}

/// The number of the line that the byte `at` is in, from 1 on.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::SecureServer;
    use clap::CommandFactory;

    fn read(text: &str) -> Result<Vec<String>, (usize, String)> {
        let arguments =
            parse(text, &SecureServer::command()).map_err(|Wrong { line, reason }| (line, reason))?;
        Ok(arguments.into_iter().map(|argument| argument.into_string().unwrap()).collect())
    }

    #[test]
    fn keys_are_the_servers_options() {
        let text = "# a server\nlisten = \"127.0.0.1:4433\"\nmax-clients = 10_000\nregion = \"64K\"\n\
                    counters = false\nname = [\"a.example\", \"10.0.0.1\"]\nverbose = true\n";
        let expected = [
            "--listen=127.0.0.1:4433",
            "--max-clients=10000",
            "--region=64K",
            "--counters=off",
            "--name=a.example",
            "--name=10.0.0.1",
            "--verbose",
        ];
        assert_eq!(read(text).unwrap(), expected);
        assert_eq!(read("verbose = false\n").unwrap(), [""; 0]);
    }

    #[test]
    fn every_option_can_be_a_key() {
        let command = SecureServer::command();
        for option in command.get_arguments().filter_map(|arg| arg.get_long()) {
            let known =
                !matches!(read(&format!("{option} = 7.5\n")), Err((1, words)) if words.contains("no option"));
            assert_eq!(known, !NOT_HERE.contains(&option), "{option}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, words) in [
            ("verbose = true\nmax-client = 4\n", 2, "no option \"max-client\""),
            ("\n\nconfig = \"other.toml\"\n", 3, "no option"),
            ("max-clients = 0\n", 1, "--max-clients"),
            ("region = \"1M\"\n\nseal = \"sometimes\"\n", 3, "--seal"),
            ("max-clients = \"many\"\nregion = 7.5\n", 1, "--max-clients"),
            ("region = 7.5\n", 1, "a text or a decimal number"),
            ("region = [\"1M\", \"2M\"]\n", 1, "one value"),
            ("verbose = \"yes\"\n", 1, "true or false"),
            ("listen = \"here\"\n", 1, "--listen"),
            ("seal = \"off\"\nseal = \"off\"\n", 2, "duplicate"),
            ("seal = \n", 1, ""),
            ("[server]\nseal = \"off\"\n", 1, "no option \"server\""),
        ] {
            let (found, reason) = read(text).unwrap_err();
            assert_eq!(found, line, "{text}: {reason}");
            assert!(reason.contains(words), "{text}: {reason}");
        }
    }
}
