//! XRC domains.

use super::device::{ATTRIBUTES, DeviceState, within};
use super::queue_pair::Owned;
use super::{CompletionQueue, DeviceError, ProtectionDomain, QueuePair, SharedReceiveQueue};
use crate::engine::{self, DomainMemory, Receives, XrcQueue, XrcReceives};
use crate::memory::KeyTable;
use rocev2::Qpn;
use rocev2::transport::{QueuePair as Protocol, rc};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

/// An XRC domain (`ibv_xrcd`): targets, and the shared receive queues that messages for them may name.
///
/// An initiator, a queue pair of a protection domain like any other, names with each request the queue that it is for.
/// So one connection serves all protection domains of the peer that have a queue in the domain, and reaches no others.
pub struct XrcDomain {
    domain: Arc<engine::XrcDomain>,
    targets: Mutex<HashMap<Qpn, Weak<Owned>>>,
    /// The memory that targets reach by themselves: none.
    keys: Arc<KeyTable>,
    device: Arc<DeviceState>,
}

impl XrcDomain {
    pub(crate) fn new(device: Arc<DeviceState>, keys: Arc<KeyTable>) -> Self {
        Self { domain: Arc::default(), targets: Mutex::default(), keys, device }
    }

    /// A shared receive queue for `capacity` requests, which complete in `completions`. Requests that name it reach the
    /// regions of `domain`.
    ///
    /// # Errors
    /// The device has no queue of that size, or an object is another device's.
    pub fn shared_receive_queue(
        &self,
        domain: &ProtectionDomain,
        completions: &CompletionQueue,
        capacity: usize,
    ) -> Result<SharedReceiveQueue, DeviceError> {
        if !domain.is_of(&self.device) || !completions.is_of(&self.device) {
            return Err(DeviceError::OtherDevice);
        }
        let queue = domain.shared_receive_queue(capacity)?;
        let shared = self.device.engine().shared();
        let make = |number| {
            let memory = DomainMemory::new(Arc::clone(domain.keys()));
            let (queue, completions) = (Arc::clone(queue.engine()), Arc::clone(completions.engine()));
            XrcQueue::new(number, queue, memory, completions)
        };
        let member = self.domain.add(shared.host(), make);
        let member = member.map_err(DeviceError::system("drawing the number of a shared receive queue"))?;
        Ok(queue.with_xrc(Arc::clone(&self.domain), member))
    }

    /// A target in the RESET state.
    ///
    /// # Errors
    /// The device has as many queue pairs as it can have.
    pub fn target(&self) -> Result<QueuePair, DeviceError> {
        within("queue pairs", self.device.engine().queue_pairs() + 1, ATTRIBUTES.max_qp)?;
        let engine = self.device.engine();
        let queue_pair = engine.add_queue_pair(|qpn| {
            engine::QueuePair::new(
                qpn,
                Protocol::Rc(rc::QueuePair::xrc_target()),
                Receives::Xrc(XrcReceives::new(Arc::clone(&self.domain))),
                DomainMemory::new(Arc::clone(&self.keys)),
                None,
                engine.shared(),
            )
        });
        let queue_pair = queue_pair.map_err(DeviceError::system("drawing a queue pair number"))?;
        let target = QueuePair::new(queue_pair, Arc::clone(&self.device));
        let mut targets = crate::lock(&self.targets);
        targets.retain(|_, target| target.strong_count() > 0);
        targets.insert(target.qpn(), target.downgrade());
        Ok(target)
    }

    /// The domain's target with that number, for one more user (`ibv_open_qp(3)`). It ends when the last one drops it.
    ///
    /// # Errors
    /// The domain has no such target.
    pub fn open_target(&self, qpn: Qpn) -> Result<QueuePair, DeviceError> {
        let target = crate::lock(&self.targets).get(&qpn).and_then(Weak::upgrade);
        target.map(QueuePair::from).ok_or(DeviceError::NoSuchTarget(qpn))
    }
}

impl core::fmt::Debug for XrcDomain {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("XrcDomain").finish_non_exhaustive()
    }
}
