//! The upstream: not idempotent, and the oracle, since it knows its effects.

use std::time::Duration;

use bytes::Bytes;
use hapax_core::{Answer, Fence};

use super::door::{Call, Said};
use super::plan::UpstreamOdds;
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

/// Draws the fate of call number `call`. `named` is how answers call the operation.
pub(super) fn fate(dice: &mut Dice, odds: &UpstreamOdds, call: usize, named: &str, asked: &Call) -> Fate {
    let quick = dice.millis(5, 400);
    let answer = |status: u16| {
        let body = format!("{named} payload {} call {call}", asked.payload);
        Said::Answer(Answer {
            status,
            headers: vec![("content-type".into(), Bytes::from_static(b"text/plain"))],
            body: body.into(),
        })
    };
    if dice.chance(odds.refuses) {
        let says = Some((Duration::from_millis(1), Said::Refused));
        return Fate {
            effect_after: None,
            says,
        };
    }
    if dice.chance(odds.declines) {
        return Fate {
            effect_after: None,
            says: Some((quick, answer(404))),
        };
    }
    if dice.chance(odds.fails_before) {
        return Fate {
            effect_after: None,
            says: Some((quick, answer(500))),
        };
    }
    let slow = if dice.chance(odds.slow) {
        dice.millis(1_000, 12_000)
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
