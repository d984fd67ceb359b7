//! Address handles.

use crate::backend::{self, AddressHandle, Gid, KnownPeers, Marking, PathAttributes};
use crate::boundary::{null, number, set_errno};
use crate::context::Context;
use crate::domain::{Pd, handle};
use libc::{EINVAL, c_int};
use rdma_verbs_sys::{
    IBV_WC_GRH, ibv_ah, ibv_ah_attr, ibv_context, ibv_gid, ibv_global_route, ibv_grh, ibv_pd, ibv_wc,
};
use std::cell::UnsafeCell;
use std::num::NonZeroU8;
use std::sync::atomic::Ordering;

/// An address handle.
#[repr(C)]
pub(crate) struct Ah {
    c: UnsafeCell<ibv_ah>,
    pub(crate) handle: AddressHandle,
    /// Of a device whose packets are sealed.
    pub(crate) known: KnownPeers,
}

impl Ah {
    /// The device that it was made in.
    pub(crate) fn context(&self) -> &Context {
        // SAFETY: nobody writes it, and a context that has children isn't freed.
        unsafe { Context::of((*self.c.get()).context) }
    }

    /// The address handle that a program means.
    ///
    /// # Safety
    /// It must be one of ours that isn't destroyed.
    pub(crate) unsafe fn of<'a>(c: *mut ibv_ah) -> &'a Self {
        // SAFETY: it is the first field of ours.
        unsafe { &*c.cast() }
    }
}

/// The way that an address vector describes, if packets can be sent there from here.
///
/// The hop limit is the system's: Linux puts the route's in the place of what a program says, too
/// (`ib_resolve_unicast_gid_dmac`). Many programs say 0 or 1. A multicast's is the program's, unless it is 0.
pub(crate) fn path(attr: &ibv_ah_attr) -> Result<PathAttributes, c_int> {
    if attr.is_global == 0 || attr.port_num != 1 || attr.grh.sgid_index != 0 {
        return Err(EINVAL);
    }
    let gid = Gid::from(attr.grh.dgid.raw);
    let hop_limit = gid.group().and(NonZeroU8::new(attr.grh.hop_limit));
    let marking = Marking { traffic_class: attr.grh.traffic_class, hop_limit };
    Ok(PathAttributes { marking, ..PathAttributes::new(0, gid) })
}

fn make(pd: *mut ibv_pd, attr: &ibv_ah_attr) -> *mut ibv_ah {
    // SAFETY: the program says that it is one.
    let domain = unsafe { Pd::of(pd) };
    let made = path(attr).and_then(|path| {
        let known = KnownPeers::new(path.peer_gid);
        // SAFETY: a context that has children isn't freed.
        unsafe { Context::of(domain.context()) }.backend.expect_datagrams(&known)?;
        Ok((backend::address_handle(&domain.domain, path)?, known))
    });
    let (made, known) = match made {
        Ok(made) => made,
        Err(error) => return null(error),
    };
    domain.children.fetch_add(1, Ordering::AcqRel);
    let c = UnsafeCell::new(ibv_ah { context: domain.context(), pd, handle: handle() });
    Box::into_raw(Box::new(Ah { c, handle: made, known })).cast()
}

/// The address of whoever sent a datagram: the first 40 bytes of its buffer have a GRH, or, over IPv4, an IP header
/// in the last 20 of them.
fn answer(port: u8, wc: &ibv_wc, grh: &ibv_grh) -> Result<ibv_ah_attr, c_int> {
    if port != 1 || wc.wc_flags & IBV_WC_GRH == 0 {
        return Err(EINVAL);
    }
    // SAFETY: 40 bytes of numbers.
    let bytes: [u8; 40] = unsafe { std::mem::transmute(*grh) };
    let mapped = |at: usize| {
        let mut gid = [0; 16];
        gid[10..12].fill(0xff);
        gid[12..].copy_from_slice(&bytes[at..at + 4]);
        gid
    };
    let over_ipv4 = bytes[20] == 0x45 && u32::from_be(grh.version_tclass_flow) >> 28 != 6;
    let sender = if over_ipv4 { mapped(32) } else { grh.sgid.raw };
    let route = ibv_global_route {
        dgid: ibv_gid { raw: sender },
        sgid_index: 0,
        hop_limit: 0xff,
        flow_label: 0,
        traffic_class: 0,
    };
    Ok(ibv_ah_attr { grh: route, is_global: 1, port_num: port, sl: wc.sl, ..ibv_ah_attr::default() })
}

export! {
    "IBVERBS_1.1", std::ptr::null_mut(),
    /// ibv_create_ah(3).
    fn ibv_create_ah(pd: *mut ibv_pd, attr: *mut ibv_ah_attr) -> *mut ibv_ah {
        // SAFETY: the program gave the attributes.
        make(pd, unsafe { &*attr })
    }

    "IBVERBS_1.1", -1,
    /// ibv_init_ah_from_wc(3).
    fn ibv_init_ah_from_wc(
        context: *mut ibv_context,
        port: u8,
        wc: *mut ibv_wc,
        grh: *mut ibv_grh,
        attr: *mut ibv_ah_attr,
    ) -> c_int {
        let _ = context;
        // SAFETY: the program gave all of them.
        match unsafe { answer(port, &*wc, &*grh) } {
            Ok(found) => {
                // SAFETY: the program gave a place for it.
                unsafe { attr.write(found) };
                0
            }
            Err(error) => {
                set_errno(error);
                -1
            }
        }
    }

    "IBVERBS_1.1", std::ptr::null_mut(),
    /// ibv_create_ah_from_wc(3).
    fn ibv_create_ah_from_wc(pd: *mut ibv_pd, wc: *mut ibv_wc, grh: *mut ibv_grh, port: u8) -> *mut ibv_ah {
        // SAFETY: the program gave all of them.
        match unsafe { answer(port, &*wc, &*grh) } {
            Ok(attr) => make(pd, &attr),
            Err(error) => null(error),
        }
    }

    "IBVERBS_1.1", libc::EIO,
    /// ibv_destroy_ah(3).
    fn ibv_destroy_ah(ah: *mut ibv_ah) -> c_int {
        // SAFETY: `make` made it, and the program is done with it.
        let whole = unsafe { Box::from_raw(ah.cast::<Ah>()) };
        // SAFETY: a domain that has children isn't freed.
        unsafe { Pd::of((*whole.c.get()).pd) }.children.fetch_sub(1, Ordering::AcqRel);
        number(0)
    }
}
