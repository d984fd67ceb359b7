//! The system calls that no safe crate has.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use crate::link::rx::Batch;
use crate::link::tx::Marking;
use smallvec::SmallVec;
use socket2::{SockAddr, SockAddrStorage};

/// An integer socket option.
#[derive(Debug, Clone, Copy)]
pub(super) struct SocketOption {
    level: libc::c_int,
    name: libc::c_int,
}

impl SocketOption {
    /// Receives IPv6 datagrams without a UDP checksum, which rxe sends.
    pub(super) const NO_CHECK6_RX: Self = Self { level: libc::SOL_UDP, name: libc::UDP_NO_CHECK6_RX };
    /// A control message with the time of arrival.
    pub(super) const TIMESTAMP: Self = Self { level: libc::SOL_SOCKET, name: libc::SO_TIMESTAMPNS };
    /// A control message with the destination address, IPv4.
    pub(super) const PACKET_INFO: Self = Self { level: libc::IPPROTO_IP, name: libc::IP_PKTINFO };
    /// A control message with the type of service, IPv4.
    pub(super) const RECV_TOS: Self = Self { level: libc::IPPROTO_IP, name: libc::IP_RECVTOS };
    /// A control message with the destination address, IPv6.
    pub(super) const PACKET_INFO6: Self = Self { level: libc::IPPROTO_IPV6, name: libc::IPV6_RECVPKTINFO };
    /// A control message with the traffic class, IPv6.
    pub(super) const RECV_TCLASS6: Self = Self { level: libc::IPPROTO_IPV6, name: libc::IPV6_RECVTCLASS };
    /// Sends without UDP checksums, IPv4.
    #[cfg(test)]
    pub(super) const NO_CHECK: Self = Self { level: libc::SOL_SOCKET, name: libc::SO_NO_CHECK };
    /// Sends without UDP checksums, IPv6.
    #[cfg(test)]
    pub(super) const NO_CHECK6_TX: Self = Self { level: libc::SOL_UDP, name: libc::UDP_NO_CHECK6_TX };

    /// A control message with the time to live, IPv4.
    #[cfg(test)]
    pub(super) const RECV_TTL: Self = Self { level: libc::IPPROTO_IP, name: libc::IP_RECVTTL };
    /// A control message with the hop limit, IPv6.
    #[cfg(test)]
    pub(super) const RECV_HOP_LIMIT6: Self =
        Self { level: libc::IPPROTO_IPV6, name: libc::IPV6_RECVHOPLIMIT };

