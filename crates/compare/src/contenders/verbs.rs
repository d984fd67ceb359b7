//! Verbs over a device, the embedded one or one of libibverbs': in clear, by the `verbs` crate alone.

mod end;

use crate::clock::{Clock, Meter, Stopwatch};
use crate::contender::Contender;
use crate::ends::{self, Meeting, Place};
use crate::failure::{Failure, While};
use crate::figure::{Figure, LARGE, LOSSY, MANY, Op, SMALL, TINY};
use crate::runtime;
use crate::sample::Sample;
use end::{Connected, Need, Prepared, Told};
use rdma_verbs::{Completion, DeviceSelector, SendRequest, Slice, Status};
use std::time::{Duration, Instant};

/// Bytes that are under way at a time where bandwidth is measured, unless messages are long: they, and the
/// packets made of them, stay in a core's second-level cache.
const UNDER_WAY: usize = 1 << 19;

/// Messages that are under way at a time, at least, and at most.
const DEPTH: [usize; 2] = [4, 16];

/// The same of each queue pair where messages are short.
const RATE_DEPTH: usize = 64;

/// Where only the receiver's program counts, every so many messages are reported to the sender.
const SIGNAL: usize = 16;

/// How long one looks for completions before one looks at the clock.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) struct Verbs {
    name: String,
    device: DeviceSelector,
}

impl Verbs {
    pub(crate) fn new(name: &str, device: &DeviceSelector) -> Self {
        Self { name: name.to_owned(), device: device.clone() }
    }

    fn prepare(&self, meeting: &Meeting<Told>, need: Need) -> Result<Prepared, Failure> {
        Prepared::new(&self.device, meeting.host(), need)
    }

    /// WRITEs or READs: the server's program sleeps meanwhile, and the client's completions say what has arrived.
    fn one_sided(&self, figure: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        let Figure { op, size } = figure;
        let depth = depth(size);
        let server = |meeting: Meeting<Told>| {
            let prepared = self.prepare(&meeting, Need { region: size, ..Need::default() })?;
            let connected = prepared.meet(&meeting)?;
            while !clock.over() {
                std::thread::sleep(LOOK);
            }
            // Not before the client has finished.
            let _ = meeting.hear();
            connected.check_alive()
        };
        let client = |meeting: Meeting<Told>| {
            let prepared =
                self.prepare(&meeting, Need { sends: depth, send_size: size, ..Need::default() })?;
            let mut end = prepared.meet(&meeting)?;
            let range = end.remote()?.range(0, size as u64)?;
            let mut meter = Meter::new(clock, size);
            let mut done = Vec::with_capacity(depth);
            clock.start();
            loop {
                end.queue_pairs[0].post_send_list(end.free.drain(..).map(|slice| match op {
                    Op::Read => SendRequest::read([slice], range),
                    _ => SendRequest::write([slice], range),
                }))?;
                let count = end.look(&mut done)?;
                end.free.extend(done.drain(..).filter_map(|mut completion| completion.slice()));
                if count > 0 && !meter.arrived(count * size) || clock.over() {
                    return meter.sample();
                }
            }
        };
        Ok(ends::run(place, server, client)?.1)
    }

    /// SENDs: the server takes each, and counts.
    fn send(&self, size: usize, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        let depth = depth(size);
        let server = |meeting: Meeting<Told>| {
            let need = Need { receives: 2 * depth, receive_size: size, ..Need::default() };
            self.receive(need, &meeting, clock, size)
        };
        let client = |meeting: Meeting<Told>| {
            let prepared =
                self.prepare(&meeting, Need { sends: depth, send_size: size, ..Need::default() })?;
            let mut end = prepared.meet(&meeting)?;
            let mut done = Vec::with_capacity(depth);
            clock.start();
            while !clock.over() {
                let requests = end.free.drain(..).map(|slice| SendRequest::send([slice]));
                end.queue_pairs[0].post_send_list(requests)?;
                end.look_until(&mut done, clock)?;
                end.free.extend(done.drain(..).filter_map(|mut completion| completion.slice()));
            }
            Ok(())
        };
        Ok(ends::run(place, server, client)?.0)
    }

    /// Takes messages, with a receive request posted again for each.
    fn receive(
        &self,
        need: Need,
        meeting: &Meeting<Told>,
        clock: &Clock,
        size: usize,
    ) -> Result<Sample, Failure> {
        let mut end = self.prepare(meeting, need)?.meet(meeting)?;
        let mut meter = Meter::new(clock, size);
        let mut done = Vec::with_capacity(need.receives);
        loop {
            end.look_until(&mut done, clock)?;
            let count = done.len();
            for completion in done.drain(..) {
                end.post_again(completion)?;
            }
            if count > 0 && !meter.arrived(count * size) || clock.over() {
                return meter.sample();
            }
        }
    }

