//! Memory windows between two devices: bound, used, invalidated by either side, violated.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use common::End;
use rocev2::work::{CompletionKind, RemoteAddress, SendOperation, Status};
use rocev2_device::memory::{Access, WindowRange, WindowType};
use rocev2_device::{Buffers, MemoryRegion, MemoryWindow};
use smallvec::SmallVec;
use std::sync::Arc;

const LEN: usize = 4096;

/// `ends[1]` has a region that gives its peer nothing by itself, and a window.
struct Stage {
    ends: [End; 2],
    region: MemoryRegion,
    window: MemoryWindow,
}

impl Stage {
    fn new(kind: WindowType) -> Self {
        let ends = End::pair();
        let region = ends[1].domain.register(LEN, Access::LOCAL_WRITE | Access::MW_BIND).unwrap();
        let window = ends[1].domain.window(kind).unwrap();
        Self { ends, region, window }
    }

    /// Binds the window to `len` bytes from `offset`, for WRITEs: the new key, and how the request completed.
    fn bind(&self, offset: u64, len: u64) -> (u32, Status) {
        let region = Arc::clone(self.region.region());
        let va = region.addr().wrapping_add(offset);
        let range = WindowRange { region, va, len, access: Access::REMOTE_WRITE };
        let bind = self.window.bind(None, Some(range)).unwrap();
        let rkey = bind.rkey();
        self.ends[1].send(SendOperation::BindWindow, Buffers::Bind(Box::new(bind)));
        let done = self.ends[1].wait().completion;
        assert_eq!(done.kind, CompletionKind::BindWindow);
        (rkey, done.status)
    }

    fn bound(&self) -> u32 {
        let (rkey, status) = self.bind(1000, 16);
        assert_eq!(status, Status::Success);
        rkey
    }

    fn at(&self, offset: u64, rkey: u32) -> RemoteAddress {
        RemoteAddress { va: self.region.region().addr() + offset, rkey }
    }

    /// How a WRITE of the peer's completes.
    fn write(&self, rkey: u32, offset: u64, bytes: &[u8]) -> Status {
        write(&self.ends[0], self.at(offset, rkey), bytes)
    }

    fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; LEN];
        self.region.mapping().read(0, &mut bytes).unwrap();
        bytes
    }
}

fn write(end: &End, at: RemoteAddress, bytes: &[u8]) -> Status {
    end.send(SendOperation::Write(at), Buffers::Inline(SmallVec::from_slice(bytes)));
    end.next()
}

const BOTH: [WindowType; 2] = [WindowType::One, WindowType::Two];

#[test]
fn a_peer_writes_inside_a_window_and_nothing_beside_it() {
    for kind in BOTH {
        let stage = Stage::new(kind);
        let rkey = stage.bound();
        assert_eq!(stage.write(rkey, 1000, &[7; 16]), Status::Success);
        assert_eq!(stage.write(rkey, 1015, &[8; 2]), Status::RemoteAccess, "{kind:?}");
        let bytes = stage.contents();
        assert_eq!((bytes[999], &bytes[1000..1016], bytes[1016]), (0, &[7; 16][..], 0));
    }
}

#[test]
fn a_window_gives_the_rights_of_its_bind_alone_and_the_regions_own_key_still_nothing() {
    for kind in BOTH {
        let stage = Stage::new(kind);
        let rkey = stage.bound();
        let own = stage.ends[0].domain.register(16, Access::LOCAL_WRITE).unwrap();
        let into = stage.ends[0].list(own.region().lkey(), own.region().addr(), 16);
        stage.ends[0].send(SendOperation::Read(stage.at(1000, rkey)), into);
        assert_eq!(stage.ends[0].next(), Status::RemoteAccess, "{kind:?}");

        let stage = Stage::new(kind);
        stage.bound();
        let regions_own = stage.region.region().rkey();
        assert_eq!(stage.write(regions_own, 1000, &[7]), Status::RemoteAccess);
        assert_eq!(stage.contents(), [0; LEN]);
    }
}

