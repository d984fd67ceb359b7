//! What programs see of the device.

mod address_handle;
mod channel;
mod completion_queue;
mod device;
mod domain;
mod error;
mod gid_table;
mod memory_region;
mod memory_window;
mod multicast;
mod path;
mod queue_pair;
mod security_association;
mod shared_receive_queue;
mod xrc_domain;

pub use address_handle::AddressHandle;
pub use channel::CompletionChannel;
pub use completion_queue::CompletionQueue;
pub use device::{ATTRIBUTES, Attributes, Config, Device, GidEntry};
pub use domain::{GSI_QKEY, ProtectionDomain};
pub use error::DeviceError;
pub use memory_region::MemoryRegion;
#[cfg(target_os = "linux")]
pub use memory_region::{ForeignRegion, Reregistration};
pub use memory_window::MemoryWindow;
pub use path::PathAttributes;
pub use queue_pair::{QueuePair, QueuePairOptions};
pub use security_association::{SaStatus, SecurityAssociation};
pub use shared_receive_queue::SharedReceiveQueue;
pub use xrc_domain::XrcDomain;
