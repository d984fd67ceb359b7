//! Waiting without sleeping.

/// How often one looks before one lets others have the core: as `rdma_verbs::CompletionQueue::spin` does.
const POLLS: u32 = 64;

/// Between two looks in vain.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    polls: u32,
}

impl Spin {
    pub(crate) fn pause(&mut self) {
        if self.polls < POLLS {
            self.polls += 1;
            core::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}
