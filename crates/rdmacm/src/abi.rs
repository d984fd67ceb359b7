//! The structures of `rdma/rdma_cma.h` and `infiniband/sa.h`, as C has them. `tests/contract.c` compares their layout
//! with the header's.

use libc::{c_char, c_int, c_void, sockaddr, sockaddr_storage, socklen_t};
use rdma_verbs_sys::{
    __be16, __be32, ibv_ah_attr, ibv_comp_channel, ibv_context, ibv_cq, ibv_gid, ibv_pd, ibv_qp, ibv_srq,
};

pub(crate) const RDMA_CM_EVENT_ADDR_RESOLVED: u32 = 0;
pub(crate) const RDMA_CM_EVENT_ROUTE_RESOLVED: u32 = 2;
pub(crate) const RDMA_CM_EVENT_CONNECT_REQUEST: u32 = 4;
pub(crate) const RDMA_CM_EVENT_CONNECT_RESPONSE: u32 = 5;
pub(crate) const RDMA_CM_EVENT_CONNECT_ERROR: u32 = 6;
pub(crate) const RDMA_CM_EVENT_REJECTED: u32 = 8;
pub(crate) const RDMA_CM_EVENT_ESTABLISHED: u32 = 9;
pub(crate) const RDMA_CM_EVENT_DISCONNECTED: u32 = 10;
pub(crate) const RDMA_CM_EVENT_MULTICAST_JOIN: u32 = 12;

pub(crate) const RDMA_PS_IPOIB: u32 = 0x0002;
pub(crate) const RDMA_PS_TCP: u32 = 0x0106;
pub(crate) const RDMA_PS_UDP: u32 = 0x0111;

/// The queue key of datagrams between programs that use librdmacm.
pub(crate) const RDMA_UDP_QKEY: u32 = 0x0123_4567;

/// As many READs and atomics as the device can.
pub(crate) const RDMA_MAX_RESP_RES: u8 = 0xff;
pub(crate) const RDMA_MAX_INIT_DEPTH: u8 = 0xff;

pub(crate) const RAI_PASSIVE: c_int = 1;
pub(crate) const RAI_NUMERICHOST: c_int = 2;

