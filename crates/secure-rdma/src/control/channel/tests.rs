use core::pin::Pin;
use core::task::{Context, Poll};
use tokio::io::{DuplexStream, ReadBuf, duplex};
use tokio::time::{sleep, timeout};

use super::*;
use crate::control::{Access, DecodeError, ErrorKind, Fragments, MAX_RECORD, Redacted, Region, Text};
use crate::report::Report;

const SECOND: Duration = Duration::from_secs(1);

/// A channel, and the bare stream of its peer.
fn channel() -> (ControlChannel<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(64 * 1024);
    (ControlChannel::new(ours), theirs)
}

fn frame(record: &Record) -> Vec<u8> {
    let bytes = record.encode().unwrap();
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
}

fn long_record() -> Record {
    Record::Error { code: ErrorKind::Internal.into(), text: Text::lossy(&"x".repeat(512)) }
}

/// A record that no peer takes.
fn empty_region() -> Record {
    let (rkey, access) = (Redacted::new(0), Access::NONE);
    Record::Region(Region { addr: 0, rkey, len: 0, data_len: 0, counters: None, access })
}

#[tokio::test(start_paused = true)]
async fn records_arrive_in_order_and_the_end_is_clean() {
    let (a, b) = duplex(64);
    let (mut a, mut b) = (ControlChannel::new(a), ControlChannel::new(b));
    let sender = tokio::spawn(async move {
        for n in 0..100 {
            a.send(&Record::Ping { n }).await.unwrap();
            a.send(&long_record()).await.unwrap();
        }
        a.shutdown_within(SECOND).await.unwrap();
    });
    for n in 0..100 {
        assert_eq!(b.recv().await.unwrap(), Record::Ping { n });
        assert_eq!(b.recv().await.unwrap(), long_record());
    }
    assert!(matches!(b.recv().await, Err(ControlError::Closed)));
    sender.await.unwrap();
}

/// Like a socket that takes everything, and counts how often it is given something.
struct Counting {
    writes: usize,
    bytes: Vec<u8>,
}

