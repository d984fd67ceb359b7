//! Our messages as tshark, an implementation that isn't ours, dissects them: in RoCEv2 packets to queue pair 1, each
//! field with the value that was written, and nothing malformed.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use rocev2::icrc::PseudoHeader;
use rocev2::wire::{Bth, Deth, Headers, Opcode};
use rocev2::{Psn, Qpn, UDP_PORT};
use rocev2_cm::ip::{IpAddressing, PortSpace, Service};
use rocev2_cm::wire::lap::{ApStatus, Apr, Lap};
use rocev2_cm::wire::{
    Drep, Dreq, Mad, Message, MessageMraed, MessageRejected, Mra, PrivateData, Rej, RejectReason, Rep, Req,
    Rtu, SidrRep, SidrReq, SidrStatus, TransportServiceType,
};
use rocev2_cm::{CommId, Exponent, GSI_QKEY, Gid};

const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DESTINATION: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const SOURCE_PORT: u16 = 0xc123;

/// Whether tshark is here. Where it isn't, CI fails, and everybody else is told what wasn't proved.
fn have_tshark() -> bool {
    let found = Command::new("tshark")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "there is no tshark: CI must run this test; install tshark"
        );
        // Not eprintln!: the test harness would swallow it.
        let message =
            "\nSKIPPED: there is no tshark. NOT PROVED: that another implementation reads our CM messages.\n";
        std::io::stderr().write_all(message.as_bytes()).expect("stderr takes a message");
    }
    found
}

/// The message in a UD SEND to queue pair 1, in UDP, in IPv4.
fn packet(message: Message) -> Vec<u8> {
    let mad = Mad { transaction_id: 0x0011_2233_4455_6677, message }.encode();
    let gsi = Qpn::truncate(1);
    let deth = Deth { qkey: GSI_QKEY, src_qp: gsi };
    let headers = Headers {
        deth: Some(deth),
        ..Headers::new(Bth::new(Opcode::from_byte(0x64), gsi, Psn::truncate(0x12_3456)))
    };
    let mut datagram = vec![0; 20 + mad.len() + rocev2::icrc::LEN];
    let frame = headers.frame(&mut datagram, mad.len()).unwrap();
    frame.payload.copy_from_slice(&mad);
    assert_eq!(frame.len + rocev2::icrc::LEN, datagram.len());
    PseudoHeader::v4(SOURCE, DESTINATION, SOURCE_PORT, UDP_PORT).write(0, &mut datagram).unwrap();

    let udp_len = u16::try_from(8 + datagram.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_len).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.extend(SOURCE.octets());
    packet.extend(DESTINATION.octets());
    for field in [SOURCE_PORT, UDP_PORT, udp_len, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(datagram);
    packet
}

/// Writes a capture of raw IP packets.
fn write_pcap(path: &Path, packets: &[Vec<u8>]) {
    const MAGIC: u32 = 0xa1b2_c3d4;
    const LINKTYPE_RAW: u32 = 101;
    let mut file = Vec::new();
    for field in [MAGIC, 4 << 16 | 2, 0, 0, 65535, LINKTYPE_RAW] {
        file.extend(field.to_le_bytes());
    }
    for packet in packets {
        let len = u32::try_from(packet.len()).unwrap();
        for field in [0, 0, len, len] {
            file.extend(field.to_le_bytes());
        }
        file.extend(packet);
    }
    std::fs::write(path, file).unwrap();
}

/// What tshark says of the packet that carries `message`: each field's name and value, and under the name with
/// ".bytes" the bytes that a field of single bits stands in. Nothing in it may be malformed.
fn dissect(name: &str, message: Message) -> BTreeMap<String, Vec<String>> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.pcap"));
    write_pcap(&path, &[packet(message)]);
    let output = Command::new("tshark").arg("-r").arg(&path).args(["-T", "pdml"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pdml = String::from_utf8(output.stdout).unwrap();
    assert!(!pdml.to_lowercase().contains("malformed"), "{pdml}");
    let attribute = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let mut fields = BTreeMap::<_, Vec<_>>::new();
    for line in pdml.lines().filter(|line| line.contains("<field ")) {
        let Some(name) = attribute(line, "name") else { continue };
        if let Some(bytes) = attribute(line, "unmaskedvalue") {
            fields.entry(format!("{name}.bytes")).or_default().push(bytes);
        }
        if let Some(show) = attribute(line, "show") {
            fields.entry(name).or_default().push(show);
        }
    }
    fields
}

/// A field's value, as a number.
#[track_caller]
fn number(fields: &BTreeMap<String, Vec<String>>, name: &str) -> u64 {
    let text = &fields.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", fields.keys()))[0];
    let hex = text.strip_prefix("0x").map(|hex| u64::from_str_radix(hex, 16));
    hex.unwrap_or_else(|| text.parse()).unwrap_or_else(|_| panic!("{name}: {text:?}"))
}

#[track_caller]
fn text<'a>(fields: &'a BTreeMap<String, Vec<String>>, name: &str) -> &'a str {
    &fields.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", fields.keys()))[0]
}

