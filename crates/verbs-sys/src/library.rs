//! The library: opened when it is first needed, and kept.

use core::fmt;
use core::mem::ManuallyDrop;
use std::sync::OnceLock;

use libc::{RTLD_LOCAL, RTLD_NOW, c_char, c_int, c_uint, c_void};

use crate::{
    __be16, __be64, ibv_ah, ibv_ah_attr, ibv_async_event, ibv_comp_channel, ibv_context, ibv_cq, ibv_device,
    ibv_device_attr, ibv_event_type, ibv_gid, ibv_gid_entry, ibv_mr, ibv_node_type, ibv_pd, ibv_port_attr,
    ibv_port_state, ibv_qp, ibv_qp_attr, ibv_qp_init_attr, ibv_srq, ibv_srq_attr, ibv_srq_init_attr,
    ibv_wc_status,
};

/// The name that programs linked to libibverbs ask for. It has stood for the same binary interface since 2005.
const SONAME: &str = "libibverbs.so.1";

/// libibverbs can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It isn't there, or the system can't load it.
    #[error(
        "cannot load {library}: {said}; install it (Debian, Ubuntu: apt-get install libibverbs1 \
         ibverbs-providers; Fedora, RHEL: dnf install libibverbs)"
    )]
    Missing {
        /// What was asked for.
        library: String,
        /// What the system's loader said.
        said: String,
    },
    /// It is there, but a function isn't: it is too old.
    #[error(
        "{library} is there, but its function {symbol} isn't: {said}; install rdma-core 44 or later \
         (Debian, Ubuntu: apt-get install libibverbs1 ibverbs-providers; Fedora, RHEL: dnf install \
         libibverbs)"
    )]
    Incomplete {
        /// What was asked for.
        library: String,
        /// The function that it lacks.
        symbol: &'static str,
        /// What the system's loader said.
        said: String,
    },
}

impl Library {
    /// The library, which is loaded the first time. What that said, it says again later: what is installed
    /// while the program runs is found when it starts anew.
    ///
    /// It is never unloaded: it loads its drivers itself, keeps threads' and devices' state, and may have
    /// functions called when the program ends. Therefore what it returned stays valid, whoever has forgotten
    /// this reference.
    ///
    /// # Errors
    /// [`LoadError`], which says what to install.
    pub fn get() -> Result<&'static Self, &'static LoadError> {
        static LOADED: OnceLock<Result<Library, LoadError>> = OnceLock::new();
        LOADED.get_or_init(|| Self::load(SONAME)).as_ref()
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").finish_non_exhaustive()
    }
}

/// What the loader said, without what was tried.
fn said(error: &libloading::Error) -> String {
    match error {
        libloading::Error::DlOpen { source } | libloading::Error::DlSym { source } => source.to_string(),
        other => other.to_string(),
    }
}

