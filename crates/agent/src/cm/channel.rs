//! Queues of events, with a descriptor that says whether there are some.

use super::protocol::CmEvent;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Events of one process that wait to be taken, in order.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) client: u64,
    events: VecDeque<CmEvent>,
    /// Counts 1 while there are events. Nobody but the agent reads or writes it.
    ready: OwnedFd,
}

impl Channel {
    pub(super) fn new(client: u64) -> Result<Self, Errno> {
        Ok(Self { client, events: VecDeque::new(), ready: eventfd(0, EventfdFlags::CLOEXEC)? })
    }

    pub(super) fn push(&mut self, event: CmEvent) {
        self.events.push_back(event);
        self.show();
    }

    pub(super) fn pop(&mut self) -> Option<CmEvent> {
        let event = self.events.pop_front();
        self.show();
        event
    }

    /// Takes those events out of the queue that `which` names, in order.
    pub(super) fn take(&mut self, which: impl Fn(&CmEvent) -> bool) -> VecDeque<CmEvent> {
        let (taken, left) = std::mem::take(&mut self.events).into_iter().partition(which);
        self.events = left;
        self.show();
        taken
    }

    /// Makes the descriptor readable while there are events. A program may have set it to wait or not to: this never
    /// waits, since it looks first.
    fn show(&self) {
        let is_raised = self.can(PollFlags::IN);
        if !self.events.is_empty() && !is_raised && self.can(PollFlags::OUT) {
            let _ = rustix::io::write(&self.ready, &1_u64.to_ne_bytes());
        } else if self.events.is_empty() && is_raised {
            let _ = rustix::io::read(&self.ready, &mut [0_u8; 8]);
        }
    }

    fn can(&self, what: PollFlags) -> bool {
        let mut polled = [PollFd::new(&self.ready, what)];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}
