//! Every message of the class.

use super::mad::{self, Header, MAD_LEN};
use super::{Apr, DATA_LEN, Data, Drep, Dreq, Lap, Mra, ParseError, Rej, Rep, Req, Rtu, SidrRep, SidrReq};

/// Bytes that additional information has room for.
const INFO_LEN: u8 = 72;

/// A management datagram of communication management.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mad {
    /// TransactionID: an answer has that of what it answers (IBA 12.6.3).
    pub transaction_id: u64,
    /// What it says.
    pub message: Message,
}

/// Declares the messages and their attribute IDs.
macro_rules! messages {
    ($( $(#[$doc:meta])* $name:ident = $attribute:literal, )+) => {
        /// What a datagram says (IBA 12.6.1, by AttributeID).
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Message {
            $( $(#[$doc])* $name($name), )+
        }

        impl Message {
            /// Its AttributeID.
            #[must_use]
            pub const fn attribute_id(&self) -> u16 {
                match self {
                    $( Self::$name(_) => $attribute, )+
                }
            }

            fn read(attribute_id: u16, data: &Data) -> Result<Self, ParseError> {
                Ok(match attribute_id {
                    $( $attribute => Self::$name($name::read(data)), )+
                    other => return Err(ParseError::Attribute(other)),
                })
            }

            fn write(&self, data: &mut Data) {
                match self {
                    $( Self::$name(message) => message.write(data), )+
                }
            }

            /// Every attribute ID, and the bits of its message that aren't reserved.
            #[cfg(test)]
            const ALL: &'static [(u16, Data)] = &[$( ($attribute, $name::MASK), )+];
        }

        $(
            impl From<$name> for Message {
                fn from(message: $name) -> Self {
                    Self::$name(message)
                }
            }
        )+
    };
}

messages! {
    /// A request for a connection.
    Req = 0x10,
    /// The answer takes longer.
    Mra = 0x11,
    /// A refusal.
    Rej = 0x12,
    /// A request is accepted.
    Rep = 0x13,
    /// The acceptance has been seen.
    Rtu = 0x14,
    /// The connection ends.
    Dreq = 0x15,
    /// The end has been seen.
    Drep = 0x16,
    /// Which queue pair serves datagrams?
    SidrReq = 0x17,
    /// This one does.
    SidrRep = 0x18,
    /// Another alternate path.
    Lap = 0x19,
    /// What becomes of the alternate path.
    Apr = 0x1a,
}

impl Mad {
    /// Reads a datagram: exactly 256 bytes.
    ///
    /// # Errors
    ///
    /// What makes the bytes no message of the class, in the order of the bytes. Values of single fields are no
    /// error here: who receives a REQ has to answer it with the reason for its refusal.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (Header { transaction_id, attribute_id }, data) = mad::parse(bytes)?;
        let message = Message::read(attribute_id, data)?;
        let info = match &message {
            Message::Rej(rej) => rej.reject_info_length,
            Message::Apr(apr) => apr.additional_info_length,
            Message::SidrRep(rep) => rep.additional_info_length,
            _ => 0,
        };
        if info > INFO_LEN {
            return Err(ParseError::InfoLength(info));
        }
        Ok(Self { transaction_id, message })
    }

    /// Writes the datagram. Of a value that is too wide for its field, the low bits are written.
    #[must_use]
    pub fn encode(&self) -> [u8; MAD_LEN] {
        let mut data = [0; DATA_LEN];
        self.message.write(&mut data);
        let attribute_id = self.message.attribute_id();
        mad::write(Header { transaction_id: self.transaction_id, attribute_id }, &data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mad::HEADER_LEN;

    /// A datagram with that attribute and data that is different in each byte and each round.
    fn datagram(attribute: u16, round: u8) -> [u8; MAD_LEN] {
        let data =
            core::array::from_fn(|i| u8::try_from(i).unwrap().wrapping_mul(31) ^ round.wrapping_mul(151));
        mad::write(Header { transaction_id: 0x0102_0304_0506_0708, attribute_id: attribute }, &data)
    }

    #[test]
    fn what_is_read_writes_back_as_the_same_bytes_but_for_reserved_bits() {
        let mut read = 0;
        for &(attribute, mask) in Message::ALL {
            for round in 0..=255 {
                let bytes = datagram(attribute, round);
                let Ok(mad) = Mad::parse(&bytes) else { continue };
                read += 1;
                let mut expected = bytes;
                expected[HEADER_LEN..].iter_mut().zip(mask).for_each(|(byte, mask)| *byte &= mask);
                assert_eq!(mad.encode(), expected, "{attribute:#x}");
                assert_eq!(Mad::parse(&expected), Ok(mad));
            }
        }
        assert!(read > 8 * 256, "{read} were read");
    }

    #[test]
    fn private_data_reaches_to_the_end_of_each_message() {
        for &(attribute, mask) in Message::ALL {
            let private = mask.iter().rev().take_while(|&&mask| mask == 0xff).count();
            assert!(private >= 92, "{attribute:#x} has {private} bytes");
        }
    }

    #[test]
    fn another_header_is_refused_by_what_is_wrong_with_it() {
        let good = datagram(0x14, 0);
        let change = |byte: usize, value: u8| {
            let mut bytes = good;
            bytes[byte] = value;
            Mad::parse(&bytes).map(|_| ())
        };
        assert_eq!(change(0, 1), Ok(()));
        assert_eq!(change(0, 2), Err(ParseError::BaseVersion(2)));
        assert_eq!(change(1, 3), Err(ParseError::Class(3)));
        assert_eq!(change(2, 1), Err(ParseError::ClassVersion(1)));
        assert_eq!(change(3, 0x83), Err(ParseError::Method(0x83)));
        assert_eq!(change(17, 0x1b), Err(ParseError::Attribute(0x1b)));
        assert_eq!(change(17, 0x0f), Err(ParseError::Attribute(0x0f)));
        for len in [0, 24, 255] {
            assert_eq!(Mad::parse(&good[..len]), Err(ParseError::Length(len)));
        }
        assert_eq!(Mad::parse(&[good.as_slice(), &[0]].concat()), Err(ParseError::Length(257)));
    }

    #[test]
    fn more_additional_information_than_there_is_room_for_is_refused() {
        let length = |attribute: u16, byte: usize, value: u8| {
            let mut bytes = mad::write(Header { transaction_id: 0, attribute_id: attribute }, &[0; DATA_LEN]);
            bytes[HEADER_LEN + byte] = value;
            Mad::parse(&bytes).map(|_| ())
        };
        assert_eq!(length(0x12, 9, 72 << 1 | 1), Ok(()), "the last bit is reserved");
        assert_eq!(length(0x12, 9, 73 << 1), Err(ParseError::InfoLength(73)));
        assert_eq!(length(0x1a, 8, 73), Err(ParseError::InfoLength(73)));
        assert_eq!(length(0x18, 5, 255), Err(ParseError::InfoLength(255)));
    }
}
