use core::ffi::CStr;
use std::io;

use super::{Library, LoadError};
use crate::gate;
use crate::{IBV_EVENT_CQ_ERR, IBV_NODE_CA, IBV_PORT_ACTIVE, IBV_WC_RETRY_EXC_ERR};

/// The library, if it is installed.
fn installed(promise: &str) -> Option<&'static Library> {
    match Library::get() {
        Ok(library) => Some(library),
        Err(error @ LoadError::Missing { .. }) => {
            gate::missing(&error.to_string(), promise);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn lists_the_devices_or_says_that_the_kernel_has_none() {
    let Some(library) = installed("that libibverbs loads, and lists its devices") else { return };
    let mut count = -1;
    // SAFETY: `count` may be written.
    let list = unsafe { library.ibv_get_device_list(&raw mut count) };
    if list.is_null() {
        let error = io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "{error}");
        assert_eq!(count, 0);
        return;
    }
    // SAFETY: the list has `count` entries and a null behind them.
    let entries = unsafe { core::slice::from_raw_parts(list, usize::try_from(count).unwrap() + 1) };
    let (end, devices) = entries.split_last().unwrap();
    assert!(end.is_null());
    for &device in devices {
        // SAFETY: a device of a list that isn't freed yet.
        let name = unsafe { library.ibv_get_device_name(device) };
        // SAFETY: a device's name is a string, which lives as long as the device.
        assert!(!unsafe { CStr::from_ptr(name) }.is_empty());
    }
    // SAFETY: the list is the library's, and nothing of it is in use.
    unsafe { library.ibv_free_device_list(list) };
}

#[test]
fn numbers_become_texts() {
    let Some(library) = installed("that libibverbs' numbers mean what this crate's constants say") else {
        return;
    };
    // SAFETY: takes any number.
    let status = unsafe { library.ibv_wc_status_str(IBV_WC_RETRY_EXC_ERR) };
    // SAFETY: takes any number.
    let event = unsafe { library.ibv_event_type_str(IBV_EVENT_CQ_ERR) };
    // SAFETY: takes any number.
    let port = unsafe { library.ibv_port_state_str(IBV_PORT_ACTIVE) };
    // SAFETY: takes any number.
    let node = unsafe { library.ibv_node_type_str(IBV_NODE_CA) };
    let texts = [status, event, port, node].map(|text| {
        // SAFETY: a constant string of the library, which is never unloaded.
        unsafe { CStr::from_ptr(text) }.to_str().unwrap()
    });
    assert_eq!(
        texts,
        ["transport retry counter exceeded", "CQ error", "active", "InfiniBand channel adapter"]
    );
}

#[test]
fn is_loaded_once() {
    let Some(library) = installed("that libibverbs is loaded once") else { return };
    assert!(std::ptr::eq(library, Library::get().unwrap()));
}

#[test]
fn without_the_library_the_error_says_what_was_tried_and_what_to_install() {
    let error = Library::load("libibverbs-that-is-not-there.so.1").unwrap_err();
    assert!(matches!(error, LoadError::Missing { .. }), "{error:?}");
    let text = error.to_string();
    assert_eq!(
        text.matches("libibverbs-that-is-not-there.so.1").count(),
        2,
        "ours, and the loader's words: {text}"
    );
    for part in ["apt-get install libibverbs1 ibverbs-providers", "dnf install libibverbs"] {
        assert!(text.contains(part), "{part:?} isn't in: {text}");
    }
}

#[test]
#[cfg(target_env = "gnu")]
fn a_library_without_the_functions_is_not_called_missing() {
    let error = Library::load("libc.so.6").unwrap_err();
    assert!(matches!(error, LoadError::Incomplete { symbol: "ibv_get_device_list", .. }), "{error:?}");
    let text = error.to_string();
    for part in ["libc.so.6 is there", "ibv_get_device_list", "rdma-core 44 or later"] {
        assert!(text.contains(part), "{part:?} isn't in: {text}");
    }
}
