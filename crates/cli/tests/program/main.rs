//! The programs as users run them: real processes, real sockets, real exit codes.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod admission;
mod bad_input;
mod bench;
mod browser;
mod certificates;
mod core_dump;
mod demo;
mod doctor;
mod experiment;
mod faults;
mod files;
mod harness;
mod hostile;
mod identity;
mod injected;
mod killed;
mod operator;
mod reconnect;
mod run;
mod sealed_cm;
mod sealed_run;
mod sealing;
mod sessions;
mod terminal;
mod unread;