#[track_caller]
fn assert_numbers(fields: &BTreeMap<String, Vec<String>>, expected: &[(&str, u64)]) {
    for &(name, value) in expected {
        assert_eq!(number(fields, name), value, "{name}");
    }
}

/// Bytes as tshark shows them.
fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// Consumer's bytes, each different from its neighbours.
fn private<const N: usize>() -> PrivateData<N> {
    PrivateData(core::array::from_fn(|i| u8::try_from(i % 251).unwrap() ^ 0xa5))
}

const LOCAL: CommId = CommId::new(0x89ab_cdef);
const REMOTE: CommId = CommId::new(0x0123_4567);

fn exponent(n: u8) -> Exponent {
    Exponent::new(n).unwrap()
}

/// A REQ in which no two fields are alike.
fn req() -> Req {
    let addressing = IpAddressing {
        source: "192.0.2.1:40001".parse().unwrap(),
        destination: "192.0.2.2".parse().unwrap(),
    };
    let mut private_data = private::<92>();
    private_data.0[..IpAddressing::LEN].copy_from_slice(&addressing.encode().unwrap());
    Req {
        local_comm_id: LOCAL,
        service_id: Service { space: PortSpace::Tcp, port: 7174 }.id(),
        local_ca_guid: 0x0102_0304_0506_0708,
        local_qkey: 0x1122_3344,
        local_qpn: Qpn::truncate(0xab_cdef),
        responder_resources: 0x81,
        local_eecn: Qpn::truncate(0x01_0203),
        initiator_depth: 0x7e,
        remote_eecn: Qpn::truncate(0x04_0506),
        remote_cm_response_timeout: exponent(21),
        transport_service_type: TransportServiceType::Uc,
        end_to_end_flow_control: true,
        starting_psn: Psn::truncate(0x65_4321),
        local_cm_response_timeout: exponent(22),
        retry_count: 5,
        partition_key: 0xfffe,
        path_packet_payload_mtu: 5,
        rdc_exists: true,
        rnr_retry_count: 6,
        max_cm_retries: 13,
        srq: true,
        extended_transport_type: 3,
        primary_local_port_lid: 0xffff,
        primary_remote_port_lid: 0xfffe,
        primary_local_port_gid: Gid::from(std::net::IpAddr::V4(SOURCE)),
        primary_remote_port_gid: Gid::from(std::net::IpAddr::V4(DESTINATION)),
        primary_flow_label: 0xa_bcde,
        primary_packet_rate: 0x2a,
        primary_traffic_class: 0x68,
        primary_hop_limit: 64,
        primary_sl: 9,
        primary_subnet_local: true,
        primary_local_ack_timeout: exponent(19),
        alternate_local_port_lid: 0x1111,
        alternate_remote_port_lid: 0x2222,
        alternate_local_port_gid: Gid([0x33; 16]),
        alternate_remote_port_gid: Gid([0x44; 16]),
        alternate_flow_label: 0x5_4321,
        alternate_packet_rate: 0x15,
        alternate_traffic_class: 0x77,
        alternate_hop_limit: 33,
        alternate_sl: 6,
        alternate_subnet_local: true,
        alternate_local_ack_timeout: exponent(18),
        private_data,
    }
}

