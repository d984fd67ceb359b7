//! Sealed sessions, with as many requests under way at a time as were asked for, where bandwidth is measured.

use super::pair::Pair;
use super::progress::Progress;
use super::report::Row;
use super::request::{MOST_SEALED, Request};
use super::run::Course;
use super::statistics::{Meter, Times};
use super::task::{self, Limit, Operation, POLLED, Reply, Task};
use crate::failure::Failure;
use secure_rdma::{Buffers, Session, SessionError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::task::JoinSet;

/// What one request carries of a message: a fragment with its tag fills a receive buffer of the server's,
/// which has the usual ones, but for some bytes; a write or a read has 16 slots.
const FRAGMENT: u32 = Buffers::DEFAULT.size - 256;
const SLOTS: u32 = 16 << 12;

/// A session's buffers for messages of that size: a request has one of its own until it completes, so that
/// their number is what can be under way at a time.
pub(super) fn buffers(request: &Request, size: u32) -> Buffers {
    let piece = match request.operation {
        Operation::Send => FRAGMENT,
        Operation::Write | Operation::Read => SLOTS,
        Operation::Atomic => return Buffers::DEFAULT,
    };
    if request.latency {
        return Buffers::DEFAULT;
    }
    let sends = request.depth(size).saturating_mul(size.div_ceil(piece));
    Buffers { sends: sends.clamp(1, MOST_SEALED), ..Buffers::DEFAULT }
}

/// Measures messages of one size, in `session` and as many more as it takes.
pub(super) async fn measure(
    pair: &Pair,
    session: Session,
    request: &Request,
    size: u32,
    progress: &Progress,
) -> Result<Row, Failure> {
    let mut sessions = vec![session];
    for _ in 1..request.queue_pairs {
        sessions.push(pair.open(buffers(request, size)).await?);
    }
    let operation = request.operation;
    let message = vec![0x7b; size as usize];
    let task = match (operation, request.latency) {
        (Operation::Send, false) => Task::Sink,
        (Operation::Send, true) => Task::Echo,
        _ => Task::Idle,
    };
    for session in &mut sessions {
        task::tell(session, &task).await?;
        match task::hear_soon(session).await? {
            Reply::Ready(_) => {}
            Reply::Refused(reason) | Reply::Failed(reason) => {
                return Err(Failure::Other(format!("the server refuses: {reason}")));
            }
            Reply::Done(_) => return Err(Failure::Other("the server has done nothing yet".into())),
        }
        if operation == Operation::Read {
            // What was never written can't be read.
            session.write(0, &message).await?;
        }
    }
    if request.latency {
        let [session] = &mut sessions[..] else {
            return Err(Failure::Other("a latency is measured in one session".into()));
        };
        let times = latency(session, operation, &message, request.limit, &progress.course).await?;
        close(sessions).await?;
        return Row::latency(size, &times);
    }
    let depth = request.depth(size);
    let meter = Arc::new(Mutex::new(Meter::new(u64::from(depth) * u64::from(request.queue_pairs))));
    let mut under_way = JoinSet::new();
    for mut session in sessions {
        let (meter, course, message) = (Arc::clone(&meter), Arc::clone(&progress.course), message.clone());
        let limit = request.limit;
        under_way.spawn(async move {
            let (mut posted, mut completed) = (0, 0);
            // Those that a read has come in, for the next ones.
            let mut buffers = Vec::new();
            let mut note = |until: u64| {
                let mut meter = lock(&meter);
                if until > completed {
                    meter.completed(until - completed);
                    completed = until;
                    course.set(meter.rate().messages);
                }
                meter.elapsed()
            };
            while !limit.reached(posted, note(posted.saturating_sub(depth.into()))) {
                let list = list(operation, depth, limit, posted);
                if operation == Operation::Read {
                    let buffer = buffers.pop().unwrap_or_else(|| vec![0; message.len()]);
                    session.post_read_into(0, buffer).await?;
                } else {
                    post(&mut session, operation, &message, list).await?;
                }
                posted += list;
                if operation == Operation::Read && posted >= depth.into() {
                    buffers.extend(session.next_read().await?);
                }
            }
            while session.next_read().await?.is_some() {}
            session.flush().await?;
            note(posted);
            Ok::<_, SessionError>(session)
        });
    }
    let mut sessions = Vec::new();
    while let Some(ended) = under_way.join_next().await {
        sessions.push(super::clear::worked(ended.map(|result| result.map_err(Failure::from)))?);
    }
    close(sessions).await?;
    let rate = lock(&meter).rate();
    Ok(Row::bandwidth(size, depth, rate))
}

/// Times one operation after the other: half of the round trip of a message that comes back; all of what a
/// write or read takes.
async fn latency(
    session: &mut Session,
    operation: Operation,
    message: &[u8],
    limit: Limit,
    course: &Course,
) -> Result<Times, Failure> {
    let mut times = Times::new(if operation == Operation::Send { 0.5 } else { 1. })?;
    session.set_busy_poll(POLLED);
    let begun = Instant::now();
    while !limit.reached(times.count(), begun.elapsed()) {
        let since = Instant::now();
        carry_out(session, operation, message).await?;
        if operation == Operation::Send {
            session.recv().await?.ok_or(SessionError::Closed)?;
        }
        times.add(since.elapsed());
        course.set(times.count());
    }
    Ok(times)
}

/// How many operations are posted together: messages in lists, as in clear, since short ones then share system calls.
fn list(operation: Operation, depth: u32, limit: Limit, posted: u64) -> u64 {
    let most = if operation == Operation::Send { u64::from(depth.div_ceil(4)) } else { 1 };
    match limit {
        Limit::Messages(limit) => most.min(limit.saturating_sub(posted)).max(1),
        Limit::Time(_) => most,
    }
}

/// Has a write under way, or so many messages.
async fn post(
    session: &mut Session,
    operation: Operation,
    message: &[u8],
    list: u64,
) -> Result<(), SessionError> {
    match operation {
        // It waits for buffers, that is, until no more are under way than may be.
        Operation::Send => {
            session.post_sends(std::iter::repeat_n(message, usize::try_from(list).unwrap_or(1))).await
        }
        Operation::Write => session.post_write(0, message).await,
        Operation::Read | Operation::Atomic => carry_out(session, operation, message).await,
    }
}

async fn carry_out(session: &mut Session, operation: Operation, message: &[u8]) -> Result<(), SessionError> {
    match operation {
        // What comes back says that it has arrived: its acknowledgement may wait for that, and isn't waited for.
        Operation::Send => session.post_send(message).await,
        Operation::Write => session.write(0, message).await,
        Operation::Read => session.read(0, message.len()).await.map(drop),
        // Not sealed; nobody gets here with it.
        Operation::Atomic => session.fetch_add(0, 1).await.map(drop),
    }
}

/// Closes them: only now is it certain that everything has arrived.
async fn close(sessions: Vec<Session>) -> Result<(), Failure> {
    for session in sessions {
        session.close().await?;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::request::request;

    #[test]
    fn a_session_has_a_buffer_for_each_request_that_may_be_under_way() {
        for (line, size, sends) in [
            ("send bw -t 5", 1, 5),
            ("send bw -t 5", 61_440 - 256, 5),
            ("send bw -t 5", 64 << 10, 10),
            ("write bw -t 5", 64 << 10, 5),
            ("write bw -t 1", (64 << 10) + 1, 2),
            ("write bw", 64 << 10, 16),
            ("write bw -t 128", 64 << 10, 128),
            ("write bw", 8 << 20, 512),
            ("write bw -t 1024", 4096, 1024),
            ("send bw -q 256", 8 << 20, 138),
            ("write lat", 64 << 10, Buffers::DEFAULT.sends),
            ("read bw -t 5", 128 << 10, 10),
            ("read lat", 64 << 10, Buffers::DEFAULT.sends),
        ] {
            let request = request(line).unwrap();
            assert_eq!(buffers(&request, size).sends, sends, "{line}, {size} bytes");
        }
    }
}
