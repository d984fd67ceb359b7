//! Options of ids.

use crate::abi::{
    RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, RDMA_OPTION_ID_AFONLY, RDMA_OPTION_ID_REUSEADDR,
    RDMA_OPTION_ID_TOS, ibv_ece, rdma_cm_id,
};
use crate::boundary::result;
use crate::id::Id;
use crate::session::done;
use libc::{EINVAL, ENOSYS, c_int, c_void};
use rocev2_agent::cm::protocol::{IdOption, Request};

/// # Safety
/// There are as many bytes as `len` says.
unsafe fn parse(level: c_int, name: c_int, value: *const c_void, len: usize) -> Result<IdOption, c_int> {
    if level != RDMA_OPTION_ID {
        return Err(ENOSYS);
    }
    // SAFETY: only read where it is that long.
    let byte = || unsafe { value.cast::<u8>().read() };
    // SAFETY: as above.
    let number = || unsafe { value.cast::<c_int>().read_unaligned() };
    match (name, len) {
        (RDMA_OPTION_ID_TOS, 1) => Ok(IdOption::TypeOfService(byte())),
        (RDMA_OPTION_ID_REUSEADDR, 4) => Ok(IdOption::ReuseAddress(number() != 0)),
        (RDMA_OPTION_ID_AFONLY, 4) => Ok(IdOption::FamilyOnly(number() != 0)),
        (RDMA_OPTION_ID_ACK_TIMEOUT, 1) => Ok(IdOption::AckTimeout(byte())),
        (RDMA_OPTION_ID_TOS..=RDMA_OPTION_ID_ACK_TIMEOUT, _) => Err(EINVAL),
        _ => Err(ENOSYS),
    }
}

export! {
    "RDMACM_1.0", -1,
    /// rdma_set_option(3).
    fn rdma_set_option(
        id: *mut rdma_cm_id,
        level: c_int,
        optname: c_int,
        optval: *mut c_void,
        optlen: usize,
    ) -> c_int {
        // SAFETY: the program gives an id that exists, and a value of that length.
        let (id, option) = unsafe { (Id::of(id), parse(level, optname, optval, optlen)) };
        result(id.and_then(|id| done(&Request::SetOption { id: id.number, option: option? })))
    }

    "RDMACM_1.3", -1,
    /// rdma_set_local_ece(3): the device has no enhanced connection establishment, so that it is never sent.
    fn rdma_set_local_ece(id: *mut rdma_cm_id, ece: *mut ibv_ece) -> c_int {
        result(if id.is_null() || ece.is_null() { Err(EINVAL) } else { Ok(()) })
    }

    "RDMACM_1.3", -1,
    /// rdma_get_remote_ece(3): none was received.
    fn rdma_get_remote_ece(id: *mut rdma_cm_id, ece: *mut ibv_ece) -> c_int {
        if id.is_null() || ece.is_null() {
            return result(Err(EINVAL));
        }
        // SAFETY: the program gives a place for it.
        unsafe { ece.write(ibv_ece { vendor_id: 0, options: 0, comp_mask: 0 }) };
        0
    }
}
