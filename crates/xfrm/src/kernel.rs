//! The kernel's states and policies, one request each.

use crate::address::{Direction, Pair};
use crate::association::Ports;
use crate::owner::{self, Kind};
use crate::policy::{self, PolicyStatus, Selector};
use crate::socket::Socket;
use crate::state::{self, State, StateStatus};
use crate::{Error, Material, ROCE_PORT};
use core::fmt;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zeroize::Zeroizing;

/// Packets after which a state is of no use any more: AES-GCM's own limit is far away then.
const PACKETS: u64 = 1 << 28;

/// An owner of states and policies in the network namespace that it was made in. What it made and hasn't removed when
/// it is dropped stays: packets are sealed or dropped, not sent in clear.
pub struct Kernel {
    socket: Socket,
    reqid: u32,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("reqid", &self.reqid).finish_non_exhaustive()
    }
}

impl Kernel {
    /// A new owner, whose policies are removed when it is gone and its program is, too.
    ///
    /// # Errors
    /// The kernel has no IPsec.
    pub fn open() -> Result<Self, Error> {
        Self::open_of(Kind::Passing)
    }

    /// A new owner of a kind.
    ///
    /// # Errors
    /// The kernel has no IPsec.
    pub fn open_of(kind: Kind) -> Result<Self, Error> {
        let opened = owner::become_one(kind);
        let (socket, reqid) = opened.map_err(Error::kernel("opening a netlink socket for IPsec"))?;
        Ok(Self { socket, reqid })
    }

    /// Whether its policies stay, as blocks, when it is gone.
    #[must_use]
    pub fn stands(&self) -> bool {
        Kind::of(self.reqid) == Some(Kind::Standing)
    }

    /// Its request ID.
    #[must_use]
    pub const fn reqid(&self) -> u32 {
        self.reqid
    }

