//! How work requests end.

use core::fmt;
use rocev2::work;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal,)*) => {
        /// How a work request ended: `enum ibv_wc_status`, whatever device said it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Status {
            $($(#[$doc])* $name,)*
            /// A number that this version doesn't know.
            Other(u32),
        }

        impl Status {
            /// The status with this number in `enum ibv_wc_status`.
            #[must_use]
            pub const fn from_number(number: u32) -> Self {
                match number {
                    $($number => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            /// Its number in `enum ibv_wc_status`.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Other(number) => number,
                }
            }

            /// Its name in the verbs world, without `IBV_WC_`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(_) => "UNKNOWN_ERR",
                }
            }
        }
    };
}

statuses! {
    /// Done.
    Success = 0 "SUCCESS",
    /// The message didn't fit its buffer.
    LocalLength = 1 "LOC_LEN_ERR",
    /// The queue pair can't do what was asked (a read where `max_rd_atomic` is 0).
    LocalQueuePairOperation = 2 "LOC_QP_OP_ERR",
    /// The end-to-end context couldn't do it (reliable datagrams; no device has them).
    LocalEeContextOperation = 3 "LOC_EEC_OP_ERR",
    /// A buffer's region is gone, belongs to another protection domain, or may not be written.
    LocalProtection = 4 "LOC_PROT_ERR",
    /// Never tried: the queue pair was in the error state.
    Flushed = 5 "WR_FLUSH_ERR",
    /// A memory window couldn't be bound.
    MemoryWindowBind = 6 "MW_BIND_ERR",
    /// The peer's answer made no sense.
    BadResponse = 7 "BAD_RESP_ERR",
    /// A buffer's region doesn't allow what the peer's message asked of it.
    LocalAccess = 8 "LOC_ACCESS_ERR",
    /// The peer says that the request was invalid.
    RemoteInvalidRequest = 9 "REM_INV_REQ_ERR",
    /// The peer says that the key doesn't allow it; of a receive request, that the peer's key didn't allow
    /// the write that took it.
    RemoteAccess = 10 "REM_ACCESS_ERR",
    /// The peer says that it couldn't carry it out.
    RemoteOperation = 11 "REM_OP_ERR",
    /// The peer didn't answer in time, as often as was tried.
    RetryExceeded = 12 "RETRY_EXC_ERR",
    /// The peer had no receive request, as often as was tried.
    RnrRetryExceeded = 13 "RNR_RETRY_EXC_ERR",
    /// Reliable datagrams only.
    LocalRddViolation = 14 "LOC_RDD_VIOL_ERR",
    /// Reliable datagrams only.
    RemoteInvalidRdRequest = 15 "REM_INV_RD_REQ_ERR",
    /// The peer aborted the operation.
    RemoteAborted = 16 "REM_ABORT_ERR",
    /// Reliable datagrams only.
    InvalidEeContextNumber = 17 "INV_EECN_ERR",
    /// Reliable datagrams only.
    InvalidEeContextState = 18 "INV_EEC_STATE_ERR",
    /// The device failed.
    Fatal = 19 "FATAL_ERR",
    /// An answer didn't come in time.
    ResponseTimeout = 20 "RESP_TIMEOUT_ERR",
    /// The device doesn't say what it was.
    General = 21 "GENERAL_ERR",
}

impl From<work::Status> for Status {
    fn from(status: work::Status) -> Self {
        // The embedded device counts as libibverbs does.
        Self::from_number(status as u32)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "an unknown status, {number}"),
            known => f.write_str(known.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_status_and_unknown_ones_keep_theirs() {
        for number in 0..40 {
            let status = Status::from_number(number);
            assert_eq!(status.number(), number);
            assert_eq!(matches!(status, Status::Other(_)), number > 21, "{number}");
        }
    }

    #[test]
    fn the_embedded_devices_statuses_keep_their_names() {
        for status in [
            work::Status::Success,
            work::Status::LocalLength,
            work::Status::LocalQueuePairOperation,
            work::Status::LocalProtection,
            work::Status::Flushed,
            work::Status::BadResponse,
            work::Status::RemoteInvalidRequest,
            work::Status::RemoteAccess,
            work::Status::RemoteOperation,
            work::Status::RetryExceeded,
            work::Status::RnrRetryExceeded,
        ] {
            assert_eq!(Status::from(status).name(), status.name());
        }
    }
}
