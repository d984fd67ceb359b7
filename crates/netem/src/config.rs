//! What a link does to packets.

/// How a link behaves. The default is a perfect one: no delay, no limit, nothing lost or changed.
///
/// Every probability is a number from 0 to 1; [`Link::new`](crate::Link::new) checks.
///
/// ```
/// use netem::{Corrupt, LinkConfig, Loss, Reorder};
///
/// // 10 Gb/s, 50 µs, a buffer of 200 kB, and a little of everything that can go wrong.
/// let config = LinkConfig {
///     latency_ns: 50_000,
///     jitter_ns: 5_000,
///     bandwidth_bits_per_s: Some(10_000_000_000),
///     queue_bytes: Some(200_000),
///     loss: Loss::Bernoulli(0.01),
///     reorder: Reorder { probability: 0.01, extra_delay_ns: 100_000 },
///     duplicate: 0.01,
///     corrupt: Corrupt { probability: 0.01, max_bits: 3 },
/// };
/// # let _link = netem::Link::<Vec<u8>>::new(config, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct LinkConfig {
    /// The time from the end of a packet's transmission to its arrival, in nanoseconds.
    pub latency_ns: u64,
    /// Added to the latency: uniform over `0..=jitter_ns` nanoseconds, drawn anew for each packet. A packet
    /// that would overtake its predecessor arrives together with it instead.
    pub jitter_ns: u64,
    /// How fast packets are put on the link, in bits a second; `None` takes no time at all. Only the packet's
    /// own bytes count: headers that aren't in them are free.
    pub bandwidth_bits_per_s: Option<u64>,
    /// How many bytes may be waiting or under transmission; a packet that doesn't fit is dropped (drop-tail),
    /// except that an idle link takes any packet. `None` is a queue without a limit. Nothing ever waits
    /// without a bandwidth.
    pub queue_bytes: Option<u64>,
    /// Which packets are lost.
    pub loss: Loss,
    /// Which packets are held back.
    pub reorder: Reorder,
    /// The probability that a packet is delivered twice.
    pub duplicate: f64,
    /// Which packets are damaged.
    pub corrupt: Corrupt,
}

/// Which packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each with this probability, independently of the others.
    Bernoulli(f64),
    /// In bursts: a Markov chain of two states, "good" and "bad", that takes one step before each packet and
    /// starts as good (E. N. Gilbert 1960, E. O. Elliott 1963).
    ///
    /// A fraction `good_to_bad / (good_to_bad + bad_to_good)` of the packets meets the bad state, and a stay
    /// in it lasts `1 / bad_to_good` packets on average.
    GilbertElliott {
        /// The probability of a step from good to bad.
        good_to_bad: f64,
        /// The probability of a step from bad to good.
        bad_to_good: f64,
        /// The probability that a packet is lost in the good state.
        loss_good: f64,
        /// The probability that a packet is lost in the bad state.
        loss_bad: f64,
    },
}

/// Which packets are held back, so that packets sent later overtake them.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Reorder {
    /// The probability that a packet is held back.
    pub probability: f64,
    /// For how long, in nanoseconds. Nothing is overtaken unless another packet follows within that time.
    pub extra_delay_ns: u64,
}

/// Which packets are damaged, and how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corrupt {
    /// The probability that a packet is damaged. An empty packet has nothing to damage.
    pub probability: f64,
    /// A damaged packet has between one and this many bits flipped, each number equally likely, each bit at most once.
    pub max_bits: u32,
}

impl Default for Corrupt {
    /// Nothing is damaged; one bit where only the probability is given.
    fn default() -> Self {
        Self { probability: 0.0, max_bits: 1 }
    }
}

impl LinkConfig {
    /// Panics where a field has no meaning: a configuration is the test author's, and a slip there must not go unseen.
    pub(crate) fn check(&self) {
        let probability = |name: &str, p: f64| {
            assert!((0.0..=1.0).contains(&p), "{name} = {p} is no probability: it must be from 0 to 1");
        };
        match self.loss {
            Loss::None => {}
            Loss::Bernoulli(p) => probability("loss", p),
            Loss::GilbertElliott { good_to_bad, bad_to_good, loss_good, loss_bad } => {
                probability("loss.good_to_bad", good_to_bad);
                probability("loss.bad_to_good", bad_to_good);
                probability("loss.loss_good", loss_good);
                probability("loss.loss_bad", loss_bad);
            }
        }
        probability("reorder.probability", self.reorder.probability);
        probability("duplicate", self.duplicate);
        probability("corrupt.probability", self.corrupt.probability);
        assert!(
            self.corrupt.max_bits > 0,
            "corrupt.max_bits is 0: a damaged packet has at least one bit flipped"
        );
        assert!(
            self.bandwidth_bits_per_s != Some(0),
            "bandwidth_bits_per_s is 0: use Loss::Bernoulli(1.0) for a dead link"
        );
    }
}
