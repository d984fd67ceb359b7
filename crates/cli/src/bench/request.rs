//! What the user asks for, checked: what can't be is wrong usage, before anything is done.

use super::queue_pairs;
use super::task::{Limit, Operation, Plan};
use crate::args::bench::{LONGEST, Measure, MeasureArgs, Sealed};
use crate::failure::Failure;
use rdma_verbs::{Attributes, Mtu};

/// Bytes of an atomic operation.
const WORD: u32 = 8;

/// Sizes of -a: powers of two, up to 8 MiB.
const ALL: core::ops::RangeInclusive<u32> = 1..=23;

/// perftest's defaults.
const BANDWIDTH_SIZE: u32 = 64 << 10;
const LATENCY_SIZE: u32 = 2;
const BANDWIDTH_MESSAGES: u64 = 5000;
const LATENCY_MESSAGES: u64 = 1000;
pub(super) const DEPTH: u32 = 128;

/// Bytes of messages under way at a time, unless the user says how many: what is sent and taken over and over stays in
/// a core's second-level cache, as with perftest, which has one buffer for all.
const UNDER_WAY: u32 = 1 << 20;

/// So many messages are under way all the same: while one is reported, there is something to do.
const FEWEST: u32 = 4;

/// The most requests under way at a time in a sealed session, which has a buffer for each.
pub(super) const MOST_SEALED: u32 = 1024;

/// What is to be measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) operation: Operation,
    pub(crate) latency: bool,
    pub(crate) sealed: bool,
    pub(crate) sizes: Vec<u32>,
    pub(crate) limit: Limit,
    pub(crate) queue_pairs: u32,
    /// Requests under way at a time, if the user says how many.
    depth: Option<u32>,
    pub(crate) mtu: Option<Mtu>,
    pub(crate) bidirectional: bool,
    pub(crate) inline: u32,
}

fn usage<T>(what: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Usage(what.into()))
}

impl Request {
    pub(crate) fn new(operation: Operation, args: &MeasureArgs) -> Result<Self, Failure> {
        let latency = args.measure == Measure::Lat;
        let atomic = operation == Operation::Atomic;
        let sealed = match args.seal {
            Some(Sealed::On) if atomic => {
                return usage(
                    "atomic operations can't be sealed, since it is the network card that adds: leave --seal on away",
                );
            }
            Some(seal) => seal == Sealed::On,
            None => !atomic,
        };
        let one_at_a_time = "a latency is measured with one request at a time";
        for (given, flag) in
            [(args.qp > 1, "-q"), (args.tx_depth.is_some(), "-t"), (args.bidirectional, "-b")]
        {
            if given && latency {
                return usage(format!("{one_at_a_time}: leave {flag} away, or measure bw"));
            }
        }
        if sealed && args.tx_depth.is_some_and(|depth| depth > MOST_SEALED) {
            return usage(format!(
                "a sealed session has {MOST_SEALED} requests under way at most: give a smaller -t"
            ));
        }
        for (given, flag) in
            [(args.bidirectional, "-b"), (args.mtu.is_some(), "-m"), (args.inline.is_some(), "-I")]
        {
            if given && sealed {
                return usage(format!(
                    "{flag} is for queue pairs in clear, and this is a sealed session: leave {flag} away, \
                     or add --seal off"
                ));
            }
        }
        if args.inline.is_some_and(|inline| inline > 0)
            && !matches!(operation, Operation::Send | Operation::Write)
        {
            return usage("-I is for send and write: only what is sent can be copied when it is posted");
        }
        if args.place.is_none() && (args.server_name.is_some() || args.trust.is_given()) {
            return usage(
                "without HOST this program starts the other side by itself, and knows whom to trust",
            );
        }
        let default = if latency { LATENCY_SIZE } else { BANDWIDTH_SIZE };
        let sizes = match args.size {
            Some(size) if atomic && size.0 != u64::from(WORD) => {
                return usage(format!("an atomic operation has {WORD} bytes: leave -s away"));
            }
            _ if atomic && args.all => {
                return usage(format!("an atomic operation has {WORD} bytes: leave -a away"));
            }
            _ if atomic => vec![WORD],
            Some(size) => match u32::try_from(size.0).ok().filter(|size| u64::from(*size) <= LONGEST) {
                Some(size) => vec![size],
                None => {
                    return usage(format!("a message has {} MiB at most: give a smaller -s", LONGEST >> 20));
                }
            },
            None if args.all => ALL.map(|power| 1 << power).collect(),
            None => vec![default],
        };
        let limit = match (args.duration, args.iters) {
            (Some(duration), _) => Limit::Time(duration),
            (None, Some(iters)) => Limit::Messages(iters),
            (None, None) if latency => Limit::Messages(LATENCY_MESSAGES),
            (None, None) => Limit::Messages(BANDWIDTH_MESSAGES),
        };
        Ok(Self {
            operation,
            latency,
            sealed,
            sizes,
            limit,
            queue_pairs: args.qp,
            depth: if latency { Some(1) } else { args.tx_depth },
            mtu: args.mtu,
            bidirectional: args.bidirectional,
            inline: args.inline.unwrap_or(0),
        })
    }

