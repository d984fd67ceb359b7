//! Requests that a device has, and what their completions give back.
//!
//! A completion is matched with its request by the request's number, never by its place. Numbers aren't used
//! twice: a completion may outlive its queue pair, and a queue pair's number may be another's by then.

use crate::PostReason;
use crate::provider::Element;
use crate::request::{Kept, PostError, Released, Slices};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bits of a request's number; libibverbs' side needs one more, to tell receives.
const NUMBER_BITS: u32 = 63;

/// Bits of a receive request's number that are its place in its table: as many requests as that can be with
/// the device, and in a completion queue that hasn't been polled.
const PLACE_BITS: u32 = 22;

/// Requests that one send queue may post before its numbers could meet another's: 68 billion.
const SENDS: u64 = 1 << 36;

/// Numbers of receive requests that a table draws at a time.
const RECEIVES: u64 = 1 << 12;

/// The requests of one queue pair; those of its receive queue may be others' as well.
#[derive(Debug)]
pub(crate) struct InFlight {
    sends: Mutex<Sends>,
    receives: Arc<Receives>,
    /// Whether messages come from whoever knows the Q_Key, rather than from one peer.
    datagrams: bool,
}

impl InFlight {
    pub(crate) fn new(receives: Arc<Receives>, datagrams: bool) -> Self {
        Self { sends: Mutex::default(), receives, datagrams }
    }

    pub(crate) fn sends(&self) -> MutexGuard<'_, Sends> {
        self.sends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn datagrams(&self) -> bool {
        self.datagrams
    }

    pub(crate) fn receives(&self) -> &Arc<Receives> {
        &self.receives
    }
}

/// The requests of a send queue. They complete in the order in which they were posted, and the completion of
/// one says that the unsignaled ones before it are done: they leave with it.
#[derive(Debug)]
pub(crate) struct Sends {
    queue: VecDeque<Kept>,
    /// The number of the request posted next. Those in the queue are the numbers right before it.
    next: u64,
}

impl Default for Sends {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mask = (1 << NUMBER_BITS) - 1;
        Self { queue: VecDeque::new(), next: NEXT.fetch_add(SENDS, Ordering::Relaxed) & mask }
    }
}

impl Sends {
    /// Keeps what a request needs back, and returns the request's number.
    pub(crate) fn keep(&mut self, kept: Kept) -> u64 {
        self.queue.push_back(kept);
        self.next += 1;
        self.next - 1
    }

    /// The last request was refused: its slices.
    pub(crate) fn take_back(&mut self) -> Slices {
        let Some(kept) = self.queue.pop_back() else { return Slices::new() };
        self.next -= 1;
        kept.slices
    }

    /// What the completion of request `number` gives back: the unsignaled ones before it, then the request
    /// itself. `None` if the request isn't here.
    pub(crate) fn complete(&mut self, number: u64) -> Option<(Vec<Released>, Kept)> {
        let first = self.next - self.queue.len() as u64;
        let before = usize::try_from(number.checked_sub(first)?).ok()?;
        if before >= self.queue.len() {
            return None;
        }
        let released = self.queue.drain(..before);
        let released = released.map(|kept| Released { id: kept.id, slices: kept.slices }).collect();
        Some((released, self.queue.pop_front()?))
    }
}

/// The requests of a receive queue, which queue pairs may share. Each completes by itself: on a shared queue,
/// one that a slow peer's message has taken stays with the device while later ones come and go.
#[derive(Debug, Default)]
pub(crate) struct Receives(Mutex<Table>);

/// Places are used again, so that the table grows only as far as requests were ever outstanding at a time.
#[derive(Debug, Default)]
struct Table {
    places: Vec<Place>,
    /// The first vacant place.
    vacant: Option<u32>,
    /// What makes the next number unlike all others that its place has had, in any table.
    sequence: u64,
}

#[derive(Debug)]
enum Place {
    Vacant { next: Option<u32> },
    Taken { number: u64, kept: Kept },
}

impl Receives {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a request needs back, and returns the request's number; the request itself, if the table
    /// can't hold more.
    pub(crate) fn keep(&self, kept: Kept) -> Result<u64, Kept> {
        self.table().keep(kept)
    }

