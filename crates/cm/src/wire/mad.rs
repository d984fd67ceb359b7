//! The header of management datagrams (IBA 13.4.2).
//!
//! ```text
//!  byte 0          1               2               3
//! +---------------+---------------+---------------+---------------+
//! | BaseVersion   | MgmtClass     | ClassVersion  | R|   Method   |  0
//! +---------------+---------------+---------------+---------------+
//! |            Status             |         ClassSpecific         |  4
//! +-------------------------------+-------------------------------+
//! |                         TransactionID                         |  8, 12
//! +-------------------------------+-------------------------------+
//! |          AttributeID          |           reserved            | 16
//! +-------------------------------+-------------------------------+
//! |                       AttributeModifier                       | 20
//! +---------------------------------------------------------------+
//! | 232 bytes of data                                             | 24
//! ```

use super::{DATA_LEN, Data, ParseError};

/// A management datagram's length in bytes (IBA 13.4.2).
pub const MAD_LEN: usize = HEADER_LEN + DATA_LEN;

/// The header's length in bytes.
pub const HEADER_LEN: usize = 24;

/// The version of the header.
pub const BASE_VERSION: u8 = 1;
/// The management class of communication management (IBA 16.7.1).
pub const CLASS: u8 = 0x07;
/// The version of the class.
pub const CLASS_VERSION: u8 = 2;
/// The method `ComMgtSend`, the only one (IBA 16.7.2).
pub const METHOD_SEND: u8 = 0x03;

/// What differs from one header of the class to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) transaction_id: u64,
    pub(super) attribute_id: u16,
}

/// The header and the data of a datagram of the class. Status, ClassSpecific and AttributeModifier mean nothing
/// here and are ignored.
pub(super) fn parse(bytes: &[u8]) -> Result<(Header, &Data), ParseError> {
    let whole: &[u8; MAD_LEN] = bytes.try_into().map_err(|_| ParseError::Length(bytes.len()))?;
    let [version, class, class_version, method, ..] = *whole;
    match (version, class, class_version, method) {
        (BASE_VERSION, CLASS, CLASS_VERSION, METHOD_SEND) => {}
        (BASE_VERSION, CLASS, CLASS_VERSION, method) => return Err(ParseError::Method(method)),
        (BASE_VERSION, CLASS, version, _) => return Err(ParseError::ClassVersion(version)),
        (BASE_VERSION, class, ..) => return Err(ParseError::Class(class)),
        (version, ..) => return Err(ParseError::BaseVersion(version)),
    }
    let length = ParseError::Length(bytes.len());
    let (header, data) = whole.split_first_chunk::<HEADER_LEN>().ok_or(length)?;
    let [.., t0, t1, t2, t3, t4, t5, t6, t7, a0, a1, _, _, _, _, _, _] = *header;
    let transaction_id = u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
    let header = Header { transaction_id, attribute_id: u16::from_be_bytes([a0, a1]) };
    Ok((header, data.try_into().map_err(|_| length)?))
}

/// The datagram.
pub(super) fn write(header: Header, data: &Data) -> [u8; MAD_LEN] {
    let mut mad = [0; MAD_LEN];
    mad[..4].copy_from_slice(&[BASE_VERSION, CLASS, CLASS_VERSION, METHOD_SEND]);
    mad[8..16].copy_from_slice(&header.transaction_id.to_be_bytes());
    mad[16..18].copy_from_slice(&header.attribute_id.to_be_bytes());
    mad[HEADER_LEN..].copy_from_slice(data);
    mad
}
