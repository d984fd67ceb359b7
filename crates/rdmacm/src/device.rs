//! The list of devices.

use crate::boundary::null;
use crate::session::device;
use libc::{ENOMEM, c_int};
use rdma_verbs_sys::ibv_context;

export! {
    "RDMACM_1.0", std::ptr::null_mut(),
    /// rdma_get_devices(3): the one that there is.
    fn rdma_get_devices(num_devices: *mut c_int) -> *mut *mut ibv_context {
        let found = device();
        if !num_devices.is_null() {
            // SAFETY: the program gives a place for it.
            unsafe { num_devices.write(found.is_ok().into()) };
        }
        match found {
            Ok(device) => {
                // SAFETY: room for two pointers.
                let list: *mut *mut ibv_context = unsafe { libc::calloc(2, size_of::<*mut ibv_context>()) }.cast();
                if list.is_null() {
                    return null(ENOMEM);
                }
                // SAFETY: the first of them; the second is null.
                unsafe { list.write(device.verbs) };
                list
            }
            Err(error) => null(error),
        }
    }

    "RDMACM_1.0", (),
    /// rdma_free_devices(3).
    fn rdma_free_devices(list: *mut *mut ibv_context) {
        // SAFETY: rdma_get_devices made it.
        unsafe { libc::free(list.cast()) };
    }
}
