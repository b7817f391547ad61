//! What was seen of an outage, and what it comes to. Times are in seconds from the start.

/// Times in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Times(Vec<f64>);

impl Times {
    pub(super) fn new(times: impl Iterator<Item = f64>) -> Self {
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// How many are in `[from, to)`.
    pub(super) fn within(&self, from: f64, to: f64) -> usize {
        self.slice(from, to).len()
    }

    fn slice(&self, from: f64, to: f64) -> &[f64] {
        let first = self.0.partition_point(|time| *time < from);
        let end = self.0.partition_point(|time| *time < to);
        self.0.get(first..end).unwrap_or_default()
    }

    /// The most in any second that begins in `[from, to)`.
    fn most_in_a_second(&self, from: f64, to: f64) -> f64 {
        let starts = self.slice(from, to).iter();
        starts.map(|start| self.within(*start, start + 1.0)).max().unwrap_or(0) as f64
    }
}

#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Each offers one request a second.
    pub(super) clients: f64,
    pub(super) offered: Times,
    pub(super) forwarded: Times,
    /// Good answers to clients.
    pub(super) answered: Times,
    /// When the upstream went down, came up again, and when the clients stopped.
    pub(super) down: f64,
    pub(super) up: f64,
    pub(super) end: f64,
}

/// From this share on the usual rate is back.
const BACK: f64 = 0.95;

impl Seen {
    /// The most that was forwarded in any second, as a share of what was offered in the same one: that is not always
    /// what it should be, where the clients run on a busy machine.
    pub(super) fn most_forwarded(&self) -> f64 {
        let share = |start: &f64| {
            let within = |times: &Times| times.within(*start, *start + 1.0) as f64;
            within(&self.forwarded) / within(&self.offered).max(self.clients)
        };
        let starts = self.forwarded.slice(0.0, self.end).iter();
        starts.map(share).fold(0.0, f64::max)
    }

    pub(super) fn forwarded_while_down(&self) -> usize {
        self.forwarded.within(self.down, self.up)
    }

    /// The longest time without a request to the upstream, from its going down to the first that came through again.
    pub(super) fn longest_gap(&self) -> f64 {
        let (mut last, mut longest) = (self.down, 0.0_f64);
        for time in self.forwarded.slice(self.down, self.up) {
            longest = longest.max(time - last);
            last = *time;
        }
        longest.max(self.first_good().unwrap_or(self.end) - last)
    }

    fn first_good(&self) -> Option<f64> {
        self.forwarded.slice(self.up, self.end).first().copied()
    }

    /// From the first request that came through again to the end of the first second with about as many as are offered.
    pub(super) fn back(&self) -> Option<f64> {
        let first = self.first_good()?;
        let mut ends = self.forwarded.slice(first, self.end).iter();
        // The end of a second is in it.
        let full = |end: &&f64| self.forwarded.within(**end - 1.0, **end) as f64 + 1.0 >= BACK * self.clients;
        Some((ends.find(full)? - first).max(0.0))
    }

    pub(super) fn most_after(&self) -> f64 {
        let first = self.first_good().unwrap_or(self.end);
        self.forwarded.most_in_a_second(first, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten a second until 5, one every 4 s until 20; the first good one at 21, five a second until 24, then ten.
    fn seen() -> Seen {
        let steady = |from: u32, to: u32, every: u32| (from..to).step_by(every as usize).map(|at| f64::from(at) / 10.0);
        let forwarded = steady(0, 50, 1)
            .chain([9.0, 13.0, 17.0])
            .chain(steady(210, 240, 2))
            .chain(steady(240, 300, 1));
        Seen {
            clients: 10.0,
            offered: Times::new(steady(0, 300, 1)),
            forwarded: Times::new(forwarded),
            answered: Times::default(),
            down: 5.0,
            up: 20.0,
            end: 30.0,
        }
    }

    #[test]
    fn gaps_are_between_probes_and_up_to_the_first_good_one() {
        let seen = seen();
        assert!((seen.longest_gap() - 4.0).abs() < 1e-9, "{}", seen.longest_gap());
        let mut late = seen.clone();
        late.forwarded = Times::new([9.0, 25.0].into_iter());
        assert!((late.longest_gap() - 16.0).abs() < 1e-9);
        late.forwarded = Times::default();
        assert!((late.longest_gap() - 25.0).abs() < 1e-9);
    }

    #[test]
    fn the_rate_is_back_when_a_whole_second_is_full() {
        let seen = seen();
        let back = seen.back().unwrap();
        assert!((3.8..4.0).contains(&back), "{back}");
        assert!((seen.most_after() - 10.0).abs() < 1.5);
        let mut never = seen;
        never.clients = 100.0;
        assert_eq!(never.back(), None);
    }

    #[test]
    fn what_was_forwarded_is_compared_with_what_was_offered_at_that_time() {
        let mut seen = seen();
        assert!((seen.most_forwarded() - 1.0).abs() < 0.11, "{}", seen.most_forwarded());
        let burst = (0..20).map(|at| 25.0 + f64::from(at) / 100.0);
        seen.forwarded = Times::new(seen.forwarded.0.iter().copied().chain(burst.clone()));
        assert!(seen.most_forwarded() > 2.8);
        seen.offered = Times::new(seen.offered.0.iter().copied().chain(burst));
        assert!(seen.most_forwarded() < 1.2);
    }

    #[test]
    fn a_second_is_any_second() {
        let times = Times::new([0.9, 1.0, 1.1, 1.2, 3.0].into_iter());
        assert_eq!(times.most_in_a_second(0.0, 5.0), 4.0);
        assert_eq!(times.most_in_a_second(2.0, 5.0), 1.0);
        assert_eq!(times.within(1.0, 2.0), 3);
    }
}
