//! An echo of single packets, both ends looking all the time.

use super::{End, headers};
use crate::clock::{Clock, Stopwatch};
use crate::ends::{self, Meeting, Place};
use crate::failure::Failure;
use crate::sample::Sample;
use crate::spin::Spin;
use rocev2::wire::Operation;
use std::net::SocketAddr;
use std::time::Instant;

pub(super) fn run(size: usize, clock: &Clock, place: Place<'_>, esp: bool) -> Result<Sample, Failure> {
    let payload = vec![0x5a; size];
    let server = |meeting: Meeting<SocketAddr>| {
        let mut end = End::meet(&meeting, esp)?;
        while receive(&mut end, clock)? {
            send(&mut end, &payload)?;
        }
        Ok(())
    };
    let client = |meeting: Meeting<SocketAddr>| {
        let mut end = End::meet(&meeting, esp)?;
        let mut watch = Stopwatch::new(clock);
        clock.start();
        loop {
            let begun = Instant::now();
            send(&mut end, &payload)?;
            if !receive(&mut end, clock)? || !watch.back(begun) {
                return watch.sample();
            }
        }
    };
    Ok(ends::run(place, server, client)?.1)
}

fn send(end: &mut End, payload: &[u8]) -> Result<(), Failure> {
    end.put(&headers(Operation::SendOnly), payload)?;
    end.flush()
}

/// Waits for a packet; false when time is up.
fn receive(end: &mut End, clock: &Clock) -> Result<bool, Failure> {
    let mut spin = Spin::default();
    while !clock.over() {
        if end.take(|_| ())? > 0 {
            return Ok(true);
        }
        spin.pause();
    }
    Ok(false)
}