    /// Switches the option.
    pub(super) fn set(self, socket: impl AsFd, on: bool) -> io::Result<()> {
        let value = libc::c_int::from(on);
        #[expect(clippy::cast_possible_truncation, reason = "an integer's size")]
        let len = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the descriptor is open while it is borrowed, and the value is an integer of the length given.
        let result = unsafe {
            libc::setsockopt(
                socket.as_fd().as_raw_fd(),
                self.level,
                self.name,
                (&raw const value).cast(),
                len,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// How much of its receive buffer a socket uses, and how large the buffer is, in bytes.
pub(super) fn receive_buffer(socket: impl AsFd) -> Option<[u32; 2]> {
    memory(socket, [libc::SK_MEMINFO_RMEM_ALLOC, libc::SK_MEMINFO_RCVBUF])
}

/// The same of its send buffer.
pub(super) fn send_buffer(socket: impl AsFd) -> Option<[u32; 2]> {
    memory(socket, [libc::SK_MEMINFO_WMEM_ALLOC, libc::SK_MEMINFO_SNDBUF])
}

/// Numbers of a socket's memory.
fn memory(socket: impl AsFd, which: [libc::c_int; 2]) -> Option<[u32; 2]> {
    // As many numbers as the system has today; it gives as many as there is room for.
    let mut numbers = [0_u32; 9];
    #[expect(clippy::cast_possible_truncation, reason = "a small array's size")]
    let mut len = size_of_val(&numbers) as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed, and the array is as long as is said.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            numbers.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    (result == 0).then(|| which.map(|at| numbers[at as usize]))
}

/// Has the system pick a socket of `socket`'s group by the first `slot_bits` bits of a packet's destination queue pair
/// number, or where the packet is sealed ([`Spi::is_sealed`](rocev2_esp::Spi)), by the last ones of its SPI's third
/// byte. For the number of all ones, and for packets that are too short, the first.
pub(crate) fn steer_by_slot(socket: impl AsFd, slot_bits: u32) -> io::Result<()> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS: the packet begins behind the UDP header
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
    const RIGHT: u16 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
    const IS: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN_A: u16 = 0x16; // BPF_RET | BPF_A
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let step = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    let mut steps = [
        step(LOAD_BYTE, 0, 0),
        step(AT_LEAST, 6, 0xc0),
        step(LOAD, 0, 4),
        step(AND, 0, 0x00ff_ffff),
        step(IS, 2, 0x00ff_ffff),
        step(RIGHT, 0, 24 - slot_bits),
        step(RETURN_A, 0, 0),
        step(RETURN, 0, 0),
        step(LOAD_BYTE, 0, 2),
        step(AND, 0, (1 << slot_bits) - 1),
        step(RETURN_A, 0, 0),
    ];
    let program = libc::sock_fprog { len: 11, filter: steps.as_mut_ptr() };
    #[expect(clippy::cast_possible_truncation, reason = "a small structure's size")]
    let len = size_of_val(&program) as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed; the program is as long as it says, and is only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            len,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A control message with a short value; another one may stand behind it.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    value: [u8; 4],
}

impl Control {
    fn new(level: libc::c_int, kind: libc::c_int, value: &[u8]) -> Self {
        // SAFETY: all zeros are a valid `cmsghdr`, which has only integers.
        let mut header: libc::cmsghdr = unsafe { core::mem::zeroed() };
        // Its type isn't the same everywhere.
        header.cmsg_len = (size_of::<libc::cmsghdr>() + value.len()) as _;
        (header.cmsg_level, header.cmsg_type) = (level, kind);
        let mut bytes = [0; 4];
        bytes[..value.len()].copy_from_slice(value);
        Self { header, value: bytes }
    }

    /// A field of the IP header, of `to`'s version.
    fn field(to: SocketAddr, [v4, v6]: [libc::c_int; 2], value: u8) -> Self {
        let (level, kind) = if to.is_ipv4() { (libc::IPPROTO_IP, v4) } else { (libc::IPPROTO_IPV6, v6) };
        Self::new(level, kind, &libc::c_int::from(value).to_ne_bytes())
    }
}

// The next one begins where the system looks for it.
const _: () = assert!(size_of::<Control>().is_multiple_of(align_of::<libc::cmsghdr>()));

/// Sends a datagram, or several of `segment` bytes each, with these fields in their IP headers.
pub(super) fn send_marked(
    socket: impl AsFd,
    bytes: &[u8],
    to: SocketAddr,
    segment: Option<usize>,
    marking: Marking,
) -> io::Result<()> {
    let mut controls: SmallVec<[Control; 3]> = SmallVec::new();
    controls.push(Control::field(to, [libc::IP_TOS, libc::IPV6_TCLASS], marking.traffic_class));
    if let Some(hops) = marking.hop_limit {
        controls.push(Control::field(to, [libc::IP_TTL, libc::IPV6_HOPLIMIT], hops.get()));
    }
    if let Some(segment) = segment {
        let segment = u16::try_from(segment).map_err(|_| io::ErrorKind::InvalidInput)?;
        controls.push(Control::new(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes()));
    }
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let to = SockAddr::from(to);
    // SAFETY: all zeros are a valid `msghdr`, one without parts.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = controls.as_mut_ptr().cast();
    // Its type isn't the same everywhere.
    message.msg_controllen = size_of_val(&controls[..]) as _;
    // SAFETY: the descriptor is open while it is borrowed. All that the message points to lives, is as long as the
    // message says, and is only read.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The only control message that the options of a device's socket ask for: UDP_GRO, how long each datagram of
/// a batch is.
#[repr(C)]
struct Stride {
    header: libc::cmsghdr,
    bytes: libc::c_int,
}

/// Receives a datagram into `buffer`, or several in one piece where the system has put them together.
///
/// quinn-udp's call does the same for up to 32 of them, and prepares for as many each time: 3 % of a polled
/// round trip of 4 KiB, measured.
pub(super) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Batch> {
    // SAFETY: all zeros are a valid `cmsghdr`, which has only integers.
    let mut stride = Stride { header: unsafe { core::mem::zeroed() }, bytes: 0 };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let receive = |name: *mut SockAddrStorage, name_len: *mut libc::socklen_t| {
        // SAFETY: all zeros are a valid `msghdr`, one without parts.
        let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
        message.msg_name = name.cast();
        // SAFETY: `try_init` has put the storage's size there.
        message.msg_namelen = unsafe { name_len.read() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut stride).cast();
        // Its type isn't the same everywhere.
        message.msg_controllen = size_of::<Stride>() as _;
        // SAFETY: the descriptor is open while it is borrowed. All that the message points to lives, is as
        // long as the message says, and is exclusive.
        let len = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, 0) };
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: as above.
        unsafe { name_len.write(message.msg_namelen) };
        Ok(len)
    };
    // SAFETY: `receive` fails, or leaves the address and its size that the system has given.
    let (len, from) = unsafe { SockAddr::try_init(receive) }?;
    let from = from.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    let is_stride = (stride.header.cmsg_level, stride.header.cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO);
    let stride = if is_stride { usize::try_from(stride.bytes).ok() } else { None };
    Ok(Batch { len, stride: stride.unwrap_or(len), from })
}

/// Receives a datagram, and returns the values of the control messages that came with it.
#[cfg(test)]
pub(super) fn receive_marks(socket: &std::net::UdpSocket) -> io::Result<Vec<u8>> {
    use core::mem::MaybeUninit;
    let (mut bytes, mut control) = ([MaybeUninit::new(0); 64], [MaybeUninit::new(0); 128]);
    let mut buffers = [socket2::MaybeUninitSlice::new(&mut bytes)];
    let mut message = socket2::MsgHdrMut::new().with_buffers(&mut buffers).with_control(&mut control);
    socket2::SockRef::from(socket).recvmsg(&mut message, 0)?;
    let len = message.control_len();
    // SAFETY: all of it was initialized above.
    let control = control.map(|byte| unsafe { byte.assume_init() });
    // A header of 16 bytes, and a byte or an integer.
    let value = |message: &[u8]| match message[0] {
        17 => message[16],
        _ => i32::from_ne_bytes(message[16..20].try_into().unwrap_or_default()).to_le_bytes()[0],
    };
    Ok(control[..len].chunks(24).map(value).collect())
}