#[test]
fn tshark_reads_the_headers_in_front_of_each_message() {
    if !have_tshark() {
        return;
    }
    let messages: [(Message, u64); 11] = [
        (req().into(), 0x10),
        (
            Mra {
                local_comm_id: LOCAL,
                remote_comm_id: REMOTE,
                message_mraed: MessageMraed::Rep,
                service_timeout: exponent(24),
                private_data: private(),
            }
            .into(),
            0x11,
        ),
        (rej().into(), 0x12),
        (rep().into(), 0x13),
        (Rtu { local_comm_id: LOCAL, remote_comm_id: REMOTE, private_data: private() }.into(), 0x14),
        (dreq().into(), 0x15),
        (Drep { local_comm_id: LOCAL, remote_comm_id: REMOTE, private_data: private() }.into(), 0x16),
        (
            SidrReq {
                request_id: LOCAL,
                partition_key: 0xffff,
                service_id: Service { space: PortSpace::Udp, port: 7 }.id(),
                private_data: private(),
            }
            .into(),
            0x17,
        ),
        (
            SidrRep {
                request_id: LOCAL,
                status: SidrStatus::Valid,
                additional_info_length: 0,
                qpn: Qpn::truncate(77),
                service_id: Service { space: PortSpace::Udp, port: 7 }.id(),
                qkey: 0x0123_4567,
                additional_info: [0; 72],
                private_data: private(),
            }
            .into(),
            0x18,
        ),
        (
            Lap {
                local_comm_id: LOCAL,
                remote_comm_id: REMOTE,
                remote_qpn: Qpn::truncate(77),
                remote_cm_response_timeout: exponent(20),
                alternate_local_port_lid: 1,
                alternate_remote_port_lid: 2,
                alternate_local_port_gid: Gid([3; 16]),
                alternate_remote_port_gid: Gid([4; 16]),
                alternate_flow_label: 5,
                alternate_traffic_class: 6,
                alternate_hop_limit: 7,
                alternate_packet_rate: 8,
                alternate_sl: 9,
                alternate_subnet_local: false,
                alternate_local_ack_timeout: exponent(10),
                private_data: private(),
            }
            .into(),
            0x19,
        ),
        (
            Apr {
                local_comm_id: LOCAL,
                remote_comm_id: REMOTE,
                additional_info_length: 0,
                ap_status: ApStatus::Unsupported,
                additional_info: [0; 72],
                private_data: private(),
            }
            .into(),
            0x1a,
        ),
    ];
    for (message, attribute) in messages {
        let fields = dissect(&format!("attribute-{attribute:x}"), message);
        assert_numbers(
            &fields,
            &[
                ("udp.dstport", 4791),
                ("infiniband.bth.opcode", 0x64),
                ("infiniband.bth.destqp", 1),
                ("infiniband.deth.q_key", GSI_QKEY.into()),
                ("infiniband.deth.srcqp", 1),
                ("infiniband.mad.baseversion", 1),
                ("infiniband.mad.mgmtclass", 7),
                ("infiniband.mad.classversion", 2),
                ("infiniband.mad.method", 3),
                ("infiniband.mad.status", 0),
                ("infiniband.mad.transactionid", 0x0011_2233_4455_6677),
                ("infiniband.mad.attributeid", attribute),
                ("infiniband.mad.attributemodifier", 0),
            ],
        );
    }
}

