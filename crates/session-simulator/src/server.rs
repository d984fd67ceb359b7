//! A server's program: it takes messages, sends back what is to be sent back, and looks at what was written.

use crate::ledger::{Ended, Ledger};
use crate::limits::{BUFFERS, ECHO, TIMEOUTS};
use crate::plan::{COUNTERS, REGION, ServerPlan};
use crate::process::Host;
use secure_rdma::{
    Arrival, ClientAuth, Identity, Server, ServerOptions, Session, SessionError, SessionOptions, SessionQuota,
};
use std::sync::Arc;
use std::time::Duration;

/// Starts a server, in the runtime that it is called in.
pub(crate) fn start(
    host: &Host,
    plan: &ServerPlan,
    (identity, asked): (&Identity, ClientAuth),
    ledger: &Arc<Ledger>,
) -> Arc<Server> {
    let session = SessionOptions::default()
        .seal(plan.seal)
        .heartbeat(Duration::from_millis(300))
        .buffers(BUFFERS)
        .timeouts(TIMEOUTS);
    let room = plan.room;
    let options = ServerOptions::default()
        .region_len(REGION as u64)
        .max_clients(room.sessions)
        .max_handshakes(room.handshakes)
        .quota(SessionQuota { per_identity: None, per_address: Some(room.quota) })
        .handshake(Duration::from_secs(3))
        .session(session);
    let server = Server::builder(identity.clone(), asked)
        .device(Arc::clone(&host.device))
        .clock(host.clock.clone())
        .options(options)
        .serve(host.wires.listen(host.machine));
    let server = Arc::new(server.expect("a server"));
    let (own, host, ledger) = (Arc::downgrade(&server), host.clone(), Arc::clone(ledger));
    let [pace, nap] = [plan.pace_ms, plan.nap_ms].map(Duration::from_millis);
    tokio::spawn(async move {
        loop {
            let Some(server) = own.upgrade() else { break };
            match server.next().await {
                Arrival::Session(session) => {
                    let (host, ledger) = (host.clone(), Arc::clone(&ledger));
                    tokio::spawn(serve(host, *session, [pace, nap], ledger));
                }
                Arrival::Refused { peer, error } => {
                    host.network.note("refused", &[("kind", error.kind() as u64)]);
                    host.network.comment(&secure_rdma::Report::new(&error).to_string());
                    ledger.refused(peer, host.network.now(), &error);
                }
            }
        }
    });
    server
}

async fn serve(host: Host, session: Session, paces: [Duration; 2], ledger: Arc<Ledger>) {
    let Some((number, attempt)) = ledger.served(session.info().peer, host.network.now()) else { return };
    host.network.note("server opens", &[("session", number as u64)]);
    let end = Ended::from(converse(session, number, paces, &ledger).await);
    host.network.note("server ends", &[("session", number as u64), end.number()]);
    ledger.server_ended((number, attempt), host.network.now(), end);
}

async fn converse(
    mut session: Session,
    number: usize,
    [pace, mut nap]: [Duration; 2],
    ledger: &Arc<Ledger>,
) -> Result<(), SessionError> {
    let mut listens = true;
    let leaves = ledger.with(number, |entry| entry.server_leaves);
    while leaves != Some(ledger.with(number, |entry| entry.received))
        && let Some(message) = session.recv().await?
    {
        ledger.check(number, |entry| entry.receive(&message));
        if message.first() == Some(&ECHO) && listens {
            // Who doesn't listen any more may have said something before.
            listens = session.send(&message).await.is_ok();
        }
        let takes = pace + core::mem::take(&mut nap);
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
    }
    if leaves == Some(ledger.with(number, |entry| entry.received)) {
        return session.close().await;
    }
    // The client has said goodbye: nothing of it is under way any more.
    let found = session.read_local(0, REGION).await?;
    ledger.check(number, |entry| entry.check_region(&found));
    if let Some(region) = session.counter_region() {
        let mut bytes = [0; 8 * COUNTERS];
        let read = region.read(0, &mut bytes);
        let words = bytes.as_chunks::<8>().0;
        let mut found = [0; COUNTERS];
        found.iter_mut().zip(words).for_each(|(found, word)| *found = u64::from_ne_bytes(*word));
        ledger.check(number, |entry| {
            read.map_err(|error| error.to_string())?;
            entry.check_counters(found)
        });
    }
    session.close().await
}
