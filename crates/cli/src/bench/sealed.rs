//! Sealed sessions: their operations as they are, each of which is waited for. Several are under way at a time only in several sessions.

use super::pair::Pair;
use super::progress::Progress;
use super::report::Row;
use super::request::Request;
use super::run::Course;
use super::statistics::{Meter, Times};
use super::task::{self, Limit, Operation, Reply, Task};
use crate::failure::Failure;
use secure_rdma::{Session, SessionError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::task::JoinSet;

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
        sessions.push(pair.open().await?);
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
    let meter = Arc::new(Mutex::new(Meter::new(request.queue_pairs.into())));
    let mut under_way = JoinSet::new();
    for mut session in sessions {
        let (meter, course, message) = (Arc::clone(&meter), Arc::clone(&progress.course), message.clone());
        let limit = request.limit;
        under_way.spawn(async move {
            let mut count = 0;
            while !limit.reached(count, lock(&meter).elapsed()) {
                carry_out(&mut session, operation, &message).await?;
                count += 1;
                let mut meter = lock(&meter);
                meter.completed(1);
                course.set(meter.rate().messages);
            }
            Ok::<_, SessionError>(session)
        });
    }
    let mut sessions = Vec::new();
    while let Some(ended) = under_way.join_next().await {
        sessions.push(super::clear::worked(ended.map(|result| result.map_err(Failure::from)))?);
    }
    close(sessions).await?;
    let rate = lock(&meter).rate();
    Ok(Row::bandwidth(size, 1, rate))
}

/// Times one operation after the other: half of the round trip of a message that comes back; all of what a write or read takes.
async fn latency(
    session: &mut Session,
    operation: Operation,
    message: &[u8],
    limit: Limit,
    course: &Course,
) -> Result<Times, Failure> {
    let mut times = Times::new(if operation == Operation::Send { 0.5 } else { 1. })?;
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

async fn carry_out(session: &mut Session, operation: Operation, message: &[u8]) -> Result<(), SessionError> {
    match operation {
        Operation::Send => session.send(message).await,
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
