//! Which attributes each transition of each transport needs and takes, against the table of Linux's verbs.c.

use super::driven::Driven;
use super::memory::Ram;
use super::world::{Options, changes, protocol};
use rocev2::work::{
    AttributeMask as A, Attributes, ModifyError, PeerRights, QueuePairType as Type, State, rules,
};
use rocev2::{Psn, Qpn};
use std::collections::HashMap;

const TYPES: [Type; 5] = [Type::Rc, Type::Uc, Type::Ud, Type::XrcInitiator, Type::XrcTarget];
const STATES: [State; 7] = [
    State::Reset,
    State::Init,
    State::ReadyToReceive,
    State::ReadyToSend,
    State::SendQueueDrain,
    State::SendQueueError,
    State::Error,
];

/// Required and optional attributes, by transition: a column for each type, in the order of [`TYPES`].
fn table() -> HashMap<(State, State), [(u32, u32); 5]> {
    use State::{
        Init, ReadyToReceive as Rtr, ReadyToSend as Rts, SendQueueDrain as Sqd, SendQueueError as Sqe,
    };
    let bits = |numbers: &[u32]| numbers.iter().fold(0, |mask, number| mask | 1 << number);
    // The numbers are those of `enum ib_qp_attr_mask`.
    let row =
        |cells: [(&[u32], &[u32]); 5]| cells.map(|(required, optional)| (bits(required), bits(optional)));
    HashMap::from([
        (
            (State::Reset, Init),
            row([
                (&[3, 4, 5], &[]),
                (&[3, 4, 5], &[]),
                (&[4, 5, 6], &[]),
                (&[3, 4, 5], &[]),
                (&[3, 4, 5], &[]),
            ]),
        ),
        (
            (Init, Init),
            row([
                (&[], &[3, 4, 5]),
                (&[], &[3, 4, 5]),
                (&[], &[4, 5, 6]),
                (&[], &[3, 4, 5]),
                (&[], &[3, 4, 5]),
            ]),
        ),
        (
            (Init, Rtr),
            row([
                (&[7, 8, 20, 12, 17, 15], &[14, 3, 4]),
                (&[7, 8, 20, 12], &[14, 3, 4]),
                (&[], &[4, 6]),
                (&[7, 8, 20, 12], &[14, 3, 4]),
                (&[7, 8, 20, 12, 17, 15], &[14, 3, 4]),
            ]),
        ),
        (
            (Rtr, Rts),
            row([
                (&[9, 10, 11, 16, 13], &[1, 14, 3, 15, 18]),
                (&[16], &[1, 14, 3, 18]),
                (&[16], &[1, 6]),
                (&[9, 10, 11, 16, 13], &[1, 14, 3, 18]),
                (&[9, 16], &[1, 14, 3, 15, 18]),
            ]),
        ),
        (
            (Rts, Rts),
            row([
                (&[], &[1, 3, 14, 18, 15]),
                (&[], &[1, 3, 14, 18]),
                (&[], &[1, 6]),
                (&[], &[1, 3, 14, 18]),
                (&[], &[1, 3, 14, 18, 15]),
            ]),
        ),
        ((Rts, Sqd), row([(&[], &[2]), (&[], &[2]), (&[], &[2]), (&[], &[2]), (&[], &[2])])),
        (
            (Sqd, Rts),
            row([
                (&[], &[1, 14, 3, 15, 18]),
                (&[], &[1, 14, 3, 18]),
                (&[], &[1, 6]),
                (&[], &[1, 14, 3, 18]),
                (&[], &[1, 14, 3, 15, 18]),
            ]),
        ),
        (
            (Sqd, Sqd),
            row([
                (&[], &[5, 7, 9, 10, 11, 13, 17, 14, 3, 4, 15, 18]),
                (&[], &[7, 14, 3, 4, 18]),
                (&[], &[4, 6]),
                (&[], &[5, 7, 9, 10, 11, 13, 14, 3, 4, 18]),
                (&[], &[5, 7, 9, 17, 14, 3, 4, 15, 18]),
            ]),
        ),
        ((Sqe, Rts), row([(&[], &[]), (&[], &[1, 3]), (&[], &[1, 6]), (&[], &[]), (&[], &[])])),
    ])
}

