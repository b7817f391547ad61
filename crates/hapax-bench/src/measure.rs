//! Measuring: callers that repeat one step, subjects that take turns, medians.

use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::machine;

/// What one turn of one subject showed. Latencies in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Steps a second.
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) worst: f64,
}

impl Measured {
    fn of(mut micros: Vec<u32>, took: Duration) -> Result<Self> {
        micros.sort_unstable();
        let last = micros.len().checked_sub(1).ok_or("not one step was done in time")?;
        let at = |share: f64| f64::from(micros[(last as f64 * share) as usize]) / 1e3;
        Ok(Self {
            rate: micros.len() as f64 / took.as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            worst: at(1.0),
        })
    }
}

/// Lets `callers` repeat `step` for `time`, each one after the other.
pub(crate) async fn drive<F, Fut>(callers: usize, time: Duration, step: F) -> Result<Measured>
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send,
{
    let start = Instant::now();
    let end = start + time;
    let mut tasks = Vec::with_capacity(callers);
    for _ in 0..callers {
        let step = step.clone();
        tasks.push(tokio::spawn(async move {
            let mut micros = Vec::new();
            let mut before = Instant::now();
            // Each takes one step at least, however late it is begun.
            loop {
                step().await?;
                let after = Instant::now();
                micros.push(u32::try_from((after - before).as_micros()).unwrap_or(u32::MAX));
                before = after;
                if after >= end {
                    return Result::Ok(micros);
                }
            }
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    Measured::of(all, start.elapsed())
}

/// The turns of one subject.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    pub(crate) label: String,
    turns: Vec<Measured>,
}

impl Turns {
    pub(crate) fn new(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            turns: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, turn: Measured) {
        println!(
            "   {:<34} {:>9.0}/s  p50 {:.2}  p99 {:.2}  worst {:.1} ms  ({})",
            self.label,
            turn.rate,
            turn.p50,
            turn.p99,
            turn.worst,
            machine::load()
        );
        self.turns.push(turn);
    }

    fn all(&self, of: impl Fn(&Measured) -> f64) -> Vec<f64> {
        self.turns.iter().map(of).collect()
    }

    /// Steps a second: the median of the turns.
    pub(crate) fn rate(&self) -> f64 {
        median(self.all(|turn| turn.rate))
    }

    pub(crate) fn p50(&self) -> f64 {
        median(self.all(|turn| turn.p50))
    }

    pub(crate) fn p99(&self) -> f64 {
        median(self.all(|turn| turn.p99))
    }

    /// The highest of the turns, not the median: a stall is a stall.
    pub(crate) fn p999(&self) -> f64 {
        self.all(|turn| turn.p999).into_iter().fold(0.0, f64::max)
    }

    pub(crate) fn worst(&self) -> f64 {
        self.all(|turn| turn.worst).into_iter().fold(0.0, f64::max)
    }

    /// The rate in words, with the lowest and highest turn, and the latency.
    pub(crate) fn shown(&self) -> String {
        let rates = self.all(|turn| turn.rate);
        let (low, high) = (
            rates.iter().copied().fold(f64::MAX, f64::min),
            rates.iter().copied().fold(0.0, f64::max),
        );
        format!(
            "{} {:.0}/s ({low:.0}–{high:.0}), p50 {:.2} ms, p99 {:.2} ms",
            self.label,
            self.rate(),
            self.p50(),
            self.p99()
        )
    }
}

/// Numbers of one subject, one for each round.
#[derive(Clone, Debug)]
pub(crate) struct Laps {
    pub(crate) label: String,
    unit: &'static str,
    numbers: Vec<f64>,
}

impl Laps {
    pub(crate) fn new(label: impl Into<String>, unit: &'static str) -> Self {
        Self {
            label: label.into(),
            unit,
            numbers: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, number: f64) {
        println!(
            "   {:<34} {number:>9.0}{}  ({})",
            self.label,
            self.unit,
            machine::load()
        );
        self.numbers.push(number);
    }

    pub(crate) fn median(&self) -> f64 {
        median(self.numbers.clone())
    }

    /// The median in words, with the lowest and the highest.
    pub(crate) fn shown(&self) -> String {
        let low = self.numbers.iter().copied().fold(f64::MAX, f64::min);
        let high = self.numbers.iter().copied().fold(0.0, f64::max);
        let Self { label, unit, .. } = self;
        format!("{label} {:.0}{unit} ({low:.0}–{high:.0})", self.median())
    }
}

/// The middle of some numbers; between the two middle ones where they are even in number.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => numbers[middle],
        _ => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}

pub(crate) type Turn = Pin<Box<dyn Future<Output = Result<Measured>> + Send>>;

/// Something that takes turns of a given length.
pub(crate) struct Subject {
    label: String,
    turn: Box<dyn Fn(Duration) -> Turn + Send>,
}

impl Subject {
    pub(crate) fn new<Fut>(label: impl Into<String>, turn: impl Fn(Duration) -> Fut + Send + 'static) -> Self
    where
        Fut: Future<Output = Result<Measured>> + Send + 'static,
    {
        Self {
            label: label.into(),
            turn: Box::new(move |time| Box::pin(turn(time))),
        }
    }
}

/// How often and how long subjects take turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) rounds: usize,
    pub(crate) round: Duration,
    pub(crate) warm_up: Duration,
}

/// Lets subjects take turns. Who begins changes from round to round, so that nobody always follows the same one.
pub(crate) async fn alternate(pace: Pace, subjects: &[Subject]) -> Result<Vec<Turns>> {
    let mut all: Vec<Turns> = subjects.iter().map(|subject| Turns::new(&subject.label)).collect();
    for subject in subjects {
        (subject.turn)(pace.warm_up).await?;
    }
    for round in 0..pace.rounds {
        for place in 0..subjects.len() {
            let at = (place + round) % subjects.len();
            let turn = (subjects[at].turn)(pace.round).await;
            all[at].push(turn.map_err(|why| format!("{}: {why}", subjects[at].label))?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn percentiles_and_rate_are_of_all_steps() {
        let measured = Measured::of((1..=1_001).rev().collect(), Duration::from_secs(2)).unwrap();
        assert_eq!(measured.rate, 500.5);
        assert_eq!(
            (measured.p50, measured.p99, measured.p999, measured.worst),
            (0.501, 0.991, 1.0, 1.001)
        );
        assert!(Measured::of(Vec::new(), Duration::from_secs(1)).is_err());
    }

    #[tokio::test]
    async fn subjects_take_turns() {
        let order = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let subject = |label: &str| {
            let (order, name) = (order.clone(), label.to_owned());
            Subject::new(label, move |_| {
                order.lock().unwrap().push_str(&name);
                async { Measured::of(vec![1], Duration::from_secs(1)) }
            })
        };
        let pace = Pace {
            rounds: 3,
            round: Duration::ZERO,
            warm_up: Duration::ZERO,
        };
        let turns = alternate(pace, &[subject("a"), subject("b")]).await.unwrap();
        assert_eq!(*order.lock().unwrap(), "ababbaab");
        assert_eq!(turns[0].turns.len(), 3);
    }
}