    /// Whether the device can do it.
    pub(crate) fn check_device(&self, device: &Attributes) -> Result<(), Failure> {
        if let Some(limit) = device.max_inline
            && self.inline as usize > limit
        {
            return usage(format!("-I {} is more than the device's {limit} bytes", self.inline));
        }
        if let Some(size) = self.sizes.iter().find(|size| **size > device.max_message) {
            return usage(format!("-s {size} is more than the device's {} bytes", device.max_message));
        }
        let most = self.depth.unwrap_or(DEPTH);
        if most as usize * 3 > device.max_qp_wr {
            return usage(format!("-t {most} is more than the device's queues hold"));
        }
        for size in &self.sizes {
            let plan = self.plan(*size, Mtu::B1024);
            if !self.sealed && plan.memory() > queue_pairs::MEMORY {
                return usage(format!(
                    "{} queue pairs with messages of {size} bytes take more than {} MiB: give a smaller -q or -s",
                    self.queue_pairs,
                    queue_pairs::MEMORY >> 20
                ));
            }
        }
        Ok(())
    }

    /// Requests of each session, or queue pair, that are under way at a time for messages of that size.
    pub(crate) fn depth(&self, size: u32) -> u32 {
        let wanted = self.depth.unwrap_or_else(|| (UNDER_WAY / size.max(1)).clamp(FEWEST, DEPTH));
        queue_pairs::depth(wanted, size, self.queue_pairs)
    }

    /// What queue pairs in clear are to do for messages of that size; `mtu` if the user has none in mind.
    pub(crate) fn plan(&self, size: u32, mtu: Mtu) -> Plan {
        Plan {
            operation: self.operation,
            latency: self.latency,
            bidirectional: self.bidirectional,
            size,
            queue_pairs: self.queue_pairs,
            // A buffer to send from while the last one's completion hasn't been seen yet.
            depth: if self.latency { 2 } else { self.depth(size) },
            inline: self.inline,
            mtu: self.mtu.unwrap_or(mtu).bytes(),
            limit: self.limit,
        }
    }
}

#[cfg(test)]
pub(super) use tests::request;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Command;
    use crate::args::SecureRdma;
    use crate::args::bench::BenchCommand;
    use clap::Parser;

    pub(in crate::bench) fn request(line: &str) -> Result<Request, Failure> {
        let words = ["secure-rdma", "bench"].into_iter().chain(line.split(' '));
        let Command::Bench(args) = SecureRdma::parse_from(words).command else { panic!("{line}") };
        match args.command {
            BenchCommand::Send(args) => Request::new(Operation::Send, &args),
            BenchCommand::Write(args) => Request::new(Operation::Write, &args),
            BenchCommand::Read(args) => Request::new(Operation::Read, &args),
            BenchCommand::Atomic(args) => Request::new(Operation::Atomic, &args),
            BenchCommand::Server(_) => panic!("{line}"),
        }
    }

    #[test]
    fn what_isnt_said_is_as_perftest_has_it_and_sealed_where_that_can_be() {
        let write = request("write bw").unwrap();
        assert_eq!((&write.sizes[..], write.limit), (&[65536][..], Limit::Messages(5000)));
        assert!(write.sealed && !write.latency);
        let read = request("read lat --seal off").unwrap();
        assert_eq!((&read.sizes[..], read.limit), (&[2][..], Limit::Messages(1000)));
        assert!(!read.sealed && read.latency);
        let atomic = request("atomic bw").unwrap();
        assert_eq!((&atomic.sizes[..], atomic.sealed, atomic.depth(8)), (&[8][..], false, 128));
        assert_eq!([1, 8 << 10, 16 << 10, 1 << 20].map(|size| write.depth(size)), [128, 128, 64, 4]);
        for (line, depth) in [
            ("write bw", 16),
            ("write bw -t 128", 128),
            ("send bw -t 8", 8),
            ("read bw -t 9", 9),
            ("write lat", 1),
            ("send bw -q 64", 8),
        ] {
            let request = request(line).unwrap();
            assert_eq!((request.sealed, request.depth(64 << 10)), (true, depth), "{line}");
        }
        let all = request("send bw -a").unwrap().sizes;
        assert_eq!((all.len(), all[0], all[22]), (23, 2, 8 << 20));
    }

    #[test]
    fn what_contradicts_itself_is_wrong_usage() {
        for (line, word) in [
            ("atomic bw --seal on", "sealed"),
            ("atomic bw -s 16", "8 bytes"),
            ("atomic lat -a", "8 bytes"),
            ("send bw -t 1025", "1024"),
            ("read bw -t 1025", "1024"),
            ("write bw -b", "--seal off"),
            ("write bw -m 1024", "--seal off"),
            ("write bw -I 64", "--seal off"),
            ("read bw -I 64 --seal off", "-I"),
            ("send lat -q 2 --seal off", "-q"),
            ("send lat -t 2 --seal off", "-t"),
            ("send lat -b --seal off", "-b"),
            ("write bw -s 257M", "256 MiB"),
            ("write bw --ca ca.pem", "HOST"),
        ] {
            match request(line) {
                Err(Failure::Usage(text)) => assert!(text.contains(word), "{line}: {text}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