#[test]
fn its_owner_takes_a_window_back() {
    let stage = Stage::new(WindowType::Two);
    let rkey = stage.bound();
    stage.ends[1].send(SendOperation::LocalInvalidate(rkey), Buffers::empty());
    let done = stage.ends[1].wait().completion;
    assert_eq!((done.kind, done.status), (CompletionKind::LocalInvalidate, Status::Success));
    assert_eq!(stage.write(rkey, 1000, &[7]), Status::RemoteAccess);

    // One of type 1 by binding it to nothing.
    let stage = Stage::new(WindowType::One);
    let rkey = stage.bound();
    assert_eq!(stage.bind(1000, 0).1, Status::Success);
    assert_eq!(stage.write(rkey, 1000, &[7]), Status::RemoteAccess);
    assert_eq!(stage.contents(), [0; LEN]);
}

#[test]
fn a_peer_takes_a_window_back_with_a_message_and_the_window_can_be_bound_again() {
    let stage = Stage::new(WindowType::Two);
    let rkey = stage.bound();
    assert_eq!(stage.write(rkey, 1000, &[7]), Status::Success);
    stage.ends[1].receive(Buffers::empty());
    stage.ends[0].send(SendOperation::SendInvalidate(rkey), Buffers::empty());
    assert_eq!(stage.ends[0].next(), Status::Success);
    let done = stage.ends[1].wait().completion;
    assert_eq!((done.status, done.invalidated), (Status::Success, Some(rkey)));
    assert!(!stage.window.window().is_bound());

    let again = stage.bound();
    assert_eq!(again, rkey & !0xff | (rkey + 1) & 0xff);
    assert_eq!(stage.write(again, 1001, &[8]), Status::Success);
    assert_eq!(stage.write(rkey, 1002, &[9]), Status::RemoteAccess, "the old key stays what it is: unknown");
    assert_eq!(stage.contents()[1000..1003], [7, 8, 0]);
}

#[test]
fn a_type_2_window_is_for_the_connection_that_bound_it() {
    for kind in BOTH {
        let stage = Stage::new(kind);
        let rkey = stage.bound();
        // Another connection of the same protection domains.
        let another = |end: &End| End::on(&end.device, end.gid_index, &end.domain);
        let [other, _its_peer] = End::connected([another(&stage.ends[0]), another(&stage.ends[1])]);
        let expected = if kind == WindowType::One { Status::Success } else { Status::RemoteAccess };
        assert_eq!(write(&other, stage.at(1000, rkey), &[7]), expected, "{kind:?}");
        assert_eq!(stage.write(rkey, 1001, &[8]), Status::Success);
    }
}

#[test]
fn a_bind_that_isnt_allowed_is_an_error_of_the_request() {
    for kind in BOTH {
        let stage = Stage::new(kind);
        assert_eq!(stage.bind(LEN as u64, 1).1, Status::WindowBind, "{kind:?}");
        assert!(!stage.window.window().is_bound());
        // The queue pair is in error now.
        stage.ends[1].send(SendOperation::LocalInvalidate(1), Buffers::empty());
        assert_eq!(stage.ends[1].next(), Status::Flushed);
    }
    let stage = Stage::new(WindowType::Two);
    let rkey = stage.bound();
    stage.ends[1].send(SendOperation::LocalInvalidate(rkey ^ 1), Buffers::empty());
    assert_eq!(stage.ends[1].next(), Status::LocalQueuePairOperation);
}

#[test]
fn a_window_that_is_deallocated_and_one_whose_region_is_gone_give_nothing() {
    for kind in BOTH {
        let mut stage = Stage::new(kind);
        let rkey = stage.bound();
        stage.window = stage.ends[1].domain.window(kind).unwrap();
        assert_eq!(stage.write(rkey, 1000, &[7]), Status::RemoteAccess, "{kind:?}");

        let mut stage = Stage::new(kind);
        let rkey = stage.bound();
        let at = stage.at(1000, rkey);
        stage.region = stage.ends[1].domain.register(LEN, Access::LOCAL_WRITE | Access::MW_BIND).unwrap();
        assert_eq!(write(&stage.ends[0], at, &[7]), Status::RemoteAccess, "{kind:?}");
    }
}
