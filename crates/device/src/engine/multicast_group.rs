//! The queue pairs that get what is sent to a multicast group.

use super::{CompletionQueue, Port, QueuePair};
use smallvec::SmallVec;
use std::sync::{Arc, PoisonError, RwLock, Weak};

/// Queue pairs that a group has at most.
pub(crate) const MAX_MEMBERS: usize = 256;

/// The members of a group. Weak, since a member's completion queues hold the group's port.
#[derive(Default)]
pub(crate) struct Members(RwLock<Vec<Weak<QueuePair>>>);

impl Members {
    /// All of them; nothing stays locked.
    pub(crate) fn all(&self) -> SmallVec<[Arc<QueuePair>; 8]> {
        let members = self.0.read().unwrap_or_else(PoisonError::into_inner);
        members.iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether it is one already, or is now: there may be no room.
    pub(crate) fn attach(&self, queue_pair: &Arc<QueuePair>) -> bool {
        let mut members = self.0.write().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.strong_count() > 0);
        if members.iter().any(|member| member.as_ptr() == Arc::as_ptr(queue_pair)) {
            return true;
        }
        let has_room = members.len() < MAX_MEMBERS;
        if has_room {
            members.push(Arc::downgrade(queue_pair));
        }
        has_room
    }

    /// Whether it was one.
    pub(crate) fn detach(&self, queue_pair: &QueuePair) -> bool {
        let mut members = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = members.len();
        members.retain(|member| !core::ptr::eq(member.as_ptr(), queue_pair));
        members.len() < before
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }
}

impl Port {
    /// Has a queue pair get what arrives here, if this is a group's port; whether there is room for it.
    pub(crate) fn attach(self: &Arc<Self>, queue_pair: &Arc<QueuePair>) -> bool {
        let attached = self.members().is_some_and(|members| members.attach(queue_pair));
        if attached {
            queue_pair.use_port(self);
        }
        attached
    }

    /// Ends that. Completion queues that no other member uses don't look here any more.
    pub(crate) fn detach(self: &Arc<Self>, queue_pair: &QueuePair) -> bool {
        let Some(members) = self.members() else { return false };
        let was = members.detach(queue_pair);
        let others = members.all();
        let used = |queue: &CompletionQueue| others.iter().any(|other| other.completes_into(queue));
        queue_pair.queues().filter(|queue| !used(queue)).for_each(|queue| queue.remove_port(self));
        was
    }
}
