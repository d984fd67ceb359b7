//! The keys of one author's epochs.

use super::super::SealError;
use super::super::key::Key;
use super::super::schedule::slot_key;
use super::super::secret::Secret;

/// Keys that are kept ready. Slots of more epochs can be read, but a key has to be derived anew now and then,
/// which takes some microseconds.
const READY: usize = 4;

/// One author's slot keys: any epoch's can be had at any time, because slots stay where they are for as long
/// as the session lasts.
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

    /// The first number behind those of `number`'s epoch.
    pub(super) const fn epoch_end(&self, number: u64) -> u64 {
        ((number >> self.bits) + 1) << self.bits
    }

    /// Lets `act` use the key for that number. A key that wasn't ready stays so only if `act` says that it
    /// fitted: what isn't authentic displaces no key.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Suite;
    use crate::seal::key::AAD;
    use crate::seal::testing::session;

    /// What the key for `number` makes of nothing at all, with one nonce for all: tells keys apart.
    fn tag(epochs: &mut Epochs, number: u64) -> [u8; 16] {
        let mut tag = [0; 16];
        let seal = |key: &Key| key.seal(0, [0; AAD], &[], &mut [], &mut tag).map(|()| true);
        assert_eq!(epochs.with(number, seal), Ok(true));
        tag
    }

    #[test]
    fn the_numbers_of_an_epoch_share_a_key_that_no_other_has() {
        let mut epochs = Epochs::new(session(Suite::Aes128Gcm, 0), 2);
        let tags: Vec<_> = (0..40).map(|number| tag(&mut epochs, number)).collect();
        for one in 0..tags.len() {
            for other in 0..tags.len() {
                assert_eq!(tags[one] == tags[other], one / 4 == other / 4, "{one} and {other}");
            }
        }
        // Long gone, and derived anew.
        assert_eq!(tag(&mut epochs, 0), tags[0]);
    }

    #[test]
    fn a_few_keys_are_kept_ready_and_what_is_not_authentic_displaces_none() {
        let mut epochs = Epochs::new(session(Suite::Aes128Gcm, 0), 0);
        let ready = |epochs: &Epochs| epochs.ready.iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>();
        for number in 0..6 {
            tag(&mut epochs, number);
        }
        assert_eq!(ready(&epochs), [2, 3, 4, 5]);
        tag(&mut epochs, 3);
        assert_eq!(ready(&epochs), [2, 4, 5, 3]);
        for number in [2, 100] {
            assert_eq!(epochs.with(number, |_| Ok(false)), Ok(false));
        }
        assert_eq!(ready(&epochs), [4, 5, 3, 2]);
    }
}
