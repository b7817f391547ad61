//! What goes wrong in the world: crashes, pauses, clock jumps, outages, and the end of it all.

use std::time::Duration;

use super::super::upstream::Spell;
use super::{Event, World, millis};

impl World {
    pub(super) fn draw_accidents(&mut self) {
        let active = millis(self.config.active);
        let nodes = self.config.nodes.max(1) as u64;
        for _ in 0..self.plan.crashes {
            let (at, node) = (self.dice.below(active), self.dice.below(nodes) as usize);
            let down = self.dice.millis(20, 5_000);
            self.at(at, Event::Crash(node, down));
        }
        for _ in 0..self.plan.pauses {
            let (at, node) = (self.dice.below(active), self.dice.below(nodes) as usize);
            let asleep = self.dice.millis(50, 9_000);
            self.at(at, Event::Pause(node, asleep));
        }
        for _ in 0..self.plan.outages {
            let at = self.dice.below(active);
            let until = at + self.dice.between(100, 6_000);
            self.at(at, Event::Outage(true));
            self.at(until, Event::Outage(false));
        }
        for _ in 0..self.plan.spells {
            let at = self.dice.below(active);
            let until = at + self.dice.between(1_000, 8_000);
            let spell = self.dice.pick(&Spell::ALL).copied();
            self.at(at, Event::Spell(spell));
            self.at(until, Event::Spell(None));
        }
        for _ in 0..self.plan.jumps {
            let at = self.dice.below(active);
            // Within what is followed, and beyond it.
            let size = match self.dice.chance(700) {
                true => self.dice.between(500, 60_000) as i64,
                false => self.dice.between(301_000, 900_000) as i64,
            };
            let by = if self.dice.chance(600) { size } else { -size };
            self.at(at, Event::Jump(by));
        }
    }

    pub(super) fn accident(&mut self, accident: Event) {
        if !self.healed {
            self.report.counts.accidents += 1;
        }
        match accident {
            Event::Crash(number, down) if !self.healed => {
                self.crash(number, down);
            }
            Event::Restart(number) if self.nodes[number].is_none() => {
                self.note(|| format!("node {number} starts"));
                self.nodes[number] = Some(self.node(number));
            }
            Event::Pause(number, asleep) if !self.healed => {
                if let Some(node) = &mut self.nodes[number] {
                    node.pause();
                    self.note(|| format!("node {number} pauses for {asleep:?}"));
                    self.after(asleep, Event::Resume(number));
                }
            }
            Event::Resume(number) => {
                if let Some(node) = &mut self.nodes[number] {
                    node.resume();
                    self.note(|| format!("node {number} resumes"));
                    self.collect();
                }
            }
            Event::Outage(outage) if !self.healed => {
                self.note(|| format!("store outage: {outage}"));
                self.outage = outage;
                self.nodes
                    .iter()
                    .flatten()
                    .for_each(|node| node.store.set_outage(outage));
            }
            Event::Spell(spell) if !self.healed => {
                self.note(|| format!("the upstream's spell: {spell:?}"));
                self.spell = spell;
            }
            Event::Jump(by_ms) if !self.healed => {
                self.note(|| format!("the clock jumps by {by_ms} ms"));
                self.time.jump(by_ms);
            }
            Event::Heal => self.heal(),
            _ => {}
        }
    }

    /// Takes all that is in flight in a node with it.
    pub(super) fn crash(&mut self, number: usize, down: Duration) {
        if let Some(node) = self.nodes[number].take() {
            self.note(|| format!("node {number} crashes"));
            self.report.counts.crashes += 1;
            self.report.counts.store_faults += node.store.injected();
            self.thinking.retain(|(node, _), _| *node != number);
            self.granted.retain(|(node, _), _| *node != number);
            self.after(down, Event::Restart(number));
        }
    }

    fn heal(&mut self) {
        self.note(|| "all is well from here".into());
        self.healed = true;
        self.outage = false;
        self.spell = None;
        self.plan.heal();
        for number in 0..self.nodes.len() {
            match &mut self.nodes[number] {
                Some(node) => {
                    node.store.set(self.plan.store.clone());
                    node.resume();
                }
                None => self.nodes[number] = Some(self.node(number)),
            }
        }
        self.accept_the_time();
        self.collect();
    }

    /// A person accepts what the clock shows, and sets it right where it is behind: until then the store's time
    /// would stand still.
    fn accept_the_time(&mut self) {
        let accepted = self.runtime.block_on(async {
            self.store.time(false).await?;
            self.store.time(true).await
        });
        match accepted {
            Ok((now, _)) if now > self.time.now() => {
                let behind = now.as_millis() - self.time.now().as_millis();
                self.time.jump(behind);
            }
            Ok(_) => {}
            Err(error) => self.laws.broken("time", error.to_string()),
        }
    }
}
