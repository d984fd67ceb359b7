//! Whether the program answers what it receives, so that an ACK may wait for its answer.
//!
//! An ACK that is sent at once stands in the way of the program, which could already answer, and of the peer,
//! which has to take it in before the answer: two system calls in each direction of a round trip. A program
//! that polls either posts its answer before it polls again, and the ACK leaves with that, or it doesn't, and
//! the ACK leaves when it polls. So the ACK waits where the last messages were answered (as TCP's delayed
//! acknowledgements do in "interactive" connections). Where one wasn't, the next ones aren't waited for.
//!
//! A program that ends its dialogue may do neither, and its peer then waits for milliseconds, until the progress thread
//! looks in. So a few answers aren't taken for a habit: programs say hello, agree on what they are about to do, and go
//! on to do that.

use core::time::Duration;
use rocev2::Time;

/// An answer that takes longer isn't waited for: the peer would soon ask again.
const PROMPT: Duration = Duration::from_micros(100);

/// So many messages on end, promptly answered, are a habit.
const HABIT: u8 = 16;

/// What a queue pair remembers of its program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DelayedAck {
    /// When a message was received, unless the program has answered or polled since.
    received: Option<Time>,
    /// How many messages it has answered promptly on end, up to [`HABIT`].
    answers: u8,
}

impl DelayedAck {
    /// The program gets a message. Returns whether its ACK waits.
    pub(crate) fn received(&mut self, now: Time) -> bool {
        self.received = Some(now);
        self.answers >= HABIT
    }

    /// The program posts something to be sent.
    pub(crate) fn answered(&mut self, now: Time) {
        if let Some(received) = self.received.take() {
            let prompt = now.since(received) <= PROMPT;
            self.answers = if prompt { HABIT.min(self.answers + 1) } else { 0 };
        }
    }

    /// Whether a program that answers promptly would have answered. There may be nothing to answer.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        self.received.is_none_or(|received| now.since(received) > PROMPT)
    }

    /// The program looks for more. Returns whether it has left a message unanswered.
    pub(crate) fn polled(&mut self) -> bool {
        let unanswered = self.received.take().is_some();
        if unanswered {
            self.answers = 0;
        }
        unanswered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_nanos(1_000_000_000);

    /// A program that has answered so many messages promptly.
    fn after(answers: u8) -> DelayedAck {
        let mut delayed_ack = DelayedAck::default();
        for _ in 0..answers {
            assert!(!delayed_ack.received(NOW), "it isn't known well enough");
            delayed_ack.answered(NOW + PROMPT);
        }
        delayed_ack
    }

    #[test]
    fn an_ack_waits_for_a_program_that_answers_messages_by_habit() {
        let mut delayed_ack = after(HABIT);
        assert!(delayed_ack.received(NOW));
        delayed_ack.answered(NOW);
        assert!(delayed_ack.received(NOW));
        assert!(delayed_ack.polled(), "the ACK has to leave now");
        assert!(!delayed_ack.polled(), "it has left");
        assert!(!delayed_ack.received(NOW), "the last message was not answered");
    }

    #[test]
    fn a_program_that_thinks_about_its_answers_is_not_waited_for() {
        let mut delayed_ack = after(HABIT);
        delayed_ack.received(NOW);
        delayed_ack.answered(NOW + PROMPT + Duration::from_nanos(1));
        assert!(!delayed_ack.received(NOW));
        assert!(!delayed_ack.is_overdue(NOW + PROMPT));
        assert!(delayed_ack.is_overdue(NOW + PROMPT + Duration::from_nanos(1)));
    }

    #[test]
    fn what_a_program_sends_unasked_is_no_answer() {
        let mut delayed_ack = after(HABIT - 1);
        delayed_ack.answered(NOW);
        assert!(!delayed_ack.received(NOW));
    }
}
