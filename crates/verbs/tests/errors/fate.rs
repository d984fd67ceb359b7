//! What becomes of the two ends.

use crate::common::Place;
use core::fmt;
use rdma_verbs::{AsyncEvent, State, Status};

/// What becomes of one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    /// Whether its device didn't even take a send request.
    pub(crate) refuses: bool,
    /// What its send requests complete with, in the order in which they were posted.
    pub(crate) sends: Vec<Status>,
    /// What its receive requests complete with, in the order in which they were posted.
    pub(crate) receives: Vec<Status>,
    /// Its queue pair's state in the end; `None` if it is gone.
    pub(crate) state: Option<State>,
    pub(crate) event: Option<AsyncEvent>,
}

impl Fate {
    /// Of an end whose queue pair is gone, so that it tells nothing.
    pub(crate) const GONE: Self =
        Self { refuses: false, sends: Vec::new(), receives: Vec::new(), state: None, event: None };
}

/// What becomes of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) requester: Fate,
    pub(crate) responder: Fate,
}

/// The kind of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Linux' Soft-RoCE.
    Rxe,
    Embedded,
}

/// The devices of requester and responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair(pub(crate) Kind, pub(crate) Kind);

impl Pair {
    pub(crate) const ALL: [Self; 4] = [
        Self(Kind::Rxe, Kind::Rxe),
        Self(Kind::Rxe, Kind::Embedded),
        Self(Kind::Embedded, Kind::Rxe),
        Self(Kind::Embedded, Kind::Embedded),
    ];

    pub(crate) fn of(places: &[Place; 2]) -> Self {
        let kind = |place: &Place| if place.is_embedded() { Kind::Embedded } else { Kind::Rxe };
        Self(kind(&places[0]), kind(&places[1]))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rxe => "rxe",
            Self::Embedded => "embedded",
        })
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}", self.0, self.1)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "A: {}; B: {}", self.requester, self.responder)
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.refuses {
            parts.push("send not taken".to_owned());
        }
        for (what, statuses) in [("send", &self.sends), ("receive", &self.receives)] {
            if !statuses.is_empty() {
                parts.push(format!("{what} {}", counted(statuses)));
            }
        }
        parts.push(self.state.map_or("gone", state_name).to_owned());
        if let Some(event) = self.event {
            parts.push(format!("event {}", event_name(event)));
        }
        f.write_str(&parts.join(", "))
    }
}

/// Statuses in order, with how many there are of each in a row.
fn counted(statuses: &[Status]) -> String {
    let runs = statuses.chunk_by(|a, b| a == b).map(|run| match run.len() {
        1 => run[0].to_string(),
        count => format!("{} ×{count}", run[0]),
    });
    runs.collect::<Vec<_>>().join(" ")
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Reset => "RESET",
        State::Init => "INIT",
        State::ReadyToReceive => "RTR",
        State::ReadyToSend => "RTS",
        State::SendQueueDrain => "SQD",
        State::SendQueueError => "SQE",
        State::Error => "ERR",
    }
}

fn event_name(event: AsyncEvent) -> &'static str {
    match event {
        AsyncEvent::CommunicationEstablished => "COMM_EST",
        AsyncEvent::SendQueueDrained => "SQ_DRAINED",
        AsyncEvent::AccessError => "QP_ACCESS_ERR",
        AsyncEvent::RequestError => "QP_REQ_ERR",
        AsyncEvent::Fatal => "QP_FATAL",
        AsyncEvent::LastWorkRequestReached => "QP_LAST_WQE_REACHED",
    }
}
