//! Shared receive queues.

use super::memory::Domain;
use super::{check, made, request};
use crate::options::SharedReceiveQueueLimits;
use crate::provider::Element;
use crate::{Error, PostReason};
use core::ptr::{self, NonNull};
use rdma_verbs_sys::{IBV_SRQ_LIMIT, ibv_srq, ibv_srq_attr, ibv_srq_init_attr};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A shared receive queue.
pub(crate) struct Queue {
    domain: Arc<Domain>,
    max_requests: usize,
    number: u64,
    /// What its requests need back.
    kept: Arc<dyn Any + Send + Sync>,
    pub(super) raw: NonNull<ibv_srq>,
}

// SAFETY: libibverbs' objects aren't tied to a thread.
unsafe impl Send for Queue {}
// SAFETY: libibverbs locks what it has to.
unsafe impl Sync for Queue {}

impl Queue {
    pub(crate) fn new(
        domain: &Arc<Domain>,
        limits: &SharedReceiveQueueLimits,
        kept: Arc<dyn Any + Send + Sync>,
    ) -> Result<Self, Error> {
        let context = &domain.context;
        let device = &context.limits;
        let SharedReceiveQueueLimits { max_requests, max_sge } = *limits;
        context.within("requests of a shared receive queue", max_requests, device.max_srq_wr)?;
        context.within("elements of a shared receive queue's request", max_sge, device.max_srq_sge)?;
        let count = |count: usize| u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        // Its number travels as the pointer that the library gives back with events.
        let number = context.next_queue.fetch_add(1, Ordering::Relaxed);
        let mut init = ibv_srq_init_attr {
            srq_context: ptr::without_provenance_mut(usize::try_from(number).unwrap_or(usize::MAX)),
            attr: ibv_srq_attr { max_wr: count(max_requests), max_sge: count(max_sge), srq_limit: 0 },
        };
        // SAFETY: the domain exists, and the attributes are the caller's.
        let raw = made(unsafe { context.library.ibv_create_srq(domain.raw.as_ptr(), &raw mut init) })
            .map_err(context.failed("making a shared receive queue", ""))?;
        Ok(Self { domain: Arc::clone(domain), max_requests, number, kept, raw })
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn is_of(&self, domain: &Domain) -> bool {
        Arc::ptr_eq(&self.domain.context, &domain.context)
    }

    /// Asks for one event when fewer than `limit` requests are left.
    pub(crate) fn arm_limit(&self, limit: u32) -> Result<(), Error> {
        let context = &self.domain.context;
        let mut attributes = ibv_srq_attr { srq_limit: limit, ..Default::default() };
        let mask = IBV_SRQ_LIMIT.cast_signed();
        // SAFETY: the queue exists, and the attributes are the caller's.
        check(unsafe { context.library.ibv_modify_srq(self.raw.as_ptr(), &raw mut attributes, mask) })
            .map_err(context.failed("arming a shared receive queue", ""))
    }

    pub(crate) fn prepare_recv<'a>(
        &self,
        elements: impl Iterator<Item = Element<'a>>,
    ) -> Result<request::Receive, PostReason> {
        Ok(request::Receive::new(request::list(&self.domain, elements)?))
    }

    pub(crate) fn post_recv(&self, number: u64, mut request: request::Receive) -> Result<(), PostReason> {
        let (mut raw, mut bad) = (request.raw(number), ptr::null_mut());
        // SAFETY: the queue exists; the request and its list live until the call returns; the regions that
        // the list names are kept until the request completes.
        let result =
            unsafe { rdma_verbs_sys::ibv_post_srq_recv(self.raw.as_ptr(), &raw mut raw, &raw mut bad) };
        check(result).map_err(|error| request::refused(&error, self.max_requests))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it was made by this library and is destroyed once; its queue pairs held it, so none is left.
        let result = unsafe { self.domain.context.library.ibv_destroy_srq(self.raw.as_ptr()) };
        if check(result).is_err() {
            // The device may still use the buffers of its requests: nobody else ever gets them.
            core::mem::forget(Arc::clone(&self.kept));
        }
    }
}