    /// Whether the kernel has ESP and AES-GCM: it takes a state, which is removed at once. The first time it loads
    /// modules for that.
    ///
    /// # Errors
    /// It hasn't, or refuses. Of IPv6 it isn't asked.
    pub fn probe(&self) -> Result<(), Error> {
        // Addresses for documentation (RFC 5737, RFC 3849), which nobody has.
        let v4 = [1, 2].map(|host| IpAddr::from(Ipv4Addr::new(192, 0, 2, host)));
        let v6 = [1, 2].map(|host| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host)));
        let ([v4, v4_peer], [v6, v6_peer]) = (v4, v6);
        // Only so that what it needs is loaded by then.
        let _ = self.probe_between(&Pair::new(v6, v6_peer)?);
        self.probe_between(&Pair::new(v4, v4_peer)?)
    }

    fn probe_between(&self, pair: &Pair) -> Result<(), Error> {
        let mut random = Zeroizing::new([0; 36]);
        getrandom::fill(&mut *random).map_err(Error::kernel("drawing a key"))?;
        let (material, ports) = (Material::new(&*random)?, Ports { own: ROCE_PORT, peer: ROCE_PORT });
        let spi = self.allocate_spi(pair)?;
        let added = self.add_state(pair, Direction::In, spi, ports, &material);
        self.delete_state(pair.own(), spi)?;
        added
    }

    /// All states of this software, whoever their owner is.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn states(&self) -> Result<Vec<StateStatus>, Error> {
        let read = |body: &[u8]| StateStatus::parse(body).filter(|state| owner::is_ours(state.reqid));
        self.socket.dump("listing IPsec's states", state::GET, read)
    }

    /// All policies of this software, whoever their owner is.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn policies(&self) -> Result<Vec<PolicyStatus>, Error> {
        let read = |body: &[u8]| PolicyStatus::parse(body).filter(|policy| owner::is_ours(policy.reqid));
        self.socket.dump("listing IPsec's policies", policy::GET, read)
    }

    /// Removes what owners have left that are gone, and whose programs are too, such as processes that were killed;
    /// returns how many policies that were. Of owners that [stand](Kind::Standing) it blocks what is left.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn sweep(&self) -> Result<usize, Error> {
        let mut swept = 0;
        self.for_each_gone(|reqid| {
            match Kind::of(reqid) {
                Some(Kind::Passing) => swept += self.clear(reqid)?,
                Some(Kind::Standing) => drop(self.block(reqid)?),
                None => {}
            }
            Ok(())
        })?;
        Ok(swept)
    }

    /// Removes the blocks that owners have left that stood and are gone: RoCEv2 that they were for goes in clear then.
    /// Returns how many policies that were.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn lift(&self) -> Result<usize, Error> {
        let mut lifted = 0;
        self.for_each_gone(|reqid| {
            if Kind::of(reqid) == Some(Kind::Standing) {
                lifted += self.clear(reqid)?;
            }
            Ok(())
        })?;
        Ok(lifted)
    }

    /// For each owner that has left something and is gone: nobody else becomes that owner meanwhile.
    fn for_each_gone(&self, mut what: impl FnMut(u32) -> Result<(), Error>) -> Result<(), Error> {
        let (states, policies) = (self.states()?, self.policies()?);
        let reqids = states.iter().map(|state| state.reqid);
        let reqids: BTreeSet<_> = reqids.chain(policies.iter().map(|policy| policy.reqid)).collect();
        for reqid in reqids.into_iter().filter(|reqid| *reqid != self.reqid) {
            if let Some(_held) = owner::in_place_of(reqid) {
                what(reqid)?;
            }
        }
        Ok(())
    }

    /// Has all that is between addresses of its own blocked, and removes the states.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn block_all(&self) -> Result<(), Error> {
        self.block(self.reqid).map(drop)
    }

    /// Removes all of its own: to be called when nobody is left who could send in clear.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_all(&self) -> Result<(), Error> {
        self.clear(self.reqid).map(drop)
    }

    /// Blocks, then removes the states, of an owner.
    fn block(&self, reqid: u32) -> Result<Vec<PolicyStatus>, Error> {
        let policies: Vec<_> = self.policies()?.into_iter().filter(|policy| policy.reqid == reqid).collect();
        for policy in policies.iter().filter(|policy| !policy.blocks) {
            let update = policy::message(policy::UPDATE, &policy.selector, policy.direction, reqid, true);
            self.socket.carry_out("blocking what was sealed", update)?;
        }
        // Those too that the kernel has made since it missed one.
        for state in self.states()?.into_iter().filter(|state| state.reqid == reqid && state.is_esp()) {
            self.delete_state(state.destination, state.spi)?;
        }
        Ok(policies)
    }

    /// Blocks, then removes everything, of an owner.
    fn clear(&self, reqid: u32) -> Result<usize, Error> {
        let policies = self.block(reqid)?;
        for policy in &policies {
            let delete = policy::delete(&policy.selector, policy.direction);
            absent_is_fine(self.socket.carry_out("deleting an IPsec policy", delete))?;
        }
        Ok(policies.len())
    }

    // ---- What an association is made of ----

    /// Blocks what goes that way, where no policy is yet, or one that an owner has left that stood, if this one does.
    pub(crate) fn claim(&self, pair: &Pair, direction: Direction) -> Result<(), Error> {
        let selector = Selector::new(pair, direction);
        let message = policy::message(policy::NEW, &selector, direction as u8, self.reqid, true);
        match self.socket.carry_out("adding an IPsec policy", message) {
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                if self.stands() && self.take_over(pair, direction)? {
                    return Ok(());
                }
                Err(Error::Busy { own: pair.own(), peer: pair.peer() })
            }
            result => result,
        }
    }

    /// Makes a policy its own that an owner has left that stood, and blocks by it; whether there is one.
    fn take_over(&self, pair: &Pair, direction: Direction) -> Result<bool, Error> {
        let selector = Selector::new(pair, direction);
        let is_it = |it: &PolicyStatus| it.selector == selector && it.direction == direction as u8;
        let Some(found) = self.policies()?.into_iter().find(is_it) else { return Ok(false) };
        if found.reqid == self.reqid || Kind::of(found.reqid) != Some(Kind::Standing) {
            return Ok(false);
        }
        let Some(_held) = owner::in_place_of(found.reqid) else { return Ok(false) };
        self.set_policy(pair, direction, true)?;
        Ok(true)
    }

    /// Requires ESP of what goes that way, or blocks it, in the place of what was there.
    pub(crate) fn set_policy(&self, pair: &Pair, direction: Direction, block: bool) -> Result<(), Error> {
        let selector = Selector::new(pair, direction);
        let message = policy::message(policy::UPDATE, &selector, direction as u8, self.reqid, block);
        self.socket.carry_out("changing an IPsec policy", message)
    }

    /// Removes the policy for what goes that way.
    pub(crate) fn remove_policy(&self, pair: &Pair, direction: Direction) -> Result<(), Error> {
        let delete = policy::delete(&Selector::new(pair, direction), direction as u8);
        absent_is_fine(self.socket.carry_out("deleting an IPsec policy", delete))
    }

    pub(crate) fn allocate_spi(&self, pair: &Pair) -> Result<u32, Error> {
        let read = |body: &[u8]| StateStatus::parse(body).map(|state| state.spi);
        let spi = self.socket.ask("allocating an SPI", state::allocate_spi(pair, self.reqid), read)?;
        if state::SPIS.contains(&spi) { Ok(spi) } else { Err(Error::Malformed { what: "allocating an SPI" }) }
    }

    /// Makes a state: of an SPI that was allocated, on the way in.
    pub(crate) fn add_state(
        &self,
        pair: &Pair,
        direction: Direction,
        spi: u32,
        ports: Ports,
        material: &Material,
    ) -> Result<(), Error> {
        let state = State { pair, direction, spi, reqid: self.reqid, ports, material, packets: PACKETS };
        let kind = match direction {
            Direction::In => state::UPDATE,
            Direction::Out => state::NEW,
        };
        self.socket.carry_out("adding an IPsec state", state.message(kind))
    }

    pub(crate) fn delete_state(&self, destination: IpAddr, spi: u32) -> Result<(), Error> {
        let delete = state::about(state::DELETE, destination, spi);
        absent_is_fine(self.socket.carry_out("deleting an IPsec state", delete))
    }

    pub(crate) fn state(&self, destination: IpAddr, spi: u32) -> Result<StateStatus, Error> {
        self.socket.ask(
            "asking for an IPsec state",
            state::about(state::GET, destination, spi),
            StateStatus::parse,
        )
    }
}

/// What was to be removed may have gone before: an SPI that was allocated expires.
fn absent_is_fine(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if matches!(error.errno(), Some(libc::ESRCH | libc::ENOENT)) => Ok(()),
        result => result,
    }
}