#[test]
fn tshark_reads_each_field_of_a_req_and_the_ip_addresses_in_its_private_data() {
    if !have_tshark() {
        return;
    }
    let fields = dissect("req", req().into());
    assert_numbers(
        &fields,
        &[
            ("infiniband.cm.req", LOCAL.get().into()),
            ("infiniband.cm.req.serviceid.protocol", 6),
            ("infiniband.cm.req.serviceid.dport", 7174),
            ("infiniband.cm.req.localcaguid", 0x0102_0304_0506_0708),
            ("infiniband.cm.req.localqkey", 0x1122_3344),
            ("infiniband.cm.req.localqpn", 0xab_cdef),
            ("infiniband.cm.req.responderres", 0x81),
            ("infiniband.cm.req.localeecn", 0x01_0203),
            ("infiniband.cm.req.initdepth", 0x7e),
            ("infiniband.cm.req.remoteeecn", 0x04_0506),
            ("infiniband.cm.req.remoteresptout", 21),
            ("infiniband.cm.req.transpsvctype", 1),
            ("infiniband.cm.req.e2eflowctrl", 1),
            ("infiniband.cm.req.startpsn", 0x65_4321),
            ("infiniband.cm.req.localresptout", 22),
            ("infiniband.cm.req.retrcount", 5),
            ("infiniband.cm.req.pkey", 0xfffe),
            ("infiniband.cm.req.pppmtu", 5),
            ("infiniband.cm.req.rdcexist", 1),
            ("infiniband.cm.req.rnrretrcount", 6),
            ("infiniband.cm.req.maxcmretr", 13),
            ("infiniband.cm.req.srq", 1),
            ("infiniband.cm.req.ext_transport", 3),
            ("infiniband.cm.req.prim_locallid", 0xffff),
            ("infiniband.cm.req.prim_remotelid", 0xfffe),
            ("infiniband.cm.req.prim_tfcclass", 0x68),
            ("infiniband.cm.req.prim_hoplim", 64),
            ("infiniband.cm.req.prim_sl", 9),
            ("infiniband.cm.req.prim_subnetlocal", 1),
            ("infiniband.cm.req.prim_localacktout", 19),
            ("infiniband.cm.req.alt_locallid", 0x1111),
            ("infiniband.cm.req.alt_remotelid", 0x2222),
            ("infiniband.cm.req.alt_tfcclass", 0x77),
            ("infiniband.cm.req.alt_hoplim", 33),
            ("infiniband.cm.req.alt_sl", 6),
            ("infiniband.cm.req.alt_subnetlocal", 1),
            ("infiniband.cm.req.alt_localacktout", 18),
            ("infiniband.cm.req.ip_cm.majv", 0),
            ("infiniband.cm.req.ip_cm.ipv", 4),
            ("infiniband.cm.req.ip_cm.sport", 40001),
        ],
    );
    for (name, value) in [
        ("infiniband.cm.req.prim_localgid_ipv4", "192.0.2.1".to_owned()),
        ("infiniband.cm.req.prim_remotegid_ipv4", "192.0.2.2".to_owned()),
        // tshark 4.0 shows 12 of a flow label's 20 bits, and of the packet rate behind it another byte.
        ("infiniband.cm.req.prim_flowlabel.bytes", "abcde0".to_owned()),
        ("infiniband.cm.req.alt_flowlabel.bytes", "543210".to_owned()),
        ("infiniband.cm.req.alt_localgid", hex(&[0x33; 16])),
        ("infiniband.cm.req.alt_remotegid", hex(&[0x44; 16])),
        ("infiniband.cm.req.ip_cm.sip4", "192.0.2.1".to_owned()),
        ("infiniband.cm.req.ip_cm.dip4", "192.0.2.2".to_owned()),
        ("infiniband.cm.req.ip_cm.private", hex(&private::<92>().0[36..])),
    ] {
        assert_eq!(text(&fields, name), value, "{name}");
    }
}

fn rep() -> Rep {
    Rep {
        local_comm_id: LOCAL,
        remote_comm_id: REMOTE,
        local_qkey: 0x1122_3344,
        local_qpn: Qpn::truncate(0xab_cdef),
        local_ee_context_number: Qpn::truncate(0x01_0203),
        starting_psn: Psn::truncate(0x65_4321),
        responder_resources: 0x81,
        initiator_depth: 0x7e,
        target_ack_delay: exponent(17),
        failover_accepted: 2,
        end_to_end_flow_control: true,
        rnr_retry_count: 6,
        srq: true,
        local_ca_guid: 0x0102_0304_0506_0708,
        private_data: private(),
    }
}

