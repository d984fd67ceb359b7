//! A captured IPv4 packet's parts.

/// UDP's protocol number, and TCP's.
const UDP: u8 = 17;
const TCP: u8 = 6;

/// What is of interest in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Udp(&'a [u8]),
    Tcp(&'a [u8]),
}

impl<'a> Packet<'a> {
    /// The payload of `ip`; `None` for other protocols, and for what isn't whole.
    pub(super) fn parse(ip: &'a [u8]) -> Option<Self> {
        let first = ip.first()?;
        if first >> 4 != 4 {
            return None;
        }
        let rest = ip.get(usize::from(first & 0x0f) * 4..)?;
        match *ip.get(9)? {
            UDP => Some(Self::Udp(rest.get(8..)?)),
            TCP => Some(Self::Tcp(rest.get(usize::from(rest.get(12)? >> 4) * 4..)?)),
            _ => None,
        }
    }
}

/// The destination queue pair and the PSN, where a RoCEv2 packet has them (BTH, IBA 9.2).
pub(super) fn bth(payload: &[u8]) -> Option<(u32, u32)> {
    let word = |at: usize| Some(u32::from_be_bytes(payload.get(at..at + 4)?.try_into().ok()?) & 0xff_ffff);
    Some((word(4)?, word(8)?))
}

/// How often `pattern` is in `bytes`.
pub(super) fn occurrences(bytes: &[u8], pattern: &[u8]) -> usize {
    bytes.windows(pattern.len().max(1)).filter(|window| *window == pattern).count()
}

/// The beginning of `bytes` in lines of 16, as `hexdump -C` has them.
pub(super) fn hexdump(bytes: &[u8], lines: usize) -> Vec<String> {
    let line = |(at, bytes): (usize, &[u8])| {
        let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = bytes.iter().map(|byte| match byte {
            0x20..=0x7e => char::from(*byte),
            _ => '.',
        });
        format!("{:04x}  {:<47}  {}", at * 16, hex.join(" "), text.collect::<String>())
    };
    bytes.chunks(16).take(lines).enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 header of 20 bytes with that protocol.
    fn ip(protocol: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        bytes.extend([127, 0, 0, 1, 127, 0, 0, 2]);
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn payloads_are_found_behind_their_headers() {
        assert_eq!(Packet::parse(&ip(UDP, b"8 bytes.data")), Some(Packet::Udp(b"data")));
        let mut tcp = vec![0; 24];
        tcp[12] = 6 << 4;
        tcp.extend(b"data");
        assert_eq!(Packet::parse(&ip(TCP, &tcp)), Some(Packet::Tcp(b"data")));
        for bad in [&[][..], &[0x60; 60], &ip(1, b"ping"), &ip(UDP, b"short"), &ip(TCP, &tcp[..12])] {
            assert_eq!(Packet::parse(bad), None, "{bad:02x?}");
        }
    }

    #[test]
    fn a_packets_queue_pair_and_psn_are_read_and_bytes_are_shown() {
        let packet = [4, 0x40, 0xff, 0xff, 9, 0, 0x12, 0x34, 0x80, 0xab, 0xcd, 0xef, b'h', b'i', 0, 0, 1];
        assert_eq!(bth(&packet), Some((0x00_1234, 0xab_cdef)));
        assert_eq!(bth(&packet[..11]), None);
        assert_eq!(occurrences(b"aXbXX", b"X"), 3);
        let lines = hexdump(&packet, 9);
        assert_eq!(lines[0], "0000  04 40 ff ff 09 00 12 34 80 ab cd ef 68 69 00 00  .@.....4....hi..");
        assert_eq!(lines[1], format!("0010  01{}  .", " ".repeat(45)));
        assert_eq!(hexdump(&packet, 1).len(), 1);
    }
}
