//! Multicast groups of datagrams: ibv_attach_mcast(3).

use crate::backend::{self, Gid};
use crate::boundary::number;
use crate::queue_pair::Qp;
use libc::{EINVAL, EOPNOTSUPP, c_int};
use rdma_verbs_sys::{ibv_gid, ibv_qp};
use std::sync::{Mutex, PoisonError};

/// The groups that a program has attached a queue pair to.
#[derive(Default)]
pub(crate) struct Groups(Mutex<Vec<Gid>>);

impl Groups {
    /// Whether there is one: then the queue pair can't be destroyed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn attach(&self, qp: &Qp, gid: Gid) -> Result<(), c_int> {
        qp.context().check()?;
        if qp.context().backend.is_sealed() {
            // What is sent to a group comes in clear.
            return Err(EOPNOTSUPP);
        }
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !groups.contains(&gid) {
            backend::attach(&qp.queue_pair, gid)?;
            groups.push(gid);
        }
        Ok(())
    }

    fn detach(&self, qp: &Qp, gid: Gid) -> Result<(), c_int> {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = groups.iter().position(|known| *known == gid).ok_or(EINVAL)?;
        backend::detach(&qp.queue_pair, gid)?;
        groups.swap_remove(at);
        Ok(())
    }
}

export! {
    "IBVERBS_1.1", libc::EIO,
    /// ibv_attach_mcast(3). RoCE has no LIDs.
    fn ibv_attach_mcast(qp: *mut ibv_qp, gid: *const ibv_gid, lid: u16) -> c_int {
        let _ = lid;
        // SAFETY: the program says that it is one, and gave the GID.
        let (qp, gid) = unsafe { (Qp::of(qp), Gid::from((*gid).raw)) };
        number(qp.groups.attach(qp, gid).err().unwrap_or(0))
    }

    "IBVERBS_1.1", libc::EIO,
    /// ibv_detach_mcast(3).
    fn ibv_detach_mcast(qp: *mut ibv_qp, gid: *const ibv_gid, lid: u16) -> c_int {
        let _ = lid;
        // SAFETY: as above.
        let (qp, gid) = unsafe { (Qp::of(qp), Gid::from((*gid).raw)) };
        number(qp.groups.detach(qp, gid).err().unwrap_or(0))
    }
}
