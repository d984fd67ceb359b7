//! Why bytes are no message.

/// Why a management datagram is no message of communication management.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseError {
    /// Not the length that every management datagram has.
    #[error("{0} bytes, a management datagram has 256")]
    Length(usize),
    /// Another version of the header.
    #[error("base version {0}, only 1 exists")]
    BaseVersion(u8),
    /// Another management class.
    #[error("management class {0:#04x}, not communication management")]
    Class(u8),
    /// Another version of the class.
    #[error("class version {0}, only 2 is known")]
    ClassVersion(u8),
    /// A method that the class doesn't have.
    #[error("method {0:#04x}, the class has only ComMgtSend")]
    Method(u8),
    /// An attribute that isn't known.
    #[error("attribute {0:#06x}, not one of communication management's messages")]
    Attribute(u16),
    /// A length of additional information that its field has no room for.
    #[error("{0} bytes of additional information announced, there is room for 72")]
    InfoLength(u8),
}

impl ParseError {
    /// Every value of [`reason`](Self::reason), for counters.
    pub const REASONS: [&'static str; 7] =
        ["length", "base_version", "class", "class_version", "method", "attribute", "info_length"];

    /// A short, constant name of the reason, for counters.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        Self::REASONS[match self {
            Self::Length(_) => 0,
            Self::BaseVersion(_) => 1,
            Self::Class(_) => 2,
            Self::ClassVersion(_) => 3,
            Self::Method(_) => 4,
            Self::Attribute(_) => 5,
            Self::InfoLength(_) => 6,
        }]
    }
}
