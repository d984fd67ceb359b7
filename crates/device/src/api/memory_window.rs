//! Memory windows.

use crate::DeviceError;
use crate::memory::{Bind, KeyTable, Window, WindowRange};
use core::fmt;
use std::sync::Arc;

/// A memory window. Dropping it deallocates it: what it gave ends.
pub struct MemoryWindow {
    window: Arc<Window>,
    keys: Arc<KeyTable>,
}

impl MemoryWindow {
    pub(crate) fn new(window: Arc<Window>, keys: Arc<KeyTable>) -> Self {
        Self { window, keys }
    }

    /// The window.
    #[must_use]
    pub fn window(&self) -> &Arc<Window> {
        &self.window
    }

    /// A request that binds it to `range`, to be posted on a queue pair of its protection domain; [`Bind::new`] has
    /// the details.
    ///
    /// # Errors
    /// There is no key for a type 1 window.
    pub fn bind(&self, variant: Option<u8>, range: Option<WindowRange>) -> Result<Bind, DeviceError> {
        Ok(Bind::new(&self.window, variant, range)?)
    }
}

impl Drop for MemoryWindow {
    fn drop(&mut self) {
        self.keys.deallocate(&self.window);
    }
}

impl fmt::Debug for MemoryWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryWindow").field(&self.window).finish()
    }
}
