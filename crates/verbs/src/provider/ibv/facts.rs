//! What `ibv_devinfo -v` tells of a device, under the same names.

use super::context::{Context, mtu, port_state};
use crate::Error;
use rdma_verbs_sys::{
    IBV_ATOMIC_GLOB, IBV_ATOMIC_HCA, IBV_LINK_LAYER_ETHERNET, IBV_LINK_LAYER_INFINIBAND, ibv_port_attr,
};

impl Context {
    /// Name and value of everything that the device tells of itself and of the port in use.
    pub(crate) fn facts(&self) -> Result<Vec<(&'static str, String)>, Error> {
        let mut facts = self.device_facts();
        facts.extend(port_facts(self.port, &self.query_port(self.port)?));
        Ok(facts)
    }

    fn device_facts(&self) -> Vec<(&'static str, String)> {
        let limits = &self.limits;
        let version: String = limits
            .fw_ver
            .iter()
            .take_while(|byte| **byte != 0)
            .map(|byte| char::from(u8::from_ne_bytes(byte.to_ne_bytes())))
            .collect();
        let mut facts = vec![
            ("fw_ver", version),
            ("node_guid", guid(limits.node_guid)),
            ("sys_image_guid", guid(limits.sys_image_guid)),
            ("vendor_id", format!("{:#06x}", limits.vendor_id)),
            ("vendor_part_id", limits.vendor_part_id.to_string()),
            ("hw_ver", format!("{:#X}", limits.hw_ver)),
            ("phys_port_cnt", limits.phys_port_cnt.to_string()),
            ("max_mr_size", format!("{:#x}", limits.max_mr_size)),
            ("page_size_cap", format!("{:#x}", limits.page_size_cap)),
            ("device_cap_flags", format!("{:#010x}", limits.device_cap_flags)),
            ("atomic_cap", atomics(limits.atomic_cap)),
            ("max_pkeys", limits.max_pkeys.to_string()),
            ("local_ca_ack_delay", limits.local_ca_ack_delay.to_string()),
        ];
        facts.extend(
            [
                ("max_qp", limits.max_qp),
                ("max_qp_wr", limits.max_qp_wr),
                ("max_sge", limits.max_sge),
                ("max_sge_rd", limits.max_sge_rd),
                ("max_cq", limits.max_cq),
                ("max_cqe", limits.max_cqe),
                ("max_mr", limits.max_mr),
                ("max_pd", limits.max_pd),
                ("max_qp_rd_atom", limits.max_qp_rd_atom),
                ("max_ee_rd_atom", limits.max_ee_rd_atom),
                ("max_res_rd_atom", limits.max_res_rd_atom),
                ("max_qp_init_rd_atom", limits.max_qp_init_rd_atom),
                ("max_ee_init_rd_atom", limits.max_ee_init_rd_atom),
                ("max_ee", limits.max_ee),
                ("max_rdd", limits.max_rdd),
                ("max_mw", limits.max_mw),
                ("max_raw_ipv6_qp", limits.max_raw_ipv6_qp),
                ("max_raw_ethy_qp", limits.max_raw_ethy_qp),
                ("max_mcast_grp", limits.max_mcast_grp),
                ("max_mcast_qp_attach", limits.max_mcast_qp_attach),
                ("max_total_mcast_qp_attach", limits.max_total_mcast_qp_attach),
                ("max_ah", limits.max_ah),
                ("max_fmr", limits.max_fmr),
                ("max_map_per_fmr", limits.max_map_per_fmr),
                ("max_srq", limits.max_srq),
                ("max_srq_wr", limits.max_srq_wr),
                ("max_srq_sge", limits.max_srq_sge),
            ]
            .map(|(name, value)| (name, value.to_string())),
        );
        facts
    }
}

fn port_facts(number: u8, port: &ibv_port_attr) -> [(&'static str, String); 21] {
    [
        ("port", number.to_string()),
        ("state", port_state(port.state)),
        ("max_mtu", mtu(port.max_mtu).to_string()),
        ("active_mtu", mtu(port.active_mtu).to_string()),
        ("sm_lid", port.sm_lid.to_string()),
        ("port_lid", port.lid.to_string()),
        ("port_lmc", format!("{:#04x}", port.lmc)),
        ("link_layer", link_layer(port.link_layer)),
        ("max_msg_sz", format!("{:#x}", port.max_msg_sz)),
        ("port_cap_flags", format!("{:#010x}", port.port_cap_flags)),
        ("port_cap_flags2", format!("{:#06x}", port.port_cap_flags2)),
        ("max_vl_num", port.max_vl_num.to_string()),
        ("bad_pkey_cntr", format!("{:#x}", port.bad_pkey_cntr)),
        ("qkey_viol_cntr", format!("{:#x}", port.qkey_viol_cntr)),
        ("sm_sl", port.sm_sl.to_string()),
        ("pkey_tbl_len", port.pkey_tbl_len.to_string()),
        ("gid_tbl_len", port.gid_tbl_len.to_string()),
        ("subnet_timeout", port.subnet_timeout.to_string()),
        ("init_type_reply", port.init_type_reply.to_string()),
        ("active_width", width(port.active_width)),
        ("active_speed", speed(port.active_speed)),
    ]
}

/// A GUID travels in network byte order.
fn guid(guid: u64) -> String {
    let [a, b, c, d, e, f, g, h] = guid.to_ne_bytes();
    format!("{a:02x}{b:02x}:{c:02x}{d:02x}:{e:02x}{f:02x}:{g:02x}{h:02x}")
}

fn atomics(capability: u32) -> String {
    match capability {
        IBV_ATOMIC_HCA => "ATOMIC_HCA (1)".into(),
        IBV_ATOMIC_GLOB => "ATOMIC_GLOB (2)".into(),
        other => format!("ATOMIC_NONE ({other})"),
    }
}

fn link_layer(number: u8) -> String {
    match number {
        IBV_LINK_LAYER_ETHERNET => "Ethernet".into(),
        IBV_LINK_LAYER_INFINIBAND => "InfiniBand".into(),
        other => format!("unknown ({other})"),
    }
}

/// IBA 14.2.5.6, LinkWidthActive.
fn width(code: u8) -> String {
    match code {
        1 => "1X (1)".into(),
        2 => "4X (2)".into(),
        4 => "8X (4)".into(),
        8 => "12X (8)".into(),
        16 => "2X (16)".into(),
        other => format!("unknown ({other})"),
    }
}

/// IBA 14.2.5.6, LinkSpeedActive, per lane.
fn speed(code: u8) -> String {
    match code {
        1 => "2.5 Gbps (1)".into(),
        2 => "5.0 Gbps (2)".into(),
        4 | 8 => format!("10.0 Gbps ({code})"),
        16 => "14.0 Gbps (16)".into(),
        32 => "25.0 Gbps (32)".into(),
        64 => "50.0 Gbps (64)".into(),
        128 => "100.0 Gbps (128)".into(),
        other => format!("unknown ({other})"),
    }
}
