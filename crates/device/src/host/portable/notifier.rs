//! Descriptors that become readable: what programs wait for.

use crate::engine::Signal;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

/// A descriptor that is readable while it is raised.
#[derive(Debug)]
pub(crate) struct Notifier {
    /// Holds a byte while it is raised.
    ours: UnixStream,
    theirs: UnixStream,
    counting: bool,
    /// How often it is raised.
    raised: Mutex<u64>,
}

impl Notifier {
    /// One that has to be lowered as often as it was raised, if it is `counting`.
    pub(crate) fn new(counting: bool) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        Ok(Self { ours, theirs, counting, raised: Mutex::default() })
    }
}

impl Signal for Notifier {
    fn raise(&self) {
        let mut raised = crate::lock(&self.raised);
        *raised += 1;
        if *raised == 1 {
            // There is room for one byte.
            let _ = (&self.theirs).write(&[1]);
        }
    }

    fn lower(&self) -> bool {
        let mut raised = crate::lock(&self.raised);
        if *raised == 0 {
            return false;
        }
        *raised = if self.counting { *raised - 1 } else { 0 };
        if *raised == 0 {
            let _ = (&self.ours).read(&mut [0]);
        }
        true
    }
}

impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ours.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn is_readable(notifier: &Notifier) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(notifier, PollFlags::IN)], Some(&now)).unwrap() == 1
    }

    #[test]
    fn it_is_readable_while_it_is_raised() {
        for (counting, times) in [(true, 3), (false, 1)] {
            let notifier = Notifier::new(counting).unwrap();
            assert!(!notifier.lower() && !is_readable(&notifier));
            (0..3).for_each(|_| notifier.raise());
            for _ in 0..times {
                assert!(is_readable(&notifier));
                assert!(notifier.lower());
            }
            assert!(!notifier.lower() && !is_readable(&notifier));
            notifier.raise();
            assert!(is_readable(&notifier));
        }
    }
}