impl AsyncRead for Counting {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.writes += 1;
        self.bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn records_that_are_sent_together_are_one_write_of_whole_frames_or_none() {
    let records = [Record::Ping { n: 1 }, long_record(), Record::Ready];
    let mut channel = ControlChannel::new(Counting { writes: 0, bytes: Vec::new() });
    channel.send_all_within(&records, SECOND).await.unwrap();
    let frames = records.each_ref().map(frame).concat();
    assert_eq!((channel.get_ref().writes, &channel.get_ref().bytes), (1, &frames));
    let result = channel.send_all_within(&[Record::Ready, empty_region()], SECOND).await;
    assert!(matches!(result, Err(ControlError::Encode(_))), "{result:?}");
    assert_eq!(channel.get_ref().bytes, frames, "nothing of a list with a wrong record");
    channel.send(&Record::Ready).await.unwrap();
    assert_eq!(channel.get_ref().bytes, [frames, frame(&Record::Ready)].concat());
}

#[tokio::test(start_paused = true)]
async fn both_halves_work_in_two_tasks() {
    let (a, b) = duplex(64);
    let (mut read, mut write) = ControlChannel::new(a).into_split();
    let mut b = ControlChannel::new(b);
    let echo = tokio::spawn(async move {
        while let Ok(record) = b.recv().await {
            b.send(&record).await.unwrap();
        }
    });
    let writer = tokio::spawn(async move {
        for n in 0..1000 {
            write.send_within(&Record::Ping { n }, SECOND).await.unwrap();
        }
        write.shutdown_within(SECOND).await.unwrap();
    });
    for n in 0..1000 {
        assert_eq!(read.recv_within(SECOND).await.unwrap(), Record::Ping { n });
    }
    assert!(matches!(read.recv_within(SECOND).await, Err(ControlError::Closed)));
    writer.await.unwrap();
    echo.await.unwrap();
}

#[tokio::test]
async fn every_cut_inside_a_frame_is_a_truncation_and_not_an_end() {
    let bytes = frame(&Record::Ping { n: 1 << 40 });
    for cut in 1..bytes.len() {
        let (mut channel, mut peer) = channel();
        peer.write_all(&bytes[..cut]).await.unwrap();
        drop(peer);
        for again in ["first", "second"] {
            match channel.recv().await {
                Err(ControlError::Truncated { have, missing }) if have == cut && missing > 0 => {}
                other => panic!("cut at {cut}, {again} time: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn an_announced_length_over_the_limit_is_refused_before_anything_behind_it_is_read() {
    for length in [u32::try_from(MAX_RECORD).unwrap() + 1, u32::MAX] {
        let (mut channel, mut peer) = channel();
        peer.write_all(&[&length.to_be_bytes()[..], b"rest"].concat()).await.unwrap();
        assert!(matches!(channel.recv().await, Err(ControlError::TooLong(announced)) if announced == length));
        assert_eq!(channel.inbound.buffer.len(), 4);
        let mut rest = [0; 4];
        channel.io.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"rest");
    }
}

#[tokio::test]
async fn after_a_length_over_the_limit_the_channel_stays_refused() {
    let (mut channel, mut peer) = channel();
    peer.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    peer.write_all(&frame(&Record::Ready)).await.unwrap();
    for _ in 0..3 {
        assert!(matches!(channel.recv().await, Err(ControlError::TooLong(_))));
    }
}

#[tokio::test]
async fn memory_grows_with_what_came_and_not_with_what_was_announced() {
    let (mut channel, mut peer) = channel();
    let before = channel.inbound.buffer.capacity();
    peer.write_all(&u32::try_from(MAX_RECORD).unwrap().to_be_bytes()).await.unwrap();
    peer.write_all(&[0; 100]).await.unwrap();
    assert!(timeout(SECOND / 100, channel.recv()).await.is_err());
    assert_eq!(channel.inbound.buffer.len(), 104);
    assert_eq!(channel.inbound.buffer.capacity(), before);

    // The rest comes: no record, and what it took is given back.
    peer.write_all(&vec![0; MAX_RECORD - 100]).await.unwrap();
    assert!(matches!(channel.recv().await, Err(ControlError::Decode(_))));
    assert_eq!(channel.inbound.buffer.capacity(), before);
}

#[tokio::test]
async fn no_record_is_moved_and_left_behind_in_memory_while_it_passes() {
    // The buffers are erased after each record, which helps only if no earlier, smaller buffer kept a part of it.
    let (mut channel, mut peer) = channel();
    let buffers =
        |channel: &ControlChannel<_>| (channel.inbound.buffer.as_ptr(), channel.outbound.frame.as_ptr());
    let before = buffers(&channel);
    peer.write_all(&frame(&long_record())).await.unwrap();
    channel.recv().await.unwrap();
    channel.send(&long_record()).await.unwrap();
    assert_eq!(buffers(&channel), before);
    assert!(channel.inbound.buffer.is_empty() && channel.outbound.frame.is_empty());
}

#[tokio::test]
async fn what_is_not_a_record_is_refused_by_its_reason() {
    for (bytes, reason) in [
        (&b"\0\0\0\x00"[..], "ends in the middle"),
        (b"\0\0\0\x03\x82\x0c\xa0", "record number 12"),
        (b"\0\0\0\x04\x82\x04\xa0\x00", "1 bytes follow"),
        (b"\0\0\0\x03\x82\x05\xa0", "missing"),
        (b"\0\0\0\x03\x82\x0b\xa0", "record number 11"),
        (
            b"\0\0\0\x0f\x82\x03\xa1\x00\xa5\x00\x00\x01\x00\x02\x00\x03\x00\x05\x00",
            "the region's length is 0",
        ),
    ] {
        let (mut channel, mut peer) = channel();
        peer.write_all(bytes).await.unwrap();
        match channel.recv().await {
            Err(error @ ControlError::Decode(_)) => {
                let text = Report::new(&error).to_string();
                assert!(text.contains(reason), "{text}");
            }
            other => panic!("{bytes:x?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_dropped_receive_loses_nothing_wherever_it_is_dropped() {
    let (mut channel, mut peer) = channel();
    let records = [Record::Ready, Record::Ping { n: 1 << 33 }, Record::Bye(Fragments::default())];
    let bytes = records.iter().flat_map(frame).collect::<Vec<_>>();
    let mut received = Vec::new();
    for byte in bytes {
        // Polls once with nothing there, is dropped, and polls once with one byte there.
        assert!(timeout(Duration::ZERO, channel.recv()).await.is_err());
        peer.write_all(&[byte]).await.unwrap();
        if let Ok(record) = timeout(Duration::ZERO, channel.recv()).await {
            received.push(record.unwrap());
        }
    }
    assert_eq!(received, records);
}

#[tokio::test]
async fn a_dropped_send_leaves_no_half_frame_behind() {
    // Room for 10 bytes: the long record stops in its middle.
    let (ours, theirs) = duplex(10);
    let mut channel = ControlChannel::new(ours);
    assert!(timeout(SECOND / 100, channel.send(&long_record())).await.is_err());
    // Dropped while it still waits for the first one to go out: not sent at all.
    assert!(timeout(SECOND / 100, channel.send(&Record::Bye(Fragments::default()))).await.is_err());

    let mut peer = ControlChannel::new(theirs);
    let sender = tokio::spawn(async move {
        channel.send(&Record::Ping { n: 3 }).await.unwrap();
        channel
    });
    assert_eq!(peer.recv().await.unwrap(), long_record());
    assert_eq!(peer.recv().await.unwrap(), Record::Ping { n: 3 });
    drop(sender.await.unwrap());
    assert!(matches!(peer.recv().await, Err(ControlError::Closed)));
}

#[tokio::test]
async fn a_record_that_the_peer_would_refuse_is_not_sent() {
    let (mut channel, peer) = channel();
    assert!(matches!(channel.send(&empty_region()).await, Err(ControlError::Encode(_))));
    channel.send(&Record::Ready).await.unwrap();
    assert_eq!(ControlChannel::new(peer).recv().await.unwrap(), Record::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_step_has_its_time_limit_and_the_channel_goes_on_after_it() {
    let (mut channel, mut peer) = channel();
    let start = Instant::now();
    assert!(matches!(channel.recv_within(3 * SECOND).await, Err(ControlError::TimedOut)));
    assert_eq!(start.elapsed().as_secs(), 3);
    peer.write_all(&frame(&Record::Ready)).await.unwrap();
    assert_eq!(channel.recv_within(SECOND).await.unwrap(), Record::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_stops_a_send_only_until_its_limit() {
    let (ours, _theirs) = duplex(10);
    let mut channel = ControlChannel::new(ours);
    let start = Instant::now();
    assert!(matches!(channel.send_within(&long_record(), 2 * SECOND).await, Err(ControlError::TimedOut)));
    assert!(matches!(channel.shutdown_within(SECOND).await, Err(ControlError::TimedOut)));
    assert_eq!(start.elapsed().as_secs(), 3);
}

/// A peer that sends a byte of a long record every `pause`, for ever.
fn trickle(mut peer: DuplexStream, pause: Duration) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        for byte in frame(&long_record()) {
            sleep(pause).await;
            if peer.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_trickles_bytes_cannot_extend_a_step() {
    let (mut channel, peer) = channel();
    let start = Instant::now();
    let trickling = trickle(peer, SECOND / 2);
    assert!(matches!(channel.recv_within(4 * SECOND).await, Err(ControlError::TimedOut)));
    assert_eq!(start.elapsed().as_secs(), 4);
    trickling.abort();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_trickles_bytes_cannot_extend_a_record_by_making_the_receiver_start_again() {
    let (ours, peer) = duplex(1024);
    let mut channel = ControlChannel::new(ours).with_record_limit(5 * SECOND);
    let start = Instant::now();
    let trickling = trickle(peer, SECOND / 2);
    // As in a loop around select!, where a timer wins again and again.
    let error = loop {
        match timeout(SECOND, channel.recv()).await {
            Err(_) => assert!(start.elapsed() < 7 * SECOND, "still waiting"),
            Ok(ended) => break ended.unwrap_err(),
        }
    };
    assert!(matches!(error, ControlError::Overdue(limit) if limit == 5 * SECOND), "{error}");
    // Half a second to the first byte, five from it.
    assert_eq!(start.elapsed().as_millis(), 5500);
    trickling.abort();
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_one_record_does_not_count_against_the_next() {
    let (ours, mut peer) = duplex(1024);
    let mut channel = ControlChannel::new(ours).with_record_limit(SECOND);
    for n in 0..5 {
        let bytes = frame(&Record::Ping { n });
        peer.write_all(&bytes[..3]).await.unwrap();
        assert!(timeout(SECOND * 9 / 10, channel.recv()).await.is_err());
        peer.write_all(&bytes[3..]).await.unwrap();
        assert_eq!(channel.recv().await.unwrap(), Record::Ping { n });
        // Idle time between records has no limit.
        assert!(timeout(60 * SECOND, channel.recv()).await.is_err());
    }
}

#[tokio::test]
async fn a_broken_connection_is_told_from_a_closed_one() {
    let broken = failing(std::io::ErrorKind::UnexpectedEof);
    assert!(matches!(ControlChannel::new(broken).recv().await, Err(ControlError::BrokenOff)));
    let reset = failing(std::io::ErrorKind::ConnectionReset);
    assert!(matches!(ControlChannel::new(reset).recv().await, Err(ControlError::Io(_))));
}

/// A stream whose reads fail with that error.
fn failing(kind: std::io::ErrorKind) -> impl AsyncRead + AsyncWrite + Unpin {
    struct Failing(std::io::ErrorKind);

    impl AsyncRead for Failing {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            Poll::Ready(Err(self.0.into()))
        }
    }

    tokio::io::join(Failing(kind), tokio::io::sink())
}

#[tokio::test]
async fn errors_say_what_was_found() {
    let unknown = ControlError::from(DecodeError::Unknown(12));
    let text = Report::new(&unknown).to_string();
    assert!(text.contains("record number 12"), "{text}");
    assert!(ControlError::TooLong(70_000).to_string().contains("70000 bytes, the most is 16384"));
}
