//! What TCP and TLS over TCP have in common: byte streams, with blocking calls for bandwidth, without for round trips.

use crate::clock::{Clock, Meter, Stopwatch};
use crate::failure::Failure;
use crate::sample::Sample;
use crate::spin::Spin;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

/// A receiver's buffer where messages are shorter: a stream has no messages, and a reader takes what there is.
const BUFFER: usize = 64 << 10;

/// Takes what comes until time is up or the stream ends.
pub(super) fn take(mut stream: impl Read, size: usize, clock: &Clock) -> Result<Sample, Failure> {
    let mut buffer = vec![0; size.max(BUFFER)];
    let mut meter = Meter::new(clock, size);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return meter.sample(),
            Ok(bytes) if meter.arrived(bytes) => {}
            Ok(_) => return meter.sample(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The other end has seen before this one that time was up.
            Err(_) if clock.over() => return meter.sample(),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes messages until time is up, each with a call of its own.
pub(super) fn give(mut stream: impl Write, size: usize, clock: &Clock) -> Result<(), Failure> {
    let message = vec![0x5a; size];
    clock.start();
    while !clock.over() {
        match stream.write_all(&message) {
            Ok(()) => {}
            Err(_) if clock.over() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sends back what comes, message by message, looking all the time.
pub(super) fn echo(mut stream: impl Read + Write, size: usize, clock: &Clock) -> Result<(), Failure> {
    let mut message = vec![0; size];
    while receive(&mut stream, &mut message, clock)? {
        send(&mut stream, &message)?;
    }
    Ok(())
}

/// Times the echoes of messages.
pub(super) fn ping(mut stream: impl Read + Write, size: usize, clock: &Clock) -> Result<Sample, Failure> {
    let mut message = vec![0x5a; size];
    let mut watch = Stopwatch::new(clock);
    clock.start();
    loop {
        let begun = Instant::now();
        send(&mut stream, &message)?;
        if !receive(&mut stream, &mut message, clock)? || !watch.back(begun) {
            return watch.sample();
        }
    }
}

/// A message; false when time is up or the stream has ended.
fn receive(stream: &mut impl Read, message: &mut [u8], clock: &Clock) -> Result<bool, Failure> {
    let (mut got, mut spin) = (0, Spin::default());
    while got < message.len() {
        match stream.read(&mut message[got..]) {
            Ok(0) => return Ok(false),
            Ok(bytes) => got += bytes,
            Err(error) if is_vain(&error) && !clock.over() => spin.pause(),
            Err(_) if clock.over() => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn send(stream: &mut impl Write, message: &[u8]) -> Result<(), Failure> {
    let mut rest = message;
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(bytes) => rest = &rest[bytes..],
            Err(error) if is_vain(&error) => {}
            // The other end has seen first that time is up.
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    loop {
        match stream.flush() {
            Err(error) if is_vain(&error) => {}
            Err(error) if !is_gone(&error) => return Err(error.into()),
            _ => return Ok(()),
        }
    }
}

fn is_vain(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}
