//! What a link carries.

/// Something that a link can carry: bytes, which it may damage, and whatever else the caller wants to find beside them.
///
/// `Vec<u8>` is a packet; so is `(T, Vec<u8>)`, whose first part — addresses, say — arrives as it was sent.
///
/// ```
/// use netem::{Corrupt, Link, LinkConfig};
///
/// let config = LinkConfig { corrupt: Corrupt { probability: 1.0, max_bits: 1 }, ..LinkConfig::default() };
/// let mut link = Link::new(config, 1);
/// link.send(0, ("from A", vec![0; 100]));
/// let (from, bytes) = link.recv(0).unwrap();
/// assert_eq!(from, "from A");
/// assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
/// ```
pub trait Packet: Clone {
    /// The bytes on the link; their number decides how long the transmission takes.
    fn bytes(&self) -> &[u8];
    /// The same bytes, to be damaged.
    fn bytes_mut(&mut self) -> &mut [u8];
}

impl Packet for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl<T: Clone> Packet for (T, Vec<u8>) {
    fn bytes(&self) -> &[u8] {
        &self.1
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.1
    }
}
