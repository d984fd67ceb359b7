//! The client's side.
//!
//! | file | what it holds |
//! |---|---|
//! | `connection` | a session that moves files: requests and answers one by one |
//! | `batch` | what is to be moved, what became of it, and who wants to know |
//! | `pace` | how fast |
//! | `piece` | a chunk that is under way |
//! | `get`, `put` | files, from the server and to it |
//! | `walk` | what is in folders, there and here |

mod batch;
mod connection;
mod get;
mod pace;
mod piece;
mod put;
mod walk;

pub use batch::{Batch, Observer, Outcome, Transfer};
pub use connection::FilesClient;
pub use pace::Pace;
pub use walk::{Found, find_local};
