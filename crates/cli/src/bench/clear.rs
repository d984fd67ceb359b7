//! Queue pairs in clear, the client's part.

use super::progress::Progress;
use super::queue_pairs::{Connected, Prepared};
use super::report::Row;
use super::request::Request;
use super::run::Course;
use super::statistics::Times;
use super::task::{self, Plan, Rate, Reply, Task, Word};
use crate::failure::Failure;
use rdma_verbs::Device;
use secure_rdma::Session;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinHandle};

/// How often one looks whether something has ended.
const TICK: Duration = Duration::from_millis(2);

/// What a measurement gives.
enum Measured {
    Rate(Option<Rate>),
    Times(Times),
}

/// Measures messages of one size.
pub(super) async fn measure(
    device: &Arc<Device>,
    mut session: Session,
    request: &Request,
    size: u32,
    progress: &Progress,
) -> Result<Row, Failure> {
    let plan = request.plan(size, session.info().path_mtu);
    let prepared = Prepared::new(device, session.info(), plan, false)?;
    task::tell(&mut session, &Task::Verbs(plan, prepared.ends())).await?;
    let ends = match task::hear_soon(&mut session).await? {
        Reply::Ready(Some(ends)) => ends,
        Reply::Refused(reason) | Reply::Failed(reason) => {
            return Err(Failure::Other(format!("the server refuses: {reason}")));
        }
        _ => return Err(Failure::Other("the server didn't tell of its queue pairs".into())),
    };
    let connected = prepared.connect(session.info(), &ends)?;
    task::tell(&mut session, &Word::Go).await?;
    let course = Arc::clone(&progress.course);
    let work = tokio::task::spawn_blocking(move || play(connected, plan, &course));
    let result = follow(&mut session, work, &progress.course).await;
    // Whatever happened, nobody goes on.
    progress.course.end();
    let (measured, other) = result?;
    session.close().await?;
    match measured {
        Measured::Rate(Some(rate)) => {
            let rate = other.map_or(rate, |other| rate.plus(other));
            Ok(Row::bandwidth(size, plan.depth, rate))
        }
        Measured::Times(times) => Row::latency(size, &times),
        Measured::Rate(None) => Err(Failure::Other("nothing was sent".into())),
    }
}

fn play(connected: Connected, plan: Plan, course: &Course) -> Result<Measured, Failure> {
    if plan.latency {
        connected.ping(course).map(Measured::Times)
    } else {
        connected.bandwidth(course).map(Measured::Rate)
    }
}

/// Goes along until both sides have sent what they had to; with what the server's side measured.
async fn follow(
    session: &mut Session,
    mut work: JoinHandle<Result<Measured, Failure>>,
    course: &Course,
) -> Result<(Measured, Option<Rate>), Failure> {
    let mut tick = tokio::time::interval(TICK);
    let mut measured = None;
    while measured.is_none() && !course.has_sent() {
        tokio::select! {
            result = &mut work => measured = Some(worked(result)?),
            reply = task::hear::<Reply>(session) => return Err(unasked(reply)),
            _ = tick.tick() => {}
        }
    }
    task::tell(session, &Word::Done).await?;
    let other = loop {
        tokio::select! {
            result = &mut work, if measured.is_none() => measured = Some(worked(result)?),
            reply = task::hear::<Reply>(session) => match reply {
                Ok(Some(Reply::Done(rate))) => break rate,
                other => return Err(unasked(other)),
            }
        }
    };
    course.end();
    let measured = match measured {
        Some(measured) => measured,
        None => worked(work.await)?,
    };
    Ok((measured, other))
}

pub(super) fn worked<T>(result: Result<Result<T, Failure>, JoinError>) -> Result<T, Failure> {
    result
        .map_err(|error| Failure::Other(format!("measuring ended: {error}; this is a bug in secure-rdma")))?
}

/// What the server said, or that it left, while there was something to do.
fn unasked(reply: Result<Option<Reply>, Failure>) -> Failure {
    match reply {
        Ok(Some(Reply::Failed(reason))) => Failure::Other(format!("on the server's side: {reason}")),
        Ok(Some(_)) => Failure::Other("the server said something that nobody had asked for".into()),
        Ok(None) => Failure::Other("the server has left".into()),
        Err(failure) => failure,
    }
}