    /// Short SENDs, copied when they are posted, over several queue pairs with one completion queue at each end.
    fn rate(
        &self,
        size: usize,
        queue_pairs: usize,
        clock: &Clock,
        place: Place<'_>,
    ) -> Result<Sample, Failure> {
        let server = |meeting: Meeting<Told>| {
            let need = Need { queue_pairs, receives: 4 * RATE_DEPTH, receive_size: size, ..Need::default() };
            self.receive(need, &meeting, clock, size)
        };
        let client = |meeting: Meeting<Told>| {
            let need = Need { queue_pairs, sends: RATE_DEPTH, inline: size, ..Need::default() };
            let mut end = self.prepare(&meeting, need)?.meet(&meeting)?;
            let message = vec![0x5a; size];
            let mut done = Vec::with_capacity(RATE_DEPTH);
            let mut room = vec![RATE_DEPTH; queue_pairs];
            clock.start();
            while !clock.over() {
                for (at, (queue_pair, room)) in end.queue_pairs.iter_mut().zip(&mut room).enumerate() {
                    let count = *room / SIGNAL * SIGNAL;
                    queue_pair.post_send_list((1..=count).map(|number| {
                        let request = SendRequest::send_inline(&message).id(at as u64);
                        if number.is_multiple_of(SIGNAL) { request } else { request.unsignaled() }
                    }))?;
                    *room -= count;
                }
                end.look_until(&mut done, clock)?;
                for completion in done.drain(..) {
                    let at = usize::try_from(completion.id)?;
                    *room.get_mut(at).ok_or("a completion of no request")? += SIGNAL;
                }
            }
            Ok(())
        };
        Ok(ends::run(place, server, client)?.0)
    }

    /// SENDs there and back.
    fn round_trip(&self, figure: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        let Figure { op, size } = figure;
        let waits = op == Op::RoundTripAwait;
        let need = Need {
            sends: 2 * SIGNAL,
            send_size: size,
            receives: 4,
            receive_size: size,
            waits,
            ..Need::default()
        };
        let server = |meeting: Meeting<Told>| {
            let mut end = self.prepare(&meeting, need)?.meet(&meeting)?;
            let echo = |end: &mut Connected, completion| {
                end.post_again(completion)?;
                end.send_one()
            };
            if waits {
                return runtime::block_on(async {
                    let channel = end.channel()?;
                    while let Some(completion) = end.await_message(&channel, clock).await? {
                        echo(&mut end, completion)?;
                    }
                    Ok(())
                });
            }
            while let Some(completion) = end.await_message_looking(clock)? {
                echo(&mut end, completion)?;
            }
            Ok(())
        };
        let client = |meeting: Meeting<Told>| {
            let mut end = self.prepare(&meeting, need)?.meet(&meeting)?;
            let mut watch = Stopwatch::new(clock);
            if waits {
                return runtime::block_on(async {
                    let channel = end.channel()?;
                    clock.start();
                    loop {
                        let begun = Instant::now();
                        end.send_one()?;
                        let back = end.await_message(&channel, clock).await?;
                        if back.is_none() || !watch.back(begun) {
                            return watch.sample();
                        }
                        back.map_or(Ok(()), |completion| end.post_again(completion))?;
                    }
                });
            }
            clock.start();
            loop {
                let begun = Instant::now();
                end.send_one()?;
                let back = end.await_message_looking(clock)?;
                if back.is_none() || !watch.back(begun) {
                    return watch.sample();
                }
                back.map_or(Ok(()), |completion| end.post_again(completion))?;
            }
        };
        Ok(ends::run(place, server, client)?.1)
    }
}

/// What a device does over a network that loses packets. One that the system has is where the system is, not
/// in a network that this program makes.
pub(super) fn lossy(device: &DeviceSelector) -> impl Iterator<Item = Figure> + use<> {
    let can = matches!(device, DeviceSelector::Embedded { .. });
    Op::LOSSY.into_iter().filter(move |_| can).map(|op| Figure::new(op, LOSSY))
}

/// Messages of that size that are under way at a time.
fn depth(size: usize) -> usize {
    (UNDER_WAY / size).clamp(DEPTH[0], DEPTH[1])
}

/// Whether a request ended well.
fn check(completion: &Completion) -> Result<(), Failure> {
    match completion.status {
        Status::Success => Ok(()),
        status => Err(format!("a request ended with {status:?}")).during("the queue pair"),
    }
}

/// Bytes to send, so that no page of them is the kernel's page of zeros.
fn fill(mut slice: Slice) -> Result<Slice, Failure> {
    let bytes = vec![0x5a; slice.capacity() as usize];
    slice.fill(&bytes)?;
    Ok(slice)
}

impl Contender for Verbs {
    fn name(&self) -> &str {
        &self.name
    }

    fn figures(&self) -> Vec<Figure> {
        let bandwidth = [Op::Write, Op::Read, Op::Send].map(|op| Figure::each(op, &LARGE));
        let round_trips = [Op::RoundTrip, Op::RoundTripAwait].map(|op| Figure::each(op, &SMALL));
        let rates = [1, MANY].map(|queue_pairs| Figure::new(Op::Rate { queue_pairs }, TINY));
        let large = bandwidth.into_iter().flatten().chain(lossy(&self.device));
        large.chain(round_trips.into_iter().flatten()).chain(rates).collect()
    }

    fn run(&self, figure: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        match figure.op {
            Op::Send => self.send(figure.size, clock, place),
            Op::RoundTrip | Op::RoundTripAwait => self.round_trip(figure, clock, place),
            Op::Rate { queue_pairs } => self.rate(figure.size, queue_pairs, clock, place),
            _ => self.one_sided(figure, clock, place),
        }
    }
}
