//! What is set up for one pair of addresses.

use crate::address::{Direction, Pair};
use crate::{Error, Kernel, Material};
use minicbor::{Decode, Encode};

/// States on the way in at a time: the newest, and those whose packets may still be on their way.
const INBOUND: usize = 4;

/// The UDP ports of the encapsulation (RFC 3948).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Ports {
    /// Where this host's kernel takes packets: [`Encapsulation::port`](crate::Encapsulation::port).
    #[n(0)]
    pub own: u16,
    /// Where the peer does.
    #[n(1)]
    pub peer: u16,
}

/// The states and policies between two addresses. At each moment from [`open`](Self::open) to [`close`](Self::close)
/// RoCEv2 between them is sealed, or dropped. Where it isn't closed, they stay as they are.
#[derive(Debug)]
pub struct Association {
    pair: Pair,
    inbound: Vec<u32>,
    outbound: Option<u32>,
}

impl Association {
    /// Begins: from now on nothing of RoCEv2 comes or goes between the two addresses.
    ///
    /// # Errors
    /// There is a policy between them, or the kernel refused.
    pub fn open(kernel: &Kernel, pair: Pair) -> Result<Self, Error> {
        kernel.claim(&pair, Direction::Out)?;
        if let Err(error) = kernel.claim(&pair, Direction::In) {
            // Where it may have been there before, it stays.
            if !kernel.stands() {
                kernel.remove_policy(&pair, Direction::Out)?;
            }
            return Err(error);
        }
        Ok(Self { pair, inbound: Vec::new(), outbound: None })
    }

    /// The addresses.
    #[must_use]
    pub const fn pair(&self) -> Pair {
        self.pair
    }

    /// An SPI by which packets will be taken. The kernel forgets it after 30 s (`net.core.xfrm_acq_expires`), unless it
    /// is given a key.
    ///
    /// # Errors
    /// There are enough, or the kernel refused.
    pub fn allocate_spi(&mut self, kernel: &Kernel) -> Result<u32, Error> {
        if self.inbound.len() == INBOUND {
            return Err(Error::Request("four SPIs between two addresses are enough"));
        }
        let spi = kernel.allocate_spi(&self.pair)?;
        self.inbound.push(spi);
        Ok(spi)
    }

    /// Takes packets under a key by an SPI that was allocated. From now on RoCEv2 is taken if it was sealed.
    ///
    /// # Errors
    /// There is no such SPI any more, or the kernel refused.
    pub fn install_inbound(
        &mut self,
        kernel: &Kernel,
        spi: u32,
        ports: Ports,
        material: &Material,
    ) -> Result<(), Error> {
        self.check(spi)?;
        kernel.add_state(&self.pair, Direction::In, spi, ports, material)?;
        kernel.set_policy(&self.pair, Direction::In, false)
    }

    /// Seals under a key, for the peer's `spi`, and no longer under the one before. From now on RoCEv2 is sealed.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn install_outbound(
        &mut self,
        kernel: &Kernel,
        spi: u32,
        ports: Ports,
        material: &Material,
    ) -> Result<(), Error> {
        kernel.add_state(&self.pair, Direction::Out, spi, ports, material)?;
        // A connection's route stays with the state that it was found with, until that is deleted.
        if let Some(old) = self.outbound.replace(spi) {
            kernel.delete_state(self.pair.peer(), old)?;
        }
        kernel.set_policy(&self.pair, Direction::Out, false)
    }

    /// How many packets have been taken by an SPI.
    ///
    /// # Errors
    /// There is no such SPI any more.
    pub fn packets(&self, kernel: &Kernel, spi: u32) -> Result<u64, Error> {
        self.check(spi)?;
        Ok(kernel.state(self.pair.own(), spi)?.packets)
    }

    /// Takes no more packets by an SPI.
    ///
    /// # Errors
    /// There is no such SPI, or the kernel refused.
    pub fn release(&mut self, kernel: &Kernel, spi: u32) -> Result<(), Error> {
        self.check(spi)?;
        self.inbound.retain(|own| *own != spi);
        kernel.delete_state(self.pair.own(), spi)
    }

    /// Has nothing more of RoCEv2 come or go between the two addresses, whoever still sends.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn block(&mut self, kernel: &Kernel) -> Result<(), Error> {
        for direction in [Direction::Out, Direction::In] {
            kernel.set_policy(&self.pair, direction, true)?;
        }
        if let Some(spi) = self.outbound.take() {
            kernel.delete_state(self.pair.peer(), spi)?;
        }
        for spi in core::mem::take(&mut self.inbound) {
            kernel.delete_state(self.pair.own(), spi)?;
        }
        Ok(())
    }

    /// Blocks, and removes everything: to be called when no queue pair is left that could go on in clear. Where the
    /// owner stands, the blocks do, too.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn close(mut self, kernel: &Kernel) -> Result<(), Error> {
        self.block(kernel)?;
        if kernel.stands() {
            return Ok(());
        }
        for direction in [Direction::Out, Direction::In] {
            kernel.remove_policy(&self.pair, direction)?;
        }
        Ok(())
    }

    fn check(&self, spi: u32) -> Result<(), Error> {
        if self.inbound.contains(&spi) { Ok(()) } else { Err(Error::Request("no such SPI")) }
    }
}
