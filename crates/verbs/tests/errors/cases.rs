//! The causes, and what each leads to.

use crate::common::Setup;
use crate::fate::{Fate, Kind, Outcome, Pair};
use crate::stage::{RECEIVE, REGION, Stage};
use crate::transports;
use rdma_verbs::{Access, AsyncEvent, ConnectOptions, PeerRights, SendRequest, State, Status};

/// One cause.
pub(crate) struct Case {
    pub(crate) cause: &'static str,
    setup: Setup,
    act: Act,
    outcome: Outcome,
    /// The first one that applies counts.
    pub(crate) differs: Vec<Differs>,
}

/// How it is caused.
enum Act {
    /// By two ends of a reliable connection.
    Reliable(Box<dyn Fn(&mut Stage)>),
    /// By others, which are told what is expected and say what is seen.
    Over(fn(&Outcome) -> Outcome),
}

/// How it ends where Soft-RoCE has this role.
pub(crate) struct Differs {
    role: Role,
    outcome: Outcome,
    pub(crate) because: &'static str,
}

#[derive(Clone, Copy)]
enum Role {
    Requester,
    Responder,
}

impl Case {
    /// Causes it, and says what is seen once everything is as expected, or can't become so any more.
    pub(crate) fn play(&self, expected: &Outcome) -> Outcome {
        match &self.act {
            Act::Reliable(act) => {
                let mut stage = Stage::new(&self.setup);
                act(&mut stage);
                stage.settle(expected)
            }
            Act::Over(play) => play(expected),
        }
    }

    /// What it leads to on a pair of devices.
    pub(crate) fn expected(&self, pair: Pair) -> Outcome {
        let applies = |differs: &&Differs| match differs.role {
            Role::Requester => pair.0 == Kind::Rxe,
            Role::Responder => pair.1 == Kind::Rxe,
        };
        let differs = self.differs.iter().find(applies);
        let mut outcome = differs.map_or(&self.outcome, |differs| &differs.outcome).clone();
        // Soft-RoCE tells of no such event.
        for (kind, fate) in [(pair.0, &mut outcome.requester), (pair.1, &mut outcome.responder)] {
            fate.event = fate.event.filter(|_| kind == Kind::Embedded);
        }
        outcome
    }

    fn with(mut self, change: impl FnOnce(&mut Setup)) -> Self {
        change(&mut self.setup);
        self
    }

    /// With another outcome where Soft-RoCE has this role.
    fn rxe(mut self, role: Role, because: &'static str, change: impl FnOnce(&mut Outcome)) -> Self {
        let mut outcome = self.outcome.clone();
        change(&mut outcome);
        self.differs.push(Differs { role, outcome, because });
        self
    }
}

/// A case whose outcome is made from what it differs in.
fn case(cause: &'static str, [requester, responder]: [Fate; 2], act: impl Fn(&mut Stage) + 'static) -> Case {
    let setup = Setup {
        memory: REGION,
        connect: ConnectOptions { timeout: 16, ..Setup::default().connect },
        ..Setup::default()
    };
    let (act, outcome) = (Act::Reliable(Box::new(act)), Outcome { requester, responder });
    Case { cause, setup, act, outcome, differs: Vec::new() }
}

/// The same on other transports.
fn over(cause: &'static str, [requester, responder]: [Fate; 2], play: fn(&Outcome) -> Outcome) -> Case {
    let (act, outcome) = (Act::Over(play), Outcome { requester, responder });
    Case { cause, setup: Setup::default(), act, outcome, differs: Vec::new() }
}

