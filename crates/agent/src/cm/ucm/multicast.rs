//! Multicast groups that ids have joined. It is the program's own queue pair that gets what is sent to a group: here is
//! only what an id is told.

use super::Ucm;
use crate::cm::event::Told;
use crate::cm::id::State;
use crate::cm::protocol::Reply;
use rocev2_cm::Gid;
use rustix::io::Errno;
use std::net::SocketAddr;

/// Groups of an id at a time.
const MAX_GROUPS: usize = 1024;

impl Ucm {
    /// As in the kernel on RoCE, any address makes a group's GID. Whether it is one shows where a queue pair is
    /// attached. What is sent to a group can't be sealed.
    pub(super) fn join(
        &mut self,
        client: u64,
        number: u32,
        group: SocketAddr,
        cookie: u64,
    ) -> Result<Reply, Errno> {
        if self.sealing().is_some() {
            return Err(Errno::OPNOTSUPP);
        }
        let id = self.own(client, number)?;
        let is_bound = matches!(id.state, State::Bound | State::AddressResolved | State::RouteResolved);
        if !id.device || !is_bound || id.groups.contains(&cookie) {
            return Err(Errno::INVAL);
        }
        if id.groups.len() >= MAX_GROUPS {
            return Err(Errno::NOMEM);
        }
        id.groups.insert(cookie);
        let traffic_class = id.traffic_class;
        self.push(number, None, Told::joined(cookie, Gid::from(group.ip()), traffic_class));
        Ok(Reply::Done)
    }

    /// The id isn't told of the group any more.
    pub(super) fn leave(&mut self, client: u64, number: u32, cookie: u64) -> Result<Reply, Errno> {
        let id = self.own(client, number)?;
        if !id.groups.remove(&cookie) {
            return Err(Errno::ADDRNOTAVAIL);
        }
        let channel = id.channel;
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.take(|event| {
                event.id == number && event.multicast.is_some_and(|multicast| multicast.cookie == cookie)
            });
        }
        Ok(Reply::Done)
    }
}
