//! What is published, and what must come of it.

use std::collections::{BTreeMap, BTreeSet};

use hapax_consumers::Event;

/// A message to publish.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    /// Its identity, if it has one.
    pub(crate) id: Option<String>,
    pub(crate) payload: String,
}

/// All that is published, and what must be in the database when all of it is handled.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// In the order in which they are published: copies and late ones included.
    pub(crate) posts: Vec<Post>,
    /// Identities that were used, with other payloads: published when the first ones are handled.
    pub(crate) impostors: Vec<Post>,
    /// Messages that are not copies.
    pub(crate) distinct: usize,
    pub(crate) copies: usize,
    pub(crate) late: usize,
    /// Points of each order.
    pub(crate) points: BTreeMap<String, i64>,
    pub(crate) balances: BTreeMap<String, i64>,
    /// State of each order.
    pub(crate) orders: BTreeMap<String, String>,
    /// Version and pieces of each item.
    pub(crate) stock: BTreeMap<String, (i64, i64)>,
    /// Each event that makes sense, as JSON.
    pub(crate) events: BTreeSet<String>,
    /// Order and what about.
    pub(crate) letters: BTreeSet<(String, String)>,
    /// How many dead letters each consumer has, by how their reasons begin.
    pub(crate) dead: BTreeMap<&'static str, usize>,
}

/// What reasons of dead letters begin with.
pub(crate) const UNPARSABLE: &str = "no event of the shop";
pub(crate) const IMPOSSIBLE: &str = "an order cannot cost";
pub(crate) const NAMELESS: &str = "the message has no identity";
pub(crate) const IMPOSTOR: &str = "a message with the identity";

/// Numbers that are the same for the same seed (SplitMix64).
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

impl Plan {
    /// About `messages`: of them 20 % are copies, 5 % come late, 1 % is poison.
    pub(crate) fn new(messages: usize, dice: &mut Dice) -> Self {
        let mut plan = Self::default();
        // Where each stands, in units that leave room between two.
        let mut placed: Vec<(usize, Post)> = Vec::new();
        let mut unshipped: Vec<String> = Vec::new();
        let impostors = (messages / 400).max(1);
        for number in 0..messages * 10 / 12 - impostors {
            // One of each kind of poison even in a small plan.
            let post = match number {
                50..53 => plan.poison(number),
                _ if dice.below(1000) < 7 => plan.poison(number),
                _ => plan.event(number, &mut unshipped, dice),
            };
            let mut at = number * 1000;
            if dice.percent(5) {
                at += 1000 * (1 + dice.below(100));
                plan.late += 1;
            }
            if post.id.is_some() && dice.percent(20) {
                placed.push((at + 1 + 1000 * dice.below(200), post.clone()));
                plan.copies += 1;
            }
            placed.push((at, post));
            plan.distinct += 1;
        }
        placed.sort_by_key(|(at, _)| *at);
        plan.posts = placed.into_iter().map(|(_, post)| post).collect();
        let good: Vec<&Post> = plan
            .posts
            .iter()
            .filter(|post| plan.events.contains(&post.payload))
            .collect();
        let impostor = |number: usize| Post {
            payload: format!("{{\"impostor\":{number}}}"),
            ..good[(number * 37) % good.len()].clone()
        };
        plan.impostors = (0..impostors).map(impostor).collect();
        plan.dead.insert(IMPOSTOR, impostors);
        plan
    }

    fn poison(&mut self, number: usize) -> Post {
        let (reason, id, payload) = match number % 3 {
            0 => (UNPARSABLE, Some(format!("e-{number}")), format!("{{ {number}")),
            1 => {
                let event = Event::Paid {
                    order: format!("o-{number}"),
                    customer: "c-0".to_owned(),
                    amount: -1 - number as i64,
                };
                (IMPOSSIBLE, Some(format!("e-{number}")), text(&event))
            }
            _ => (NAMELESS, None, format!("{{\"number\":{number}}}")),
        };
        *self.dead.entry(reason).or_default() += 1;
        Post { id, payload }
    }

    fn event(&mut self, number: usize, unshipped: &mut Vec<String>, dice: &mut Dice) -> Post {
        let event = match dice.below(10) {
            0..2 if !unshipped.is_empty() => {
                let order = unshipped.swap_remove(dice.below(unshipped.len()));
                self.orders.insert(order.clone(), "shipped".to_owned());
                self.letters.insert((order.clone(), "shipped".to_owned()));
                Event::Shipped { order }
            }
            2..4 => {
                let (item, version) = (format!("i-{}", dice.below(20)), number as i64);
                let pieces = dice.below(1000) as i64;
                // Numbers only grow.
                self.stock.insert(item.clone(), (version, pieces));
                Event::Stock { item, version, pieces }
            }
            _ => {
                let (order, customer) = (format!("o-{number}"), format!("c-{}", dice.below(50)));
                let amount = 100 + dice.below(10_000) as i64;
                self.points.insert(order.clone(), amount);
                *self.balances.entry(customer.clone()).or_default() += amount;
                self.orders.insert(order.clone(), "paid".to_owned());
                self.letters.insert((order.clone(), "paid".to_owned()));
                unshipped.push(order.clone());
                Event::Paid {
                    order,
                    customer,
                    amount,
                }
            }
        };
        let payload = text(&event);
        self.events.insert(payload.clone());
        Post {
            id: Some(format!("e-{number}")),
            payload,
        }
    }

    /// Records that a consumer has when all but the impostors are handled.
    pub(crate) fn records(&self) -> usize {
        self.distinct
    }
}

fn text(event: &Event) -> String {
    serde_json::to_string(event).unwrap()
}
