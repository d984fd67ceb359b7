//! The keys of one author's epochs.

use super::super::SealError;
use super::super::key::Key;
use super::super::schedule::slot_key;
use super::super::secret::Secret;

/// Keys that are kept ready. Slots of more epochs can be read, but a key has to be derived anew now and then, which takes some
/// microseconds.
const READY: usize = 4;

/// One author's slot keys: any epoch's can be had at any time, because slots stay where they are for as long as the session lasts.
pub(super) struct Epochs {
    secret: Secret,
    bits: u8,
    /// The last used, latest last.
    ready: Vec<(u64, Key)>,
}

impl Epochs {
    /// Epochs of `2^bits` numbers.
    pub(super) fn new(secret: Secret, bits: u8) -> Self {
        Self { secret, bits, ready: Vec::with_capacity(READY) }
    }

    /// Lets `act` use the key for that number. A key that wasn't ready stays so only if `act` says that it fitted: what isn't authentic
    /// displaces no key.
    pub(super) fn with(
        &mut self,
        number: u64,
        act: impl FnOnce(&Key) -> Result<bool, SealError>,
    ) -> Result<bool, SealError> {
        let epoch = number >> self.bits;
        if let Some(at) = self.ready.iter().rposition(|(of, _)| *of == epoch) {
            self.ready[at..].rotate_left(1);
            return self.ready.last().map_or(Err(SealError::Library), |(_, key)| act(key));
        }
        let key = slot_key(&self.secret, epoch)?;
        let fitted = act(&key)?;
        if fitted {
            if self.ready.len() == READY {
                self.ready.remove(0);
            }
            self.ready.push((epoch, key));
        }
        Ok(fitted)
    }
}
