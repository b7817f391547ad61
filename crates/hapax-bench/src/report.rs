//! Results: a table on standard output and in `results.md`, plots beside it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::bench::Bench;
use crate::chart::Chart;
use crate::error::Result;
use crate::machine;
use crate::options::Options;
use crate::plan::Size;

/// What a figure is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) measured: String,
    /// What it was measured beside; empty where the figure stands alone.
    pub(crate) beside: String,
    pub(crate) value: f64,
    /// Empty for a ratio.
    pub(crate) unit: &'static str,
    pub(crate) target: Option<Target>,
}

impl Figure {
    fn shown(&self, value: f64) -> String {
        match self.unit {
            "" => format!("{value:.2}"),
            unit if value.fract() == 0.0 || value >= 100.0 => format!("{value:.0} {unit}"),
            unit => format!("{value:.1} {unit}"),
        }
    }

    fn cells(&self) -> [String; 5] {
        let target = match self.target {
            None => "–".to_owned(),
            Some(target) => {
                let (sign, limit) = match target {
                    Target::AtLeast(limit) => ('≥', limit),
                    Target::AtMost(limit) => ('≤', limit),
                };
                let word = if target.is_met(self.value) { "met" } else { "NOT MET" };
                format!("{sign} {}: {word}", self.shown(limit))
            }
        };
        [
            self.what.clone(),
            self.measured.clone(),
            self.beside.clone(),
            self.shown(self.value),
            target,
        ]
    }
}

struct Section {
    title: String,
    notes: Vec<String>,
    figures: Vec<Figure>,
}

/// All results of a run.
pub(crate) struct Report {
    out: PathBuf,
    head: Vec<String>,
    sections: Vec<Section>,
}

impl Report {
    /// An empty report, and the directory that it goes to.
    pub(crate) fn create(options: &Options) -> Result<Self> {
        fs::create_dir_all(&options.out)
            .map_err(|error| format!("cannot make the directory {}: {error}", options.out.display()))?;
        let mut head = machine::describe(&options.out);
        head.push(match options.plan.size {
            Size::Smoke => "SMOKE: the figures mean nothing".to_owned(),
            Size::Quick => "QUICK: short rounds and small stores; figures to steer by".to_owned(),
            Size::Normal => "normal run".to_owned(),
            Size::Full => "full run".to_owned(),
        });
        head.iter().for_each(|line| println!("{line}"));
        Ok(Self {
            out: options.out.clone(),
            head,
            sections: Vec::new(),
        })
    }

    pub(crate) fn section(&mut self, bench: &Bench) {
        self.sections.push(Section {
            title: format!("{}: {}", bench.name, bench.title),
            notes: Vec::new(),
            figures: Vec::new(),
        });
    }

    /// A figure of the section in hand.
    pub(crate) fn figure(&mut self, figure: Figure) {
        if let Some(section) = self.sections.last_mut() {
            section.figures.push(figure);
        }
    }

    /// A remark on the section in hand.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        if let Some(section) = self.sections.last_mut() {
            section.notes.push(note.into());
        }
    }

    /// Writes a plot.
    pub(crate) fn chart(&self, name: &str, chart: &Chart) -> Result<()> {
        Ok(fs::write(self.out.join(format!("{name}.svg")), chart.svg())?)
    }

    /// Writes what there is so far: a long run that is ended early leaves its results.
    pub(crate) fn finish_section(&self) -> Result<()> {
        let path = self.out.join("results.md");
        fs::write(&path, self.text()).map_err(|error| format!("cannot write {}: {error}", path.display()).into())
    }

    pub(crate) fn print(&self) {
        println!("\n{}", self.text());
        println!("(also in {}, with plots)", self.out.join("results.md").display());
    }

    fn text(&self) -> String {
        let mut text = String::from("# Benchmark results\n\n");
        self.head.iter().for_each(|line| {
            let _ = writeln!(text, "- {line}");
        });
        for section in &self.sections {
            let _ = write!(text, "\n## {}\n\n", section.title);
            text.push_str(&table(&section.figures));
            if !section.notes.is_empty() {
                text.push('\n');
            }
            section.notes.iter().for_each(|note| {
                let _ = writeln!(text, "- {note}");
            });
        }
        let targets = || {
            let figures = self.sections.iter().flat_map(|section| &section.figures);
            figures.filter_map(|figure| Some(figure.target?.is_met(figure.value)))
        };
        let (met, all) = (targets().filter(|met| *met).count(), targets().count());
        let _ = writeln!(text, "\n{met} of {all} targets met; {} at the end", machine::load());
        text
    }
}

/// A Markdown table whose columns stand under each other.
fn table(figures: &[Figure]) -> String {
    if figures.is_empty() {
        return String::new();
    }
    let head = ["figure", "measured", "beside", "value", "target"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(figures.iter().map(Figure::cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            widths.iter().for_each(|width| {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            });
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, unit: &'static str, target: Target) -> Figure {
        Figure {
            what: "cycles".to_owned(),
            measured: "a".to_owned(),
            beside: "ünd".to_owned(),
            value,
            unit,
            target: Some(target),
        }
    }

    #[test]
    fn a_limit_itself_meets_the_target() {
        for (value, target, word) in [
            (0.8, Target::AtLeast(0.8), "≥ 0.80: met"),
            (0.799, Target::AtLeast(0.8), "≥ 0.80: NOT MET"),
            (2.5, Target::AtMost(2.5), "≤ 2.50: met"),
            (2.501, Target::AtMost(2.5), "≤ 2.50: NOT MET"),
            (f64::NAN, Target::AtMost(2.5), "≤ 2.50: NOT MET"),
        ] {
            assert_eq!(figure(value, "", target).cells()[4], word);
        }
        assert_eq!(
            figure(99.96, "ms", Target::AtMost(100.0)).cells()[3..],
            ["100.0 ms", "≤ 100 ms: met"]
        );
    }

    #[test]
    fn columns_stand_under_each_other() {
        let text = table(&[figure(1.0, "", Target::AtLeast(0.8))]);
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 3);
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
    }
}
