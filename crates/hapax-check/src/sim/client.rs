//! Clients: what they ask for, how they take what they hear, when they try again.

use std::time::Duration;

use hapax_core::{Key, Name, Operation, Refusal, Scope};

use super::door::{Heard, Request};
use super::plan::{Plan, WAIT};
use crate::dice::Dice;

/// Tries of one client, the first included.
const TRIES: u32 = 4;

/// One client's wish, through all its tries.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) operation: usize,
    pub(super) payload: u8,
    pub(super) tries_left: u32,
    /// Left to the runners.
    pub(super) later: bool,
    /// Asked after the faults ended: it must be answered for good.
    pub(super) probe: bool,
}

impl Wish {
    pub(super) fn draw(dice: &mut Dice, plan: &Plan, operation: usize) -> Self {
        // Nobody runs poison in hand, lest clients kill nodes as often as they like.
        let poison = plan.is_poison(operation);
        Self {
            operation,
            payload: u8::from(!poison && dice.chance(plan.altered)),
            tries_left: TRIES,
            later: dice.chance(plan.later) || poison,
            probe: false,
        }
    }

    pub(super) fn probe(operation: usize) -> Self {
        Self {
            operation,
            payload: 0,
            tries_left: 3,
            later: false,
            probe: true,
        }
    }
}

/// The names of operations: how they are run goes by the name.
pub(super) fn names() -> [Name; 2] {
    match (Name::new("pay"), Name::new("send")) {
        (Ok(pay), Ok(send)) => [pay, send],
        names => unreachable!("short printable words are words: {names:?}"),
    }
}

/// Which of the names an operation has.
pub(super) fn kind(number: usize) -> usize {
    number / 2 % 2
}

/// An operation by its number: two scopes use the same keys.
pub(super) fn operation(number: usize) -> Operation {
    let scope = if number.is_multiple_of(2) { "a" } else { "b" };
    match (Scope::new(scope), Key::new(format!("k{}", number / 2))) {
        (Ok(scope), Ok(key)) => Operation::new(scope, names()[kind(number)].clone(), key),
        words => unreachable!("short printable words are words: {words:?}"),
    }
}

/// How answers call an operation.
pub(super) fn name(number: usize) -> String {
    let operation = operation(number);
    format!("{}/{}", operation.scope(), operation.key())
}

pub(super) fn request(dice: &mut Dice, plan: &Plan, number: usize, wish: &Wish) -> Request {
    let impatient = !wish.probe && dice.chance(plan.impatient);
    let options = plan.run_options(plan.mode(wish.operation));
    Request {
        number,
        operation: wish.operation,
        named: operation(wish.operation),
        payload: wish.payload,
        options,
        later: wish.later,
        wait: if !wish.probe && dice.chance(250) {
            Duration::ZERO
        } else {
            WAIT
        },
        patience: if impatient {
            dice.millis(1, 2_000)
        } else {
            Duration::from_secs(20)
        },
        panics: dice.chance(plan.panics),
        thinks: if dice.chance(300) {
            dice.millis(1, 1_500)
        } else {
            Duration::ZERO
        },
    }
}

/// Whether a client has what it wants, or knows that it will not get it.
pub(super) fn is_final(heard: &Heard) -> bool {
    match heard {
        Heard::Answer(_) | Heard::Rejected => true,
        Heard::Refused(refusal) => !matches!(
            refusal,
            Refusal::InProgress { .. } | Refusal::Later { .. } | Refusal::AttemptOver
        ),
        // Who was accepted comes back to ask.
        Heard::Accepted | Heard::Ambiguous | Heard::UpstreamDown | Heard::StoreDown | Heard::Lost | Heard::Nothing => {
            false
        }
    }
}

/// What a trace says of it: nothing that is random from run to run.
pub(super) fn describe(heard: &Heard) -> String {
    match heard {
        Heard::Answer(answer) => format!("answer {} {:?}", answer.status, answer.body),
        Heard::Refused(refusal) => format!("{refusal:?}"),
        other => format!("{other:?}"),
    }
}
