//! Memory windows of both types: bound, used, withdrawn, violated.

use crate::common::{End, Setup, connect};
use rdma_verbs::{Access, CompletionKind, MemoryWindow, RemoteRange, SendRequest, State, Status, WindowType};
use std::sync::Arc;

/// What peers may do through the window; the region itself gives them nothing.
const WRITE: Access = Access::REMOTE_WRITE;

/// Bytes of the region that the window shows.
const SHOWN: std::ops::Range<u64> = 4096..4096 + 100;

/// Bytes of the region.
const REGION: usize = 16 << 10;

/// Where the region ends, as the window counts.
const SHOWN_TO_END: u64 = REGION as u64 - SHOWN.start;

/// Two ends, a region of the second one, and a window bound to a part of it.
struct Scene {
    /// Goes first: while a window of type 2 is bound, Soft-RoCE (Linux 6.1) waits for it for half a minute before it
    /// gives up the queue pair.
    window: Arc<MemoryWindow>,
    a: End,
    b: End,
    region: rdma_verbs::MemoryRegion,
}

impl Scene {
    fn new(kind: WindowType) -> Self {
        let (a, mut b) = connect(&Setup { receives: 1, ..Setup::default() });
        let domain = b.domain.clone();
        let window = domain.memory_window(kind).expect("a window");
        let region = domain.register(REGION, Access::LOCAL_WRITE | Access::MW_BIND).expect("memory");
        let range = region.window_range(SHOWN.start, SHOWN.end - SHOWN.start, WRITE).expect("inside");
        b.qp().post_send(SendRequest::bind_window(&window, &range)).expect("posted");
        assert_eq!(b.done().kind, CompletionKind::BindWindow);
        Self { a, b, region, window }
    }

    /// The window's bytes from `offset` on, inside or not.
    fn at(&self, offset: u64, len: u64) -> RemoteRange {
        let shown = self.region.window_range(SHOWN.start, SHOWN.end - SHOWN.start, WRITE).expect("inside");
        let mut remote = shown.remote(&self.window);
        remote.len = offset + len;
        remote.range(offset, len).expect("inside")
    }

    /// How a WRITE of `data` through the window ends.
    fn write(&mut self, offset: u64, data: &[u8]) -> Status {
        let target = self.at(offset, data.len() as u64);
        self.a.qp().post_send(SendRequest::write_inline(data, target)).expect("posted");
        self.a.next().status
    }

    fn memory(&self, at: u64) -> [u8; 8] {
        let mut bytes = [0; 8];
        self.region.read(at, &mut bytes).expect("inside");
        bytes
    }

    /// The key is worth nothing: a WRITE ends both queue pairs and changes nothing.
    fn refused(mut self, offset: u64) {
        let mut before = vec![0; REGION];
        self.region.read(0, &mut before).expect("inside");
        assert_eq!(self.write(offset, b"refused!"), Status::RemoteAccess);
        let mut after = vec![0; REGION];
        self.region.read(0, &mut after).expect("inside");
        assert!(after == before);
        assert_eq!(self.a.state(), State::Error);
    }
}

#[test]
fn a_window_lets_peers_into_its_part_of_the_region_and_no_further() {
    for kind in [WindowType::One, WindowType::Two] {
        let mut scene = Scene::new(kind);
        assert_eq!(scene.write(0, b"in there"), Status::Success, "{kind:?}");
        assert_eq!(&scene.memory(SHOWN.start), b"in there");
        assert_eq!(scene.write(92, b"last one"), Status::Success, "{kind:?}");
        // Soft-RoCE (Linux 6.1, rxe: check_rkey) looks at the region's bounds, not at the window's.
        if scene.b.place.is_embedded() {
            scene.refused(93);
        } else {
            scene.refused(SHOWN_TO_END);
        }
    }
}

#[test]
fn a_window_gives_no_right_that_it_was_not_bound_with() {
    for kind in [WindowType::One, WindowType::Two] {
        let mut scene = Scene::new(kind);
        let (target, into) = (scene.at(0, 8), scene.a.memory.slice(0, 8).unwrap());
        scene.a.qp().post_send(SendRequest::read([into], target)).unwrap();
        assert_eq!(scene.a.next().status, Status::RemoteAccess, "{kind:?}");
    }
}

#[test]
fn a_window_that_is_bound_anew_has_a_new_key_and_the_old_one_is_worth_nothing() {
    for kind in [WindowType::One, WindowType::Two] {
        let mut scene = Scene::new(kind);
        let old = scene.at(0, 8);
        let elsewhere = scene.region.window_range(0, 8, WRITE).unwrap();
        if kind == WindowType::Two {
            scene.b.qp().post_send(SendRequest::local_invalidate(scene.window.rkey())).unwrap();
            scene.b.done();
        }
        scene.b.qp().post_send(SendRequest::bind_window(&scene.window, &elsewhere)).unwrap();
        scene.b.done();
        let new = elsewhere.remote(&scene.window).range(0, 8).unwrap();
        assert_ne!(old, new);
        scene.a.qp().post_send(SendRequest::write_inline(b"new key!", new)).unwrap();
        assert_eq!(scene.a.next().status, Status::Success);
        assert_eq!(&scene.memory(0), b"new key!");
        scene.a.qp().post_send(SendRequest::write_inline(b"old key!", old)).unwrap();
        assert_eq!(scene.a.next().status, Status::RemoteAccess, "{kind:?}");
        assert_eq!(scene.memory(SHOWN.start), [0; 8]);
    }
}

#[test]
fn its_owner_withdraws_the_key_of_a_window_of_type_2() {
    let mut scene = Scene::new(WindowType::Two);
    assert_eq!(scene.write(0, b"in there"), Status::Success);
    scene.b.qp().post_send(SendRequest::local_invalidate(scene.window.rkey())).unwrap();
    assert_eq!(scene.b.done().kind, CompletionKind::LocalInvalidate);
    scene.refused(0);
}

#[test]
fn a_peers_send_withdraws_the_key_of_a_window_of_type_2() {
    let mut scene = Scene::new(WindowType::Two);
    let rkey = scene.window.rkey();
    scene.a.qp().post_send(SendRequest::send_inline(b"done").invalidate(rkey)).unwrap();
    scene.a.done();
    // Soft-RoCE (Linux 6.1) tells by the kernel's flag, which is another one in libibverbs.
    let told = scene.b.done().invalidated;
    assert!(told == Some(rkey) || told.is_none() && !scene.b.place.is_embedded());
    scene.refused(0);
}

/// What was bound stays registered, though its owner has dropped it.
#[test]
fn a_window_keeps_its_region() {
    let scene = Scene::new(WindowType::Two);
    let target = scene.at(0, 8);
    let Scene { mut a, b, region, window } = scene;
    drop(region);
    a.qp().post_send(SendRequest::write_inline(b"in there", target)).unwrap();
    assert_eq!(a.next().status, Status::Success);
    drop((window, b));
}