#[test]
fn each_transition_takes_what_libibverbs_takes() {
    let table = table();
    for (column, of) in TYPES.into_iter().enumerate() {
        for from in STATES {
            for to in STATES {
                let expected = match (from, to) {
                    (_, State::Reset) => Some((0, 0)),
                    (State::Reset, State::Error) => None,
                    (_, State::Error) => Some((0, 0)),
                    // The kernel's table names no attributes for RC and XRC there, but the state is never reached.
                    (State::SendQueueError, State::ReadyToSend) if of.is_reliable() => Some((0, 1 << 1)),
                    _ => table.get(&(from, to)).map(|cells| cells[column]),
                };
                let found = rules(of, from, to).map(|rules| (rules.required.bits(), rules.optional.bits()));
                assert_eq!(found, expected, "{of:?}, {from} to {to}");
            }
        }
    }
}

fn in_state(of: Type, steps: usize) -> Driven<Ram> {
    let options = Options { of, ..Options::default() };
    let mut qp = Driven::with(protocol(&options, Qpn::truncate(77)), 4);
    for change in
        changes(&options, Qpn::truncate(78), Psn::truncate(1), Psn::truncate(2)).into_iter().take(steps)
    {
        qp.set(change).expect("the usual transitions");
    }
    qp
}

#[test]
fn a_change_lacks_nothing_and_takes_nothing_else_and_otherwise_changes_nothing() {
    for of in TYPES {
        let options = Options { of, ..Options::default() };
        let all = changes(&options, Qpn::truncate(78), Psn::truncate(1), Psn::truncate(2));
        for (step, change) in all.into_iter().enumerate() {
            let mut qp = in_state(of, step);
            let before = qp.snapshot();
            let bare = Attributes { state: change.state, ..Attributes::default() };
            let missing = change.mask() - A::STATE;
            let (from, to) = (before.state, change.state.expect("a transition"));
            if missing.is_empty() {
                // Datagrams need nothing to be received.
                assert_eq!((of, step), (Type::Ud, 1));
            } else {
                assert_eq!(qp.set(bare), Err(ModifyError::Missing { from, to, missing }), "{of:?}");
            }
            // Nowhere but on a connection and in SQD.
            let excess = if step == 0 { A::SQ_PSN } else { A::PORT };
            let mut more = change;
            if step == 0 {
                more.sq_psn = Some(Psn::truncate(5));
            } else {
                more.port = Some(1);
            }
            assert_eq!(qp.set(more), Err(ModifyError::NotAllowed { from, to, excess }), "{of:?}");
            assert_eq!(qp.snapshot(), before);
            assert_eq!(qp.set(change), Ok(()));
            assert_eq!(qp.snapshot().attributes, before.attributes.updated(&change));
        }
    }
}

#[test]
fn a_wrong_idea_of_the_current_state_refuses_the_change() {
    let mut qp = in_state(Type::Uc, 3);
    let change = Attributes { current_state: Some(State::SendQueueDrain), ..Attributes::default() };
    assert_eq!(qp.set(change), Err(ModifyError::CurrentState { from: State::ReadyToSend }));
    let change = Attributes { current_state: Some(State::ReadyToSend), ..Attributes::default() };
    assert_eq!(qp.set(change), Ok(()));
}

#[test]
fn rights_keys_and_timers_can_be_changed_while_it_works() {
    let mut qp = in_state(Type::Rc, 3);
    let rights = PeerRights { read: true, ..PeerRights::default() };
    let change = Attributes { rights: Some(rights), min_rnr_timer: Some(9), ..Attributes::default() };
    assert_eq!(qp.set(change), Ok(()));
    let snapshot = qp.snapshot();
    assert_eq!((snapshot.rights, snapshot.receive.map(|receive| receive.min_rnr_timer)), (rights, Some(9)));
    let mut qp = in_state(Type::Ud, 3);
    assert_eq!(qp.set(Attributes { qkey: Some(5), ..Attributes::default() }), Ok(()));
    assert_eq!(qp.snapshot().attributes.qkey, Some(5));
}

#[test]
fn missing_attributes_are_named() {
    let missing = A::PATH_MTU | A::RQ_PSN;
    let (from, to) = (State::Init, State::ReadyToReceive);
    let text = ModifyError::Missing { from, to, missing }.to_string();
    assert_eq!(text, "from INIT to RTR a queue pair needs PATH_MTU | RQ_PSN, too");
}