/// Each end has receives that wait, one at the requester and two at the responder; then the request goes.
fn with_receives(act: impl Fn(&mut Stage) + 'static) -> impl Fn(&mut Stage) + 'static {
    move |stage| {
        stage.a.receive(1);
        stage.b().receive(2);
        act(stage);
    }
}

/// Failed, its sends and its receives completed with these.
fn failed(sends: &[Status], receives: &[Status], event: Option<AsyncEvent>) -> Fate {
    let (sends, receives) = (sends.to_vec(), receives.to_vec());
    Fate { refuses: false, sends, receives, state: Some(State::Error), event }
}

/// Still working.
fn works(sends: &[Status], receives: &[Status]) -> Fate {
    let (sends, receives) = (sends.to_vec(), receives.to_vec());
    Fate { refuses: false, sends, receives, state: Some(State::ReadyToSend), event: None }
}

/// Refused for what its key allows.
fn access(cause: &'static str, act: impl Fn(&mut Stage) + 'static) -> Case {
    refused(cause, Status::RemoteAccess, AsyncEvent::AccessError, Status::Flushed, act)
}

/// Refused as a request that can't be made of this queue pair.
fn invalid(cause: &'static str, act: impl Fn(&mut Stage) + 'static) -> Case {
    refused(cause, Status::RemoteInvalidRequest, AsyncEvent::RequestError, Status::Flushed, act)
}

/// Refused; `receive` is what the responder's first receive completes with.
fn refused(
    cause: &'static str,
    status: Status,
    event: AsyncEvent,
    receive: Status,
    act: impl Fn(&mut Stage) + 'static,
) -> Case {
    let requester = failed(&[status], &[Status::Flushed], None);
    let responder = failed(&[], &[receive, Status::Flushed], Some(event));
    case(cause, [requester, responder], with_receives(act))
}

/// Every cause, in the order of the table.
pub(crate) fn cases() -> Vec<Case> {
    [keys(), ranges(), rights(), messages(), not_ready(), gone(), queues(), transports()]
        .into_iter()
        .flatten()
        .collect()
}

fn keys() -> Vec<Case> {
    vec![
        access("WRITE, unknown key", |stage| stage.a.write(stage.unknown())),
        access("WRITE of several packets, unknown key", |stage| {
            let there = stage.there;
            let rkey = there.rkey ^ 1;
            stage.a.write(rdma_verbs::RemoteRegion { rkey, ..there }.range(8192, 10_000).expect("inside"));
        }),
        access("READ, unknown key", |stage| stage.a.read(stage.unknown())),
        access("atomic, unknown key", |stage| stage.a.add(stage.unknown())),
        refused(
            "WRITE with immediate, unknown key",
            Status::RemoteAccess,
            AsyncEvent::AccessError,
            Status::RemoteAccess,
            |stage| {
                let request = stage.a.writing(stage.unknown()).immediate(1);
                stage.a.post(request);
            },
        ),
        case(
            "WRITE of nothing, unknown key",
            [works(&[Status::Success], &[]), works(&[], &[])],
            with_receives(|stage| {
                let remote = rdma_verbs::RemoteRegion { rkey: stage.there.rkey ^ 1, ..stage.there };
                stage.a.post(SendRequest::write([], remote.range(0, 0).expect("inside")));
            }),
        ),
        access("WRITE, key of another protection domain", |stage| {
            let remote = foreign(stage);
            stage.a.write(remote);
        }),
        access("READ, key of another protection domain", |stage| {
            let remote = foreign(stage);
            stage.a.read(remote);
        }),
        access("atomic, key of another protection domain", |stage| {
            let remote = foreign(stage);
            stage.a.add(remote);
        }),
        access("WRITE, key of a region that is deregistered", |stage| {
            let remote = foreign(stage);
            stage.others.clear();
            stage.a.write(remote);
        }),
    ]
}

/// Bytes of a region of the responder's device that belongs to another protection domain.
fn foreign(stage: &mut Stage) -> rdma_verbs::RemoteRange {
    let other = stage.b().end.device.protection_domain().expect("a protection domain");
    let region = other.register(REGION, Setup::default().access).expect("memory");
    region.write(0, &crate::common::pattern(REGION, 1)).expect("it fits");
    let remote = region.remote().range(16 << 10, 8).expect("inside");
    stage.others.push(region);
    remote
}

fn ranges() -> Vec<Case> {
    let end = i64::try_from(REGION).expect("small");
    vec![
        access("WRITE that begins before the region", |stage| stage.a.write(stage.at(-1, 8))),
        access("WRITE that ends behind the region", move |stage| stage.a.write(stage.at(end - 7, 8))),
        access("WRITE longer than the region", |stage| {
            // From here to the end there is one byte less than the request has.
            stage.a.write(stage.at(8193, REGION as u64 - 8192));
        }),
        access("WRITE around the end of all addresses", |stage| {
            let addr = u64::MAX - 3;
            stage.a.write(rdma_verbs::RemoteRegion { addr, ..stage.there }.range(0, 8).expect("inside"));
        }),
        access("READ that begins before the region", |stage| stage.a.read(stage.at(-1, 8))),
        access("READ that ends behind the region", move |stage| stage.a.read(stage.at(end - 7, 8))),
        access("READ around the end of all addresses", |stage| {
            let addr = u64::MAX - 3;
            stage.a.read(rdma_verbs::RemoteRegion { addr, ..stage.there }.range(0, 8).expect("inside"));
        }),
        access("atomic before the region", |stage| stage.a.add(stage.at(-8, 8))),
        access("atomic behind the region", move |stage| stage.a.add(stage.at(end, 8))),
    ]
}

fn rights() -> Vec<Case> {
    let all = Setup::default().rights;
    let without = |right: Access, case: Case| case.with(|setup| setup.access.remove(right));
    let deny = |rights: PeerRights, case: Case| case.with(|setup| setup.rights = rights);
    vec![
        without(
            Access::REMOTE_WRITE,
            access("WRITE, the region doesn't allow it", |stage| stage.a.write(stage.at(8192, 8))),
        ),
        without(
            Access::REMOTE_READ,
            access("READ, the region doesn't allow it", |stage| stage.a.read(stage.at(8192, 8))),
        ),
        without(
            Access::REMOTE_ATOMIC,
            access("atomic, the region doesn't allow it", |stage| stage.a.add(stage.at(8192, 8))),
        ),
        deny(
            PeerRights { write: false, ..all },
            invalid("WRITE, the queue pair doesn't allow it", |stage| stage.a.write(stage.at(8192, 8))),
        ),
        deny(
            PeerRights { read: false, ..all },
            invalid("READ, the queue pair doesn't allow it", |stage| stage.a.read(stage.at(8192, 8))),
        ),
        deny(
            PeerRights { atomic: false, ..all },
            invalid("atomic, the queue pair doesn't allow it", |stage| stage.a.add(stage.at(8192, 8))),
        ),
        invalid("atomic at an address that 8 doesn't divide", |stage| stage.a.add(stage.at(8196, 8))).rxe(
            Role::Requester,
            "Soft-RoCE looks at the address when the request is posted, and doesn't take it (`EINVAL`).",
            |outcome| {
                outcome.requester = Fate { refuses: true, ..works(&[], &[]) };
                outcome.responder = works(&[], &[]);
            },
        ),
    ]
}

fn messages() -> Vec<Case> {
    let too_long = |cause, len: u32| {
        let (status, event) = (Status::RemoteInvalidRequest, AsyncEvent::RequestError);
        refused(cause, status, event, Status::LocalLength, move |stage| {
            let slice = stage.a.end.memory.slice(8192, len).expect("free");
            stage.a.post(SendRequest::send([slice]));
        })
        .rxe(
            Role::Responder,
            "Soft-RoCE takes a message that doesn't fit for a malformed receive request: `LOC_QP_OP_ERR`, \
             and the sender is told of a remote operational error. IBA has `LOC_LEN_ERR` for it (11.6.2), \
             and an invalid request.",
            |outcome| {
                outcome.requester.sends = vec![Status::RemoteOperation];
                outcome.responder.receives = vec![Status::LocalQueuePairOperation, Status::Flushed];
            },
        )
    };
    vec![
        too_long("SEND longer than the receive", RECEIVE + 1),
        too_long("SEND of several packets, longer than the receive", 10_000),
        refused(
            "SEND with invalidate, unknown key",
            Status::RemoteAccess,
            AsyncEvent::AccessError,
            Status::LocalQueuePairOperation,
            |stage| {
                let key = stage.there.rkey ^ 1;
                stage.a.post(SendRequest::send_inline(b"x").invalidate(key));
            },
        )
        .rxe(
            Role::Responder,
            "Soft-RoCE acknowledges a message whose key it then can't withdraw, so the sender doesn't learn of it.",
            |outcome| {
                outcome.requester = works(&[Status::Success], &[]);
                outcome.responder.receives = vec![Status::RemoteInvalidRequest, Status::Flushed];
            },
        ),
    ]
}

fn not_ready() -> Vec<Case> {
    let exceeded = || failed(&[Status::RnrRetryExceeded], &[Status::Flushed], None);
    let unready = |cause, retries: u8, timer: u8| {
        case(cause, [exceeded(), works(&[], &[])], |stage| {
            stage.a.receive(1);
            stage.a.post(SendRequest::send_inline(b"x"));
        })
        .with(|setup| {
            setup.connect.rnr_retry = retries;
            setup.connect.min_rnr_timer = timer;
        })
    };
    let late = |cause, retries: u8, timer: u8, naks: u64| {
        let fates = [works(&[Status::Success], &[]), works(&[], &[Status::Success])];
        case(cause, fates, move |stage| {
            let before = stage.b().not_ready();
            stage.a.post(SendRequest::send_inline(b"x"));
            stage.b().wait_for_not_ready(before, naks);
            stage.b().receive(1);
        })
        .with(|setup| {
            setup.connect.rnr_retry = retries;
            setup.connect.min_rnr_timer = timer;
        })
    };
    vec![
        unready("SEND without a receive, `rnr_retry` 0", 0, 14),
        unready("SEND without a receive, `rnr_retry` 2", 2, 14),
        case(
            "WRITE with immediate without a receive, `rnr_retry` 0",
            [exceeded(), works(&[], &[])],
            |stage| {
                stage.a.receive(1);
                let request = stage.a.writing(stage.open()).immediate(1);
                stage.a.post(request);
            },
        )
        .with(|setup| setup.connect.rnr_retry = 0),
        // 0.66 s between them, the longest that there is: there is time to post a receive, also on a busy machine.
        late("SEND, the receive comes while `rnr_retry` 6 lasts", 6, 0, 2),
        late("SEND, the receive comes after 10 refusals, `rnr_retry` 7", 7, 14, 10),
    ]
}

fn gone() -> Vec<Case> {
    let exceeded = || failed(&[Status::RetryExceeded], &[Status::Flushed], None);
    let gone = |cause, responder, act: fn(&mut Stage)| {
        case(
            cause,
            [exceeded(), responder],
            with_receives(move |stage| {
                act(stage);
                stage.a.post(SendRequest::send_inline(b"x"));
            }),
        )
        .with(|setup| setup.connect = ConnectOptions { timeout: 10, retry_count: 2, ..setup.connect })
    };
    vec![
        gone("the peer's queue pair is destroyed", Fate::GONE, |stage| stage.b().end.qp = None),
        gone("the peer's device is closed", Fate::GONE, |stage| stage.b = None),
        gone(
            "the peer's queue pair was put into the error state",
            failed(&[], &[Status::Flushed, Status::Flushed], None),
            |stage| stage.b().end.qp().fail(),
        ),
    ]
}

fn queues() -> Vec<Case> {
    use Status::{Flushed, RemoteAccess, Success};
    let refused = |sends: &[Status], receives: &[Status]| {
        let responder = failed(&[], &[Flushed, Flushed], Some(AsyncEvent::AccessError));
        [failed(sends, receives, None), responder]
    };
    vec![
        case(
            "requests before and behind one that fails",
            refused(&[Success, RemoteAccess, Flushed, Flushed, Flushed, Flushed], &[Flushed]),
            with_receives(|stage| {
                stage.a.write(stage.open());
                stage.a.write(stage.unknown());
                stage.a.write(stage.at(8192, 8));
                stage.a.post(SendRequest::send_inline(b"x"));
                stage.a.read(stage.open());
                stage.a.add(stage.at(8192, 8));
            }),
        ),
        case(
            "unsignaled requests before, as and behind one that fails",
            refused(&[Success, RemoteAccess, Flushed], &[Flushed]),
            with_receives(|stage| {
                for remote in [stage.open(), stage.unknown(), stage.at(8192, 8)] {
                    let request = stage.a.writing(remote).unsignaled();
                    stage.a.post(request);
                }
            }),
        ),
        case(
            "send requests posted after one has failed, at both ends",
            {
                let [requester, responder] = refused(&[RemoteAccess, Flushed, Flushed], &[Flushed]);
                [requester, Fate { sends: vec![Flushed], ..responder }]
            },
            with_receives(|stage| {
                stage.a.write(stage.unknown());
                stage.a.wait_for_failure(1);
                stage.a.write(stage.at(8192, 8));
                let request = stage.a.writing(stage.open()).unsignaled();
                stage.a.post(request);
                stage.b().wait_for_failure(2);
                stage.b().post(SendRequest::send_inline(b"x"));
            }),
        ),
        case(
            "receive requests posted after one has failed, at the responder",
            {
                let [requester, responder] = refused(&[RemoteAccess], &[Flushed]);
                [requester, Fate { receives: vec![Flushed; 3], ..responder }]
            },
            with_receives(|stage| {
                stage.a.write(stage.unknown());
                stage.b().wait_for_failure(2);
                stage.b().receive(1);
            }),
        )
        .rxe(
            Role::Responder,
            "The kernel isn't told of a receive request: with Soft-RoCE one that is posted to a failed \
             queue pair completes only with the next cause that the kernel has to look at its queue.",
            |outcome| outcome.responder.receives = vec![Flushed; 2],
        ),
        case(
            "its own program puts the queue pair into the error state",
            [failed(&[], &[Flushed], None), works(&[], &[])],
            with_receives(|stage| stage.a.end.qp().fail()),
        ),
    ]
}

/// Unreliable connections, datagrams and shared receive queues.
fn transports() -> Vec<Case> {
    use Status::{Flushed, LocalQueuePairOperation, RnrRetryExceeded, Success};
    const FAILS: &str = "Soft-RoCE takes a message that doesn't fit for a malformed receive request here, too, and \
                         the responder's queue pair fails. The embedded device drops the message.";
    // Nobody tells the requester of what was dropped; the message behind it arrives.
    let dropped = || [works(&[Success, Success], &[]), works(&[], &[Success])];
    vec![
        over("UC: SEND without a receive, and one with", dropped(), transports::unready),
        over("UC: SEND longer than the receive, and one that fits", dropped(), transports::too_long).rxe(
            Role::Responder,
            FAILS,
            |outcome| outcome.responder = failed(&[], &[LocalQueuePairOperation, Flushed], None),
        ),
        over("UC: WRITE, unknown key, and a SEND", dropped(), transports::unknown_key),
        over("UD: another Q_Key, and the right one", dropped(), transports::wrong_key),
        over("UD: SEND longer than the receive, and one that fits", dropped(), transports::long_datagram)
            .rxe(
                Role::Responder,
                FAILS,
                // The second receive request comes too late to be flushed.
                |outcome| outcome.responder = failed(&[], &[LocalQueuePairOperation], None),
            ),
        over("UD: SEND without a receive, and one with", dropped(), transports::unready_for_datagram),
        over(
            "SEND, the shared receive queue is empty, `rnr_retry` 0",
            [failed(&[RnrRetryExceeded], &[], None), works(&[], &[])],
            transports::empty_queue,
        ),
        over(
            "SEND, the receive comes late to the shared receive queue, `rnr_retry` 7",
            [works(&[Success], &[]), works(&[], &[Success])],
            transports::late_queue,
        ),
    ]
}
