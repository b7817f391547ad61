//! A small chart as SVG: lines or bars over a few named places.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 50.0;
/// Told apart by people who see few colours too.
const COLOURS: [&str; 6] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#555555"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lines,
    Bars,
}

/// Values of one thing, one for each place.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) label: String,
    pub(crate) values: Vec<f64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) kind: Kind,
    pub(crate) title: String,
    /// What the values count.
    pub(crate) unit: String,
    /// What the places are, below the axis.
    pub(crate) axis: String,
    pub(crate) places: Vec<String>,
    pub(crate) series: Vec<Series>,
}

impl Chart {
    pub(crate) fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        text(
            &mut svg,
            (WIDTH / 2.0, 22.0),
            "middle",
            &format!("{} ({})", self.title, self.unit),
        );
        text(&mut svg, (WIDTH / 2.0, HEIGHT - 10.0), "middle", &self.axis);
        let top = self.top();
        self.grid(&mut svg, top);
        for (number, series) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            match self.kind {
                Kind::Lines => self.line(&mut svg, series, colour, top),
                Kind::Bars => self.bars(&mut svg, (number, series), colour, top),
            }
            legend(&mut svg, number, &series.label, colour);
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The top of the scale: a round number that holds every value.
    fn top(&self) -> f64 {
        let values = self.series.iter().flat_map(|series| &series.values);
        let highest = values.copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
        if highest <= 0.0 {
            return 1.0;
        }
        let power = 10_f64.powf(highest.log10().floor());
        let steps = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0];
        steps
            .into_iter()
            .map(|step| step * power)
            .find(|top| *top >= highest)
            .unwrap_or(highest)
    }

    fn slot(&self) -> f64 {
        (WIDTH - LEFT - RIGHT) / self.places.len().max(1) as f64
    }

    fn grid(&self, svg: &mut String, top: f64) {
        for quarter in 0..=4 {
            let value = top * f64::from(quarter) / 4.0;
            let y = height(value, top);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>",
                WIDTH - RIGHT
            );
            text(svg, (LEFT - 8.0, y + 4.0), "end", &short(value));
        }
        for (number, place) in self.places.iter().enumerate() {
            let x = LEFT + self.slot() * (number as f64 + 0.5);
            text(svg, (x, HEIGHT - BOTTOM + 18.0), "middle", place);
        }
    }

    fn line(&self, svg: &mut String, series: &Series, colour: &str, top: f64) {
        let slot = self.slot();
        let finite = series.values.iter().enumerate().filter(|(_, value)| value.is_finite());
        let points: Vec<(f64, f64)> = finite
            .map(|(number, value)| (LEFT + slot * (number as f64 + 0.5), height(*value, top)))
            .collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (x, y) in points {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        }
    }

    fn bars(&self, svg: &mut String, (at, series): (usize, &Series), colour: &str, top: f64) {
        let slot = self.slot();
        let width = slot * 0.8 / self.series.len().max(1) as f64;
        for (number, value) in series.values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
            let x = LEFT + slot * (number as f64 + 0.1) + width * at as f64;
            let y = height(*value, top);
            let tall = HEIGHT - BOTTOM - y;
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" fill=\"{colour}\"/>",
                width * 0.94
            );
            text(svg, (x + width / 2.0, y - 4.0), "middle", &short(*value));
        }
    }
}

fn height(value: f64, top: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top
}

/// Two rows of three above the plot.
fn legend(svg: &mut String, number: usize, label: &str, colour: &str) {
    let x = LEFT + 215.0 * (number % 3) as f64;
    let y = 38.0 + 18.0 * (number / 3) as f64;
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
    );
    text(svg, (x + 18.0, y + 10.5), "start", label);
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

fn short(value: f64) -> String {
    match value {
        big if big >= 10_000.0 => format!("{:.0}k", big / 1e3),
        big if big >= 1_000.0 => format!("{:.1}k", big / 1e3),
        middle if middle >= 10.0 || middle == 0.0 => format!("{middle:.0}"),
        small => format!("{small:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(kind: Kind) -> Chart {
        Chart {
            kind,
            title: "a < b".to_owned(),
            unit: "1/s".to_owned(),
            axis: "callers".to_owned(),
            places: vec!["1".to_owned(), "16".to_owned()],
            series: vec![Series {
                label: "store".to_owned(),
                values: vec![30.0, f64::NAN],
            }],
        }
    }

    #[test]
    fn draws_what_is_a_number_and_nothing_else() {
        let lines = chart(Kind::Lines).svg();
        assert_eq!(lines.matches("<circle").count(), 1);
        let bars = chart(Kind::Bars).svg();
        assert_eq!(bars.matches("<rect").count(), 1 + 1 + 1, "page, legend, bar");
        for svg in [lines, bars] {
            assert!(!svg.contains("NaN") && svg.contains("a &lt; b"), "{svg}");
        }
    }

    #[test]
    fn the_scale_ends_at_a_round_number_above_the_values() {
        assert_eq!(chart(Kind::Lines).top(), 40.0);
        let mut empty = chart(Kind::Lines);
        empty.series.clear();
        assert_eq!(empty.top(), 1.0);
    }
}