#[test]
fn tshark_reads_each_field_of_a_rep() {
    if !have_tshark() {
        return;
    }
    let fields = dissect("rep", rep().into());
    assert_numbers(
        &fields,
        &[
            ("infiniband.cm.rep", LOCAL.get().into()),
            ("infiniband.cm.rep.remotecommid", REMOTE.get().into()),
            ("infiniband.cm.rep.localqkey", 0x1122_3344),
            ("infiniband.cm.rep.localqpn", 0xab_cdef),
            ("infiniband.cm.rep.localeecn", 0x01_0203),
            ("infiniband.cm.rep.startpsn", 0x65_4321),
            ("infiniband.cm.rep.respres", 0x81),
            ("infiniband.cm.rep.initdepth", 0x7e),
            ("infiniband.cm.rep.tgtackdelay", 17),
            ("infiniband.cm.rep.failoveracc", 2),
            ("infiniband.cm.rep.e2eflowctrl", 1),
            ("infiniband.cm.rep.rnrretrcount", 6),
            ("infiniband.cm.rep.srq", 1),
            ("infiniband.cm.rep.localcaguid", 0x0102_0304_0506_0708),
        ],
    );
    assert_eq!(text(&fields, "infiniband.cm.rep.private"), hex(&private::<196>().0));
}

fn rej() -> Rej {
    Rej {
        local_comm_id: LOCAL,
        remote_comm_id: REMOTE,
        message_rejected: MessageRejected::Rep,
        reject_info_length: 8,
        reason: RejectReason::StaleConnection,
        ari: core::array::from_fn(|i| u8::try_from(i).unwrap()),
        private_data: private(),
    }
}

fn dreq() -> Dreq {
    Dreq {
        local_comm_id: LOCAL,
        remote_comm_id: REMOTE,
        remote_qpn: Qpn::truncate(0xab_cdef),
        private_data: private(),
    }
}

#[test]
fn tshark_reads_each_field_of_what_ends_a_connection_and_of_an_rtu() {
    if !have_tshark() {
        return;
    }
    let fields = dissect("rej", rej().into());
    assert_numbers(
        &fields,
        &[
            ("infiniband.cm.rej.localcommid", LOCAL.get().into()),
            ("infiniband.cm.rej.remotecommid", REMOTE.get().into()),
            ("infiniband.cm.rej.msgrej", 1),
            ("infiniband.cm.rej.rejinfolen", 8),
            ("infiniband.cm.rej.reason", 10),
        ],
    );
    assert_eq!(text(&fields, "infiniband.cm.rej.ari"), hex(&rej().ari));
    assert_eq!(text(&fields, "infiniband.cm.rej.private"), hex(&private::<148>().0));

    let fields = dissect("dreq", dreq().into());
    assert_numbers(
        &fields,
        &[
            ("infiniband.cm.dreq.localcommid", LOCAL.get().into()),
            ("infiniband.cm.dreq.remotecommid", REMOTE.get().into()),
            // tshark's name for it in a DREQ.
            ("infiniband.cm.req.remoteqpneecn", 0xab_cdef),
        ],
    );
    assert_eq!(text(&fields, "infiniband.cm.dreq.private"), hex(&private::<220>().0));

    let drep = Drep { local_comm_id: LOCAL, remote_comm_id: REMOTE, private_data: private() };
    let fields = dissect("drep", drep.into());
    assert_numbers(
        &fields,
        &[
            ("infiniband.cm.drsp.localcommid", LOCAL.get().into()),
            ("infiniband.cm.drsp.remotecommid", REMOTE.get().into()),
        ],
    );
    assert_eq!(text(&fields, "infiniband.cm.drsp.private"), hex(&private::<224>().0));

    let rtu = Rtu { local_comm_id: LOCAL, remote_comm_id: REMOTE, private_data: private() };
    let fields = dissect("rtu", rtu.into());
    assert_numbers(
        &fields,
        &[
            ("infiniband.cm.rtu.localcommid", LOCAL.get().into()),
            ("infiniband.cm.rtu.remotecommid", REMOTE.get().into()),
        ],
    );
    assert_eq!(text(&fields, "infiniband.cm.rtu.private"), hex(&private::<224>().0));
}
