//! The memory that the client writes to, as the server tells it behind the addresses: address and remote key,
//! in hexadecimal, and the number of bytes.

use crate::common::Failure;
use rdma_verbs::RemoteRegion;
use std::io::{Read, Write};

const LEN: usize = 16 + 1 + 8 + 1 + 16;

/// Tells the client.
pub(crate) fn send(region: &RemoteRegion, mut stream: impl Write) -> Result<(), Failure> {
    let record = format!("{:016x}:{:08x}:{:016x}", region.addr, region.rkey, region.len);
    stream
        .write_all(record.as_bytes())
        .map_err(|error| format!("telling the client where to write: {error}").into())
}

/// What the server tells.
pub(crate) fn receive(mut stream: impl Read) -> Result<RemoteRegion, Failure> {
    let mut record = [0; LEN];
    stream.read_exact(&mut record).map_err(|error| {
        format!("the server didn't tell where to write; its own output may say why ({error})")
    })?;
    parse(&record)
        .ok_or_else(|| format!("the server told no place to write to: \"{}\"", record.escape_ascii()).into())
}

fn parse(record: &[u8]) -> Option<RemoteRegion> {
    let mut fields = str::from_utf8(record).ok()?.split(':');
    let mut field = || u64::from_str_radix(fields.next()?, 16).ok();
    Some(RemoteRegion { addr: field()?, rkey: field()?.try_into().ok()?, len: field()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_end_tells_the_other_reads() {
        let region = RemoteRegion { addr: u64::MAX - 7, rkey: 0x1234, len: 1 << 20 };
        let mut record = Vec::new();
        send(&region, &mut record).unwrap();
        assert_eq!(record.len(), LEN);
        assert_eq!(receive(&record[..]).unwrap(), region);
        record[0] = b'x';
        assert!(receive(&record[..]).is_err());
    }
}
