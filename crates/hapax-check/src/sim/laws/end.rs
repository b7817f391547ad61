//! The laws of how everything ends.

use hapax_core::{AfterFailure, Outcome, Record, State, StateName, Summary, Timestamp};

use super::super::client::name;
use super::Laws;

impl Laws {
    /// Whether somebody must still do something about a record, now that nothing fails any more. One that is `held_up` by
    /// another of its group waits for whoever settles that.
    pub(in super::super) fn is_unsettled(&self, record: Option<&Record>, now: Timestamp, held_up: bool) -> bool {
        let Some(shown) = record.map(|record| Summary::of(record, now)) else {
            return false;
        };
        match shown.state {
            StateName::Running => shown.until > Some(now) || (shown.has_input && !held_up),
            StateName::Waiting => shown.has_input && !held_up,
            StateName::Unknown => self.plan.resolves,
            StateName::Done | StateName::Dead => false,
        }
    }

    /// When all is over: nothing that was accepted is lost, and nothing waits that could be run or resolved.
    pub(in super::super) fn judge(&mut self, number: usize, record: Option<&Record>, now: Timestamp, held_up: bool) {
        let (runners, resolves, calm) = (self.plan.runners, self.plan.resolves, self.plan.calm);
        let (mode, poison) = (self.plan.mode(number), self.plan.is_poison(number));
        let effects = self.effects.iter().filter(|effect| effect.operation == number).count();
        let past = self.past(number);
        let (accepted, amended, removed) = (past.accepted, past.amended, past.removed);
        let broken = match record.map(|record| (Summary::of(record, now), record)) {
            None if accepted => Some("lost"),
            None => None,
            Some((shown, record)) => match (shown.state, &record.state) {
                (StateName::Running, _) if shown.until > Some(now) => Some("liveness"),
                (StateName::Running | StateName::Waiting, _) if runners && shown.has_input && !held_up => {
                    Some("liveness")
                }
                (StateName::Running | StateName::Waiting, _) if runners && shown.has_input => None,
                (StateName::Running | StateName::Waiting, _) if accepted => Some("lost"),
                (StateName::Unknown, _) if resolves || mode == AfterFailure::Retry => Some("liveness"),
                // In hold mode a start that was cut off stays a try, whoever's crash it was.
                (StateName::Dead, _) if calm && accepted && !poison && mode == AfterFailure::Retry => Some("bystander"),
                (StateName::Dead, _) if !amended && !removed && mode == AfterFailure::Hold && effects > 0 => {
                    Some("dead without effect")
                }
                (StateName::Done, _) if calm && poison => Some("poison"),
                (StateName::Done, State::Done(Outcome::Answer(answer))) if answer.status == 201 && effects == 0 => {
                    Some("ack needs effect")
                }
                _ => None,
            },
        };
        if let Some(law) = broken {
            let what = format!("{} after all, {effects} effects: {record:?}", name(number));
            self.broken(law, what);
        }
    }
}
