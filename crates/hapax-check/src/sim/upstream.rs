//! The upstream: not idempotent, and the oracle, since it knows its effects.

use std::time::Duration;

use bytes::Bytes;
use hapax_core::{Answer, Fence};

use super::door::{Call, REJECTED, Said};
use super::plan::{LATEST_EFFECT_MS, UpstreamOdds};
use crate::dice::Dice;

/// Something that happened, once for each entry.
#[derive(Debug, Clone)]
pub(super) struct Effect {
    pub(super) operation: usize,
    pub(super) payload: u8,
    pub(super) fence: Option<Fence>,
    pub(super) call: usize,
}

/// What will become of a call.
pub(super) struct Fate {
    /// When the effect happens, if at all.
    pub(super) effect_after: Option<Duration>,
    /// When and what it says, if anything.
    pub(super) says: Option<(Duration, Said)>,
}

/// A time in which the upstream does nothing but fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spell {
    /// It refuses connections.
    Down,
    /// It asks everybody to wait.
    Throttling,
    /// It fails without an effect, and nobody can tell.
    Failing,
}

impl Spell {
    pub(super) const ALL: [Self; 3] = [Self::Down, Self::Throttling, Self::Failing];
}

/// How an answer calls what it answers.
pub(super) fn answer(status: u16, named: &str, payload: u8, call: usize) -> Answer {
    let body = format!("{named} payload {payload} call {call}");
    Answer {
        status,
        headers: vec![("content-type".into(), Bytes::from_static(b"text/plain"))],
        body: body.into(),
    }
}

/// Draws the fate of call number `call`. `named` is how answers call the operation.
pub(super) fn fate(
    dice: &mut Dice,
    odds: &UpstreamOdds,
    spell: Option<Spell>,
    call: usize,
    named: &str,
    asked: &Call,
) -> Fate {
    let quick = dice.millis(5, 400);
    let pause = dice.millis(0, 3_000);
    let answer = |status: u16| Said::Answer(answer(status, named, asked.payload, call));
    let nothing = |after: Duration, said: Said| Fate {
        effect_after: None,
        says: Some((after, said)),
    };
    if spell == Some(Spell::Down) || dice.chance(odds.refuses) {
        return nothing(Duration::from_millis(1), Said::Refused);
    }
    if spell == Some(Spell::Throttling) || dice.chance(odds.throttles) {
        return nothing(quick, Said::Throttled(pause));
    }
    if spell == Some(Spell::Failing) || dice.chance(odds.fails_before) {
        return nothing(quick, answer(500));
    }
    if dice.chance(odds.declines) {
        return nothing(quick, answer(404));
    }
    if dice.chance(odds.rejects) {
        return nothing(quick, answer(REJECTED));
    }
    let slow = if dice.chance(odds.slow) {
        dice.millis(1_000, LATEST_EFFECT_MS)
    } else {
        quick
    };
    let effect_after = Some(slow);
    if dice.chance(odds.silent) {
        let happened = dice.chance(500);
        return Fate {
            effect_after: effect_after.filter(|_| happened),
            says: None,
        };
    }
    let status = if dice.chance(odds.fails_after) { 502 } else { 201 };
    Fate {
        effect_after,
        says: Some((slow + dice.millis(0, 100), answer(status))),
    }
}
