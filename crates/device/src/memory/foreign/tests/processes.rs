//! What the handler does to a program's own signals: each case in a process of its own, this test binary once more.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use super::*;

/// Says to the new process which case it is.
const CASE: &str = "FOREIGN_MEMORY_TEST";

/// The exit status of the cases' own handler.
const HANDLED: i32 = 42;

/// The exit status of a case that went to its end.
const ENDED: i32 = 43;

fn run(case: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::foreign::tests::processes::case", "--ignored", "--test-threads=1"])
        .env(CASE, case)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
}

#[test]
fn a_fault_of_the_programs_own_still_ends_it_by_its_signal() {
    // The handler before is Rust's own, for stacks that overflow.
    assert_eq!(run("its own fault").signal(), Some(libc::SIGSEGV));
    assert_eq!(run("its own fault, nothing before").signal(), Some(libc::SIGSEGV));
    assert_eq!(run("its own fault, ignored before").signal(), Some(libc::SIGSEGV));
    assert_eq!(run("its own fault in a file").signal(), Some(libc::SIGBUS));
}

#[test]
fn a_stack_that_overflows_is_still_told_by_the_handler_that_runs_on_a_stack_of_its_own() {
    assert_eq!(run("its stack overflows").signal(), Some(libc::SIGABRT), "as Rust's handler ends it");
}

#[test]
fn a_signal_that_is_sent_still_ends_it() {
    assert_eq!(run("a signal is sent, nothing before").signal(), Some(libc::SIGSEGV));
}

#[test]
fn a_handler_that_the_program_had_before_still_gets_what_is_the_programs() {
    assert_eq!(run("its own fault, handled before").code(), Some(HANDLED));
    assert_eq!(run("its own fault, handled before without details").code(), Some(HANDLED));
    assert_eq!(run("memory vanishes, handled before").code(), Some(ENDED));
}

#[test]
fn an_ignored_signal_that_is_sent_stays_ignored() {
    assert_eq!(run("a signal is sent, ignored before").code(), Some(ENDED));
}

#[test]
fn a_handler_that_is_called_once_is_called_once() {
    assert_eq!(run("two signals for one call").signal(), Some(libc::SIGSEGV));
}

#[test]
fn memory_vanishes_without_harm_though_the_program_has_put_its_own_handler_in_place() {
    assert_eq!(run("memory vanishes, handled afterwards").code(), Some(ENDED));
    assert_eq!(run("memory vanishes, handled afterwards, and registered anew").code(), Some(ENDED));
}

extern "C" fn details(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    end(HANDLED);
}

extern "C" fn plain(_: i32) {
    end(HANDLED);
}

extern "C" fn nothing(_: i32) {}

fn end(status: i32) {
    // SAFETY: it is allowed in a handler.
    unsafe { libc::_exit(status) };
}

fn handle(handler: usize, flags: i32) {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: all zeros is an action.
        let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        // SAFETY: the handlers do what may be done in one.
        assert_eq!(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }, 0);
    }
}

fn send() {
    // SAFETY: to this thread.
    assert_eq!(unsafe { libc::raise(libc::SIGSEGV) }, 0);
}

/// Not by the device's functions.
fn fault(at: *mut u8) {
    // SAFETY: it isn't: that is what the case is about.
    unsafe { at.write_volatile(1) };
}

#[expect(unconditional_recursion, reason = "that is what the case is about")]
fn overflow(depth: u64) -> u64 {
    overflow(core::hint::black_box(depth + 1)) + depth
}

#[test]
#[ignore = "the other tests run it in processes of their own"]
fn case() {
    let case = std::env::var(CASE).unwrap();
    // No core files of what is meant to end so.
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is a structure of its own.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) }, 0);
    if case.contains("nothing before") {
        handle(libc::SIG_DFL, 0);
    } else if case.contains("ignored before") {
        handle(libc::SIG_IGN, 0);
    } else if case.contains("without details") {
        handle(plain as *const () as usize, 0);
    } else if case.contains("handled before") {
        handle(details as *const () as usize, libc::SA_SIGINFO);
    } else if case.contains("for one call") {
        handle(nothing as *const () as usize, libc::SA_RESETHAND);
    }
    match &*case {
        "its own fault in a file" => {
            let pages = Pages::of_file(1);
            let _memory = pages.memory();
            pages.truncate(0);
            fault(pages.start);
        }
        case if case.starts_with("its own fault") => {
            let pages = Pages::anonymous(1);
            let _memory = pages.memory();
            pages.remove(0);
            fault(pages.start);
        }
        "its stack overflows" => {
            let _memory = Pages::anonymous(1).memory();
            overflow(0);
        }
        case if case.contains("signal") => {
            let _memory = Pages::anonymous(1).memory();
            send();
            if case.contains("two signals") {
                send();
            }
        }
        "memory vanishes, handled before" => {
            let (_pages, memory) = lost(Loss::Truncated);
            try_all(&memory);
        }
        "memory vanishes, handled afterwards" => {
            let (pages, memory) = (Pages::of_file(2), Pages::anonymous(1));
            let (pages_memory, _other) = (pages.memory(), memory.memory());
            pages_memory.write(0, &[7; 2 * PAGE]).unwrap();
            handle(details as *const () as usize, libc::SA_SIGINFO);
            // It is found out after a while.
            for _ in 0..300 {
                pages_memory.read(0, &mut [0]).unwrap();
            }
            pages.truncate(1);
            try_all(&pages_memory);
        }
        "memory vanishes, handled afterwards, and registered anew" => {
            Pages::anonymous(1).memory().write(0, &[1]).unwrap();
            handle(details as *const () as usize, libc::SA_SIGINFO);
            let (_pages, memory) = lost(Loss::Unmapped);
            try_all(&memory);
        }
        other => panic!("{other}"),
    }
    end(ENDED);
}
