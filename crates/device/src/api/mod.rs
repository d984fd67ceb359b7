//! What programs see of the device.

mod channel;
mod completion_queue;
mod device;
mod domain;
mod error;
mod gid_table;
mod memory_region;
mod memory_window;
mod queue_pair;

pub use channel::CompletionChannel;
pub use completion_queue::CompletionQueue;
pub use device::{ATTRIBUTES, Attributes, Config, Device, GidEntry};
pub use domain::ProtectionDomain;
pub use error::DeviceError;
pub use memory_region::MemoryRegion;
#[cfg(target_os = "linux")]
pub use memory_region::{ForeignRegion, Reregistration};
pub use memory_window::MemoryWindow;
pub use queue_pair::{PathAttributes, QueuePair};