/// Declares [`Library`]: a pointer to each function, and a method that calls it.
macro_rules! functions {
    ($(
        $(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)?;
    )+) => {
        /// libibverbs' functions, by their own names.
        ///
        /// The manual page of each says what it does, what it returns and what it demands. Unless it says
        /// otherwise, a pointer that is null reports a failure in `errno`, and a number that isn't 0 is an
        /// error number, or -1 with one in `errno`.
        ///
        /// A method is safe to call if its manual page's demands are met: pointers to the library's objects
        /// are such as the library has returned and hasn't yet been asked to destroy, and are used by one
        /// thread alone where objects are destroyed; other pointers are valid for what is read there and
        /// written.
        pub struct Library {
            $( $name: unsafe extern "C" fn($($type),*) $(-> $result)?, )+
        }

        impl Library {
            /// Loads `library` and finds every function.
            fn load(library: &str) -> Result<Self, LoadError> {
                // SAFETY: what runs when libibverbs is loaded only prepares its own state.
                let handle = unsafe { libloading::os::unix::Library::open(Some(library), RTLD_NOW | RTLD_LOCAL) };
                let handle = handle
                    .map_err(|error| LoadError::Missing { library: library.to_owned(), said: said(&error) })?;
                // Never unloaded: see `get`. The pointers below rely on it.
                let handle = ManuallyDrop::new(handle);
                Ok(Self { $( $name: {
                    const SYMBOL: &str = stringify!($name);
                    let incomplete = |said| LoadError::Incomplete { library: library.to_owned(), symbol: SYMBOL, said };
                    type Function = unsafe extern "C" fn($($type),*) $(-> $result)?;
                    // SAFETY: the function of this name has this type, in every version of this library.
                    let symbol = unsafe { handle.get::<Option<Function>>(SYMBOL) };
                    let symbol = symbol.map_err(|error| incomplete(said(&error)))?;
                    (*symbol).ok_or_else(|| incomplete("it has no address".to_owned()))?
                }, )+ })
            }

            $(
                $(#[$attribute])*
                ///
                /// # Safety
                /// What its manual page demands; see [`Library`].
                #[inline]
                pub unsafe fn $name(&self, $($argument: $type),*) $(-> $result)? {
                    // SAFETY: the library stays loaded, and the caller vouches for the arguments.
                    unsafe { (self.$name)($($argument),*) }
                }
            )+
        }

        /// Every function with the types of its arguments and of its result, as Rust writes them.
        #[cfg(test)]
        pub(crate) const FUNCTIONS: &[crate::layout::Function] = &[ $( crate::layout::Function {
            name: stringify!($name),
            arguments: &[ $( stringify!($type) ),* ],
            result: &[ $( stringify!($result) )? ],
        } ),+ ];
    };
}

functions! {
    /// The machine's devices, as an array that ends with null: ibv_get_device_list(3). Null with `ENOSYS` if
    /// the kernel has no RDMA at all.
    fn ibv_get_device_list(num_devices: *mut c_int) -> *mut *mut ibv_device;

    /// Frees what [`ibv_get_device_list`](Self::ibv_get_device_list) returned; opened devices stay:
    /// ibv_free_device_list(3).
    fn ibv_free_device_list(list: *mut *mut ibv_device);

    /// A device's name, such as `mlx5_0`: ibv_get_device_name(3).
    fn ibv_get_device_name(device: *mut ibv_device) -> *const c_char;

    /// A device's GUID: ibv_get_device_guid(3).
    fn ibv_get_device_guid(device: *mut ibv_device) -> __be64;

    /// Opens a device: ibv_open_device(3).
    fn ibv_open_device(device: *mut ibv_device) -> *mut ibv_context;

    /// Closes a device. What was made with it must be destroyed before: ibv_close_device(3).
    fn ibv_close_device(context: *mut ibv_context) -> c_int;

    /// A device's attributes: ibv_query_device(3).
    fn ibv_query_device(context: *mut ibv_context, device_attr: *mut ibv_device_attr) -> c_int;

    /// A port's attributes: ibv_query_port(3).
    ///
    /// C programs don't call this function where they can avoid it: it knows an older, shorter structure, today's up to
    /// [`flags`](ibv_port_attr::flags), and leaves what stands behind as it is. So hand it a zeroed one
    /// (`ibv_port_attr::default()`).
    fn ibv_query_port(context: *mut ibv_context, port_num: u8, port_attr: *mut ibv_port_attr) -> c_int;

    /// A line of a port's GID table, only the address: ibv_query_gid(3).
    fn ibv_query_gid(context: *mut ibv_context, port_num: u8, index: c_int, gid: *mut ibv_gid) -> c_int;

    /// A line of a port's GID table with type and network interface; `ENODATA` if it is empty:
    /// ibv_query_gid_ex(3), whose last argument, the size of [`ibv_gid_entry`], C's header adds. `flags` is
    /// 0.
    fn _ibv_query_gid_ex(
        context: *mut ibv_context, port_num: u32, gid_index: u32, entry: *mut ibv_gid_entry, flags: u32,
        entry_size: usize,
    ) -> c_int;

    /// A line of a port's partition key table: ibv_query_pkey(3).
    fn ibv_query_pkey(context: *mut ibv_context, port_num: u8, index: c_int, pkey: *mut __be16) -> c_int;

    /// Makes a protection domain: ibv_alloc_pd(3).
    fn ibv_alloc_pd(context: *mut ibv_context) -> *mut ibv_pd;

    /// Destroys a protection domain: ibv_dealloc_pd(3).
    fn ibv_dealloc_pd(pd: *mut ibv_pd) -> c_int;

    /// Registers memory: ibv_reg_mr(3). For access flags from
    /// [`IBV_ACCESS_RELAXED_ORDERING`](crate::IBV_ACCESS_RELAXED_ORDERING) on, call
    /// [`ibv_reg_mr_iova2`](Self::ibv_reg_mr_iova2), as C's header does.
    fn ibv_reg_mr(pd: *mut ibv_pd, addr: *mut c_void, length: usize, access: c_int) -> *mut ibv_mr;

    /// Registers memory whose first byte peers and requests call `iova`: ibv_reg_mr_iova(3).
    fn ibv_reg_mr_iova2(
        pd: *mut ibv_pd, addr: *mut c_void, length: usize, iova: u64, access: c_uint,
    ) -> *mut ibv_mr;

    /// Deregisters memory: ibv_dereg_mr(3).
    fn ibv_dereg_mr(mr: *mut ibv_mr) -> c_int;

    /// Makes a completion channel: ibv_create_comp_channel(3).
    fn ibv_create_comp_channel(context: *mut ibv_context) -> *mut ibv_comp_channel;

    /// Destroys a completion channel: ibv_destroy_comp_channel(3).
    fn ibv_destroy_comp_channel(channel: *mut ibv_comp_channel) -> c_int;

    /// Makes a completion queue for at least `cqe` completions: ibv_create_cq(3).
    fn ibv_create_cq(
        context: *mut ibv_context, cqe: c_int, cq_context: *mut c_void, channel: *mut ibv_comp_channel,
        comp_vector: c_int,
    ) -> *mut ibv_cq;

    /// Destroys a completion queue, once all of its events are acknowledged: ibv_destroy_cq(3).
    fn ibv_destroy_cq(cq: *mut ibv_cq) -> c_int;

    /// Takes an event out of a channel, or waits for one: ibv_get_cq_event(3).
    fn ibv_get_cq_event(
        channel: *mut ibv_comp_channel, cq: *mut *mut ibv_cq, cq_context: *mut *mut c_void,
    ) -> c_int;

    /// Acknowledges events of a completion queue: ibv_ack_cq_events(3).
    fn ibv_ack_cq_events(cq: *mut ibv_cq, nevents: c_uint);

    /// Makes a queue pair; writes back into `qp_init_attr` how much fits: ibv_create_qp(3).
    fn ibv_create_qp(pd: *mut ibv_pd, qp_init_attr: *mut ibv_qp_init_attr) -> *mut ibv_qp;

    /// Changes a queue pair's attributes, the state above all; `attr_mask` is of
    /// [`ibv_qp_attr_mask`](crate::ibv_qp_attr_mask): ibv_modify_qp(3).
    fn ibv_modify_qp(qp: *mut ibv_qp, attr: *mut ibv_qp_attr, attr_mask: c_int) -> c_int;

    /// A queue pair's attributes: ibv_query_qp(3).
    fn ibv_query_qp(
        qp: *mut ibv_qp, attr: *mut ibv_qp_attr, attr_mask: c_int, init_attr: *mut ibv_qp_init_attr,
    ) -> c_int;

    /// Destroys a queue pair, once all of its events are acknowledged: ibv_destroy_qp(3).
    fn ibv_destroy_qp(qp: *mut ibv_qp) -> c_int;

    /// Takes an event of a device, or waits for one: ibv_get_async_event(3).
    fn ibv_get_async_event(context: *mut ibv_context, event: *mut ibv_async_event) -> c_int;

    /// Acknowledges an event of a device: ibv_ack_async_event(3).
    fn ibv_ack_async_event(event: *mut ibv_async_event);

    /// Makes a shared receive queue: ibv_create_srq(3).
    fn ibv_create_srq(pd: *mut ibv_pd, srq_init_attr: *mut ibv_srq_init_attr) -> *mut ibv_srq;

    /// Changes a shared receive queue: ibv_modify_srq(3). `srq_attr_mask` is of
    /// [`ibv_srq_attr_mask`](crate::ibv_srq_attr_mask).
    fn ibv_modify_srq(srq: *mut ibv_srq, srq_attr: *mut ibv_srq_attr, srq_attr_mask: c_int) -> c_int;

    /// What a shared receive queue is set to: ibv_query_srq(3).
    fn ibv_query_srq(srq: *mut ibv_srq, srq_attr: *mut ibv_srq_attr) -> c_int;

    /// Destroys a shared receive queue: ibv_destroy_srq(3).
    fn ibv_destroy_srq(srq: *mut ibv_srq) -> c_int;

    /// Has a queue pair for datagrams get what is sent to a multicast group: ibv_attach_mcast(3).
    fn ibv_attach_mcast(qp: *mut ibv_qp, gid: *const ibv_gid, lid: u16) -> c_int;
    /// Has it get that no longer: ibv_detach_mcast(3).
    fn ibv_detach_mcast(qp: *mut ibv_qp, gid: *const ibv_gid, lid: u16) -> c_int;

    /// Makes an address handle: ibv_create_ah(3).
    fn ibv_create_ah(pd: *mut ibv_pd, attr: *mut ibv_ah_attr) -> *mut ibv_ah;

    /// Destroys an address handle: ibv_destroy_ah(3).
    fn ibv_destroy_ah(ah: *mut ibv_ah) -> c_int;

    /// A text for a completion's status; never null: ibv_wc_status_str(3).
    fn ibv_wc_status_str(status: ibv_wc_status) -> *const c_char;

    /// A text for an event's type; never null: ibv_event_type_str(3).
    fn ibv_event_type_str(event: ibv_event_type) -> *const c_char;

    /// A text for a port's state; never null: ibv_port_state_str(3).
    fn ibv_port_state_str(port_state: ibv_port_state) -> *const c_char;

    /// A text for a device's kind; never null: ibv_node_type_str(3).
    fn ibv_node_type_str(node_type: ibv_node_type) -> *const c_char;
}

#[cfg(test)]
mod tests;