    /// Posts a request, which is kept before the device has it: its completion may come at once, on another
    /// thread.
    pub(crate) fn post<P>(
        &self,
        kept: Kept,
        full: impl FnOnce() -> PostReason,
        prepare: impl FnOnce(&mut dyn Iterator<Item = Element<'_>>) -> Result<P, PostReason>,
        post: impl FnOnce(u64, P) -> Result<(), PostReason>,
    ) -> Result<(), PostError> {
        let prepared = prepare(&mut kept.slices.iter().map(|slice| slice.element(slice.capacity())));
        let request = match prepared {
            Ok(request) => request,
            Err(reason) => return Err(PostError { reason, slices: kept.slices }),
        };
        let number = self.keep(kept).map_err(|kept| PostError { reason: full(), slices: kept.slices })?;
        post(number, request).map_err(|reason| {
            let slices = self.take(number).map(|kept| kept.slices).unwrap_or_default();
            PostError { reason, slices }
        })
    }

    /// What the request `number` needs back. `None` if it isn't here.
    pub(crate) fn take(&self, number: u64) -> Option<Kept> {
        self.table().take(number)
    }
}

impl Table {
    fn keep(&mut self, kept: Kept) -> Result<u64, Kept> {
        let at = match self.vacant {
            Some(at) => at,
            None if self.places.len() < 1 << PLACE_BITS => {
                let at = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
                self.places.push(Place::Vacant { next: None });
                at
            }
            None => return Err(kept),
        };
        let number = self.next_sequence() << PLACE_BITS | u64::from(at);
        let Some(place) = self.places.get_mut(at as usize) else { return Err(kept) };
        if let Place::Vacant { next } = *place {
            self.vacant = next;
        }
        *place = Place::Taken { number, kept };
        Ok(number)
    }

    fn take(&mut self, number: u64) -> Option<Kept> {
        let at = u32::try_from(number & ((1 << PLACE_BITS) - 1)).ok()?;
        let place = self.places.get_mut(at as usize)?;
        if !matches!(place, Place::Taken { number: own, .. } if *own == number) {
            return None;
        }
        let taken = core::mem::replace(place, Place::Vacant { next: self.vacant });
        self.vacant = Some(at);
        match taken {
            Place::Taken { kept, .. } => Some(kept),
            Place::Vacant { .. } => None,
        }
    }

    fn next_sequence(&mut self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if self.sequence.is_multiple_of(RECEIVES) {
            self.sequence = NEXT.fetch_add(RECEIVES, Ordering::Relaxed);
        }
        let sequence = self.sequence & ((1 << (NUMBER_BITS - PLACE_BITS)) - 1);
        self.sequence += 1;
        sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Needs;
    use rocev2::work::CompletionKind;

    fn kept(id: u64) -> Kept {
        Kept { id, kind: CompletionKind::Recv, len: 0, needs: Needs::Nothing, slices: Slices::new() }
    }

    #[test]
    fn a_send_gives_back_the_unsignaled_ones_before_it_and_only_known_ones_give_anything_back() {
        let mut sends = Sends::default();
        let first = sends.keep(kept(50));
        assert_eq!([70, 80].map(|id| sends.keep(kept(id))), [first + 1, first + 2]);
        for unknown in [first.wrapping_sub(1), first + 3] {
            assert!(sends.complete(unknown).is_none());
        }
        let (released, own) = sends.complete(first + 1).unwrap();
        assert_eq!(own.id, 70);
        assert_eq!(released.iter().map(|released| released.id).collect::<Vec<_>>(), [50]);
        assert!(sends.complete(first + 1).is_none(), "it completes once");
        assert_eq!(sends.complete(first + 2).unwrap().1.id, 80);
    }

    #[test]
    fn a_refused_send_leaves_no_gap() {
        let mut sends = Sends::default();
        let first = sends.keep(kept(1));
        sends.keep(kept(2));
        sends.take_back();
        assert_eq!(sends.keep(kept(3)), first + 1);
        assert_eq!(sends.complete(first + 1).unwrap().1.id, 3);
    }

    #[test]
    fn a_receive_gives_back_itself_alone_in_whatever_order_they_complete() {
        let receives = Receives::default();
        let numbers = [1, 2, 3].map(|id| receives.keep(kept(id)).unwrap());
        assert_eq!(receives.take(numbers[1]).unwrap().id, 2);
        // The one posted before it is still with the device.
        assert_eq!(receives.take(numbers[2]).unwrap().id, 3);
        assert_eq!(receives.take(numbers[0]).unwrap().id, 1);
        assert!(numbers.iter().all(|number| receives.take(*number).is_none()), "each completes once");
    }

    #[test]
    fn places_are_used_again_and_numbers_are_not() {
        let receives = Receives::default();
        let mut seen = std::collections::HashSet::new();
        let slow = receives.keep(kept(0)).unwrap();
        for id in 1..3 * RECEIVES {
            let number = receives.keep(kept(id)).unwrap();
            assert!(seen.insert(number) && number >> NUMBER_BITS == 0);
            assert_eq!(receives.take(number).unwrap().id, id);
        }
        assert_eq!(receives.table().places.len(), 2);
        assert_eq!(receives.take(slow).unwrap().id, 0);
    }
}
