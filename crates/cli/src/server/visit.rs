//! What a client has come for: its first message says whether that is files.

use crate::echo::{self, Echoed};
use secure_rdma::{Session, SessionError};
use secure_rdma_files::message::is_greeting;
use secure_rdma_files::{Moved, Service, decline};
use serde_json::Value;
use std::fmt;

/// What was done for a client.
#[derive(Debug, Default)]
pub(super) struct Visit {
    pub(super) echoed: Echoed,
    /// Of one that came for files.
    pub(super) moved: Option<Moved>,
}

impl Visit {
    /// Serves a client until it says goodbye: files, if it wants some and there are any, else its messages are sent
    /// back.
    pub(super) async fn serve(
        &mut self,
        session: &mut Session,
        files: Option<&Service>,
    ) -> Result<(), SessionError> {
        let Some(first) = session.recv().await? else { return Ok(()) };
        match files {
            Some(service) if is_greeting(&first) => {
                return service.serve(session, &first, self.moved.insert(Moved::default())).await;
            }
            _ => match decline(&first) {
                Some(answer) => session.send(&answer).await?,
                None => echo::send_back(session, first, &mut self.echoed).await?,
            },
        }
        echo::serve(session, &mut self.echoed).await
    }

    /// What is told of files, for programs.
    pub(super) fn fields(&self) -> Vec<(&'static str, Value)> {
        let Some(moved) = self.moved else { return Vec::new() };
        vec![
            ("files_read", moved.files_read.into()),
            ("file_bytes_read", moved.bytes_read.into()),
            ("files_written", moved.files_written.into()),
            ("file_bytes_written", moved.bytes_written.into()),
            ("file_requests_refused", moved.refused.into()),
        ]
    }
}

impl fmt::Display for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(moved) = self.moved else {
            let Echoed { messages, bytes } = self.echoed;
            return write!(f, "messages echoed: {messages}, {bytes} bytes");
        };
        let Moved { files_read, bytes_read, files_written, bytes_written, refused } = moved;
        write!(
            f,
            "files read: {files_read}, {bytes_read} bytes; written: {files_written}, {bytes_written} bytes"
        )?;
        if refused > 0 { write!(f, "; requests for files refused: {refused}") } else { Ok(()) }
    }
}