pub(crate) const RDMA_OPTION_ID: c_int = 0;
pub(crate) const RDMA_OPTION_ID_TOS: c_int = 0;
pub(crate) const RDMA_OPTION_ID_REUSEADDR: c_int = 1;
pub(crate) const RDMA_OPTION_ID_AFONLY: c_int = 2;
pub(crate) const RDMA_OPTION_ID_ACK_TIMEOUT: c_int = 3;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct rdma_ib_addr {
    pub(crate) sgid: ibv_gid,
    pub(crate) dgid: ibv_gid,
    pub(crate) pkey: __be16,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct rdma_addr {
    pub(crate) src_storage: sockaddr_storage,
    pub(crate) dst_storage: sockaddr_storage,
    pub(crate) ibaddr: rdma_ib_addr,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct rdma_route {
    pub(crate) addr: rdma_addr,
    pub(crate) path_rec: *mut ibv_sa_path_rec,
    pub(crate) num_paths: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ibv_sa_path_rec {
    pub(crate) dgid: ibv_gid,
    pub(crate) sgid: ibv_gid,
    pub(crate) dlid: __be16,
    pub(crate) slid: __be16,
    pub(crate) raw_traffic: c_int,
    pub(crate) flow_label: __be32,
    pub(crate) hop_limit: u8,
    pub(crate) traffic_class: u8,
    pub(crate) reversible: c_int,
    pub(crate) numb_path: u8,
    pub(crate) pkey: __be16,
    pub(crate) sl: u8,
    pub(crate) mtu_selector: u8,
    pub(crate) mtu: u8,
    pub(crate) rate_selector: u8,
    pub(crate) rate: u8,
    pub(crate) packet_life_time_selector: u8,
    pub(crate) packet_life_time: u8,
    pub(crate) preference: u8,
}

#[repr(C)]
pub(crate) struct rdma_event_channel {
    pub(crate) fd: c_int,
}

#[repr(C)]
pub(crate) struct rdma_cm_id {
    pub(crate) verbs: *mut ibv_context,
    pub(crate) channel: *mut rdma_event_channel,
    pub(crate) context: *mut c_void,
    pub(crate) qp: *mut ibv_qp,
    pub(crate) route: rdma_route,
    pub(crate) ps: u32,
    pub(crate) port_num: u8,
    pub(crate) event: *mut rdma_cm_event,
    pub(crate) send_cq_channel: *mut ibv_comp_channel,
    pub(crate) send_cq: *mut ibv_cq,
    pub(crate) recv_cq_channel: *mut ibv_comp_channel,
    pub(crate) recv_cq: *mut ibv_cq,
    pub(crate) srq: *mut ibv_srq,
    pub(crate) pd: *mut ibv_pd,
    pub(crate) qp_type: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct rdma_conn_param {
    pub(crate) private_data: *const c_void,
    pub(crate) private_data_len: u8,
    pub(crate) responder_resources: u8,
    pub(crate) initiator_depth: u8,
    pub(crate) flow_control: u8,
    pub(crate) retry_count: u8,
    pub(crate) rnr_retry_count: u8,
    pub(crate) srq: u8,
    pub(crate) qp_num: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct rdma_ud_param {
    pub(crate) private_data: *const c_void,
    pub(crate) private_data_len: u8,
    pub(crate) ah_attr: ibv_ah_attr,
    pub(crate) qp_num: u32,
    pub(crate) qkey: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) union rdma_cm_event_param {
    pub(crate) conn: rdma_conn_param,
    pub(crate) ud: rdma_ud_param,
}

#[repr(C)]
pub(crate) struct rdma_cm_event {
    pub(crate) id: *mut rdma_cm_id,
    pub(crate) listen_id: *mut rdma_cm_id,
    pub(crate) event: u32,
    pub(crate) status: c_int,
    pub(crate) param: rdma_cm_event_param,
}

pub(crate) const RDMA_CM_JOIN_MC_ATTR_ADDRESS: u32 = 1 << 0;
pub(crate) const RDMA_CM_JOIN_MC_ATTR_JOIN_FLAGS: u32 = 1 << 1;

pub(crate) const RDMA_MC_JOIN_FLAG_FULLMEMBER: u32 = 0;
pub(crate) const RDMA_MC_JOIN_FLAG_SENDONLY_FULLMEMBER: u32 = 1;

#[repr(C)]
pub(crate) struct rdma_cm_join_mc_attr_ex {
    pub(crate) comp_mask: u32,
    pub(crate) join_flags: u32,
    pub(crate) addr: *mut sockaddr,
}

#[repr(C)]
pub(crate) struct rdma_addrinfo {
    pub(crate) ai_flags: c_int,
    pub(crate) ai_family: c_int,
    pub(crate) ai_qp_type: c_int,
    pub(crate) ai_port_space: c_int,
    pub(crate) ai_src_len: socklen_t,
    pub(crate) ai_dst_len: socklen_t,
    pub(crate) ai_src_addr: *mut sockaddr,
    pub(crate) ai_dst_addr: *mut sockaddr,
    pub(crate) ai_src_canonname: *mut c_char,
    pub(crate) ai_dst_canonname: *mut c_char,
    pub(crate) ai_route_len: usize,
    pub(crate) ai_route: *mut c_void,
    pub(crate) ai_connect_len: usize,
    pub(crate) ai_connect: *mut c_void,
    pub(crate) ai_next: *mut rdma_addrinfo,
}

#[repr(C)]
pub(crate) struct ibv_ece {
    pub(crate) vendor_id: u32,
    pub(crate) options: u32,
    pub(crate) comp_mask: u32,
}

/// A structure of which all bits zero mean "nothing".
pub(crate) trait Zeroed: Sized {
    /// That one.
    fn zeroed() -> Self {
        // SAFETY: only C structures of numbers, arrays and pointers implement it, for which zeros are valid.
        unsafe { std::mem::zeroed() }
    }
}

impl Zeroed for rdma_cm_id {}
impl Zeroed for rdma_cm_event {}
impl Zeroed for rdma_cm_event_param {}
impl Zeroed for rdma_addrinfo {}
impl Zeroed for ibv_sa_path_rec {}
impl Zeroed for sockaddr_storage {}
impl Zeroed for libc::addrinfo {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::mem::offset_of;
    use std::process::Command;

    /// Sizes of structures and offsets of their last fields and some others, as C names them and as they are here.
    macro_rules! layout {
        ($($c:literal $name:ident { $($c_field:literal $($field:ident).+),+ })+) => {
            vec![$(
                (format!("sizeof({})", $c), size_of::<$name>()),
                $( (format!("offsetof({}, {})", $c, $c_field), offset_of!($name, $($field).+)), )+
            )+]
        };
    }

    #[test]
    fn structures_lie_as_the_header_has_them() {
        let layout = layout! {
            "struct rdma_event_channel" rdma_event_channel { "fd" fd }
            "struct rdma_cm_id" rdma_cm_id {
                "qp" qp, "route.addr.src_addr" route.addr.src_storage, "route.addr.dst_addr" route.addr.dst_storage,
                "route.addr.addr.ibaddr.pkey" route.addr.ibaddr.pkey, "route.num_paths" route.num_paths,
                "ps" ps, "port_num" port_num, "event" event, "send_cq_channel" send_cq_channel,
                "recv_cq" recv_cq, "srq" srq, "pd" pd, "qp_type" qp_type
            }
            "struct rdma_cm_join_mc_attr_ex" rdma_cm_join_mc_attr_ex { "join_flags" join_flags, "addr" addr }
            "struct rdma_conn_param" rdma_conn_param { "rnr_retry_count" rnr_retry_count, "qp_num" qp_num }
            "struct rdma_ud_param" rdma_ud_param { "ah_attr" ah_attr, "qp_num" qp_num, "qkey" qkey }
            "struct rdma_cm_event" rdma_cm_event { "listen_id" listen_id, "status" status, "param" param }
            "struct rdma_addrinfo" rdma_addrinfo {
                "ai_dst_len" ai_dst_len, "ai_src_addr" ai_src_addr, "ai_route" ai_route, "ai_next" ai_next
            }
            "struct ibv_sa_path_rec" ibv_sa_path_rec {
                "raw_traffic" raw_traffic, "reversible" reversible, "pkey" pkey, "mtu" mtu, "preference" preference
            }
            "struct ibv_ece" ibv_ece { "comp_mask" comp_mask }
        };
        let place = tempfile::tempdir().unwrap();
        let (source, program) = (place.path().join("layout.c"), place.path().join("layout"));
        let mut text = String::from(
            "#include <rdma/rdma_cma.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n",
        );
        for (expression, _) in &layout {
            let _ = writeln!(text, "printf(\"%zu\\n\", {expression});");
        }
        text.push_str("return 0; }\n");
        std::fs::write(&source, text).unwrap();
        let built = Command::new("cc").arg("-o").args([&program, &source]).output().unwrap();
        let errors = String::from_utf8_lossy(&built.stderr);
        if errors.contains("rdma_cma.h: No such file") {
            assert!(
                std::env::var("CI").is_err(),
                "librdmacm's header is missing: apt-get install librdmacm-dev"
            );
            eprintln!("skipped: librdmacm's header is missing (apt-get install librdmacm-dev)");
            return;
        }
        assert!(built.status.success(), "{errors}");
        let said = String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap();
        let theirs: Vec<usize> = said.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(theirs.len(), layout.len());
        for ((expression, own), theirs) in layout.iter().zip(theirs) {
            assert_eq!(*own, theirs, "{expression}");
        }
    }
}
