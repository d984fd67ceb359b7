//! The service that servers offer: each message is sent back. What clients do in their regions happens
//! without the server.

use secure_rdma::{Session, SessionError};
use zeroize::Zeroizing;

/// What was sent back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Echoed {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// Sends messages back until the client says goodbye.
pub(crate) async fn serve(session: &mut Session, echoed: &mut Echoed) -> Result<(), SessionError> {
    while let Some(message) = session.recv().await? {
        send_back(session, message, echoed).await?;
    }
    Ok(())
}

/// Sends one message back.
pub(crate) async fn send_back(
    session: &mut Session,
    message: Vec<u8>,
    echoed: &mut Echoed,
) -> Result<(), SessionError> {
    // Nothing of it is to stay in this process.
    let message = Zeroizing::new(message);
    session.send(&message).await?;
    echoed.messages += 1;
    echoed.bytes += message.len() as u64;
    Ok(())
}

/// Requests of the client's that its queue pair here refused, where the device counts them for each queue pair.
pub(crate) fn refused(session: &Session) -> Option<u64> {
    Some(session.queue_pair().ok()?.counters?.responder.naks)
}
