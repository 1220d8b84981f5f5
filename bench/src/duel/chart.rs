//! The chart of growth: cost of an answer against the number of subscriptions, with the echo's line. Numbers in, SVG 1.1
//! out, readable on light and dark ground.

use std::fmt::Write;

use serde::Serialize;

use super::stats::Estimate;

/// One measurement.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    /// Subscriptions.
    pub devices: u32,
    /// CPU nanoseconds of the server for an answer.
    pub server: Estimate,
    /// CPU nanoseconds of the echo.
    pub echo: Estimate,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 56.0;

const STYLE: &str = "\
:root { color-scheme: light dark; --ink: #1f2328; --faint: #d0d7de; --server: #0550ae; --echo: #9a4a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #3d444d; --server: #79b8ff; --echo: #ffb77c; } }
text { fill: var(--ink); font: 13px system-ui, sans-serif; }
.grid { stroke: var(--faint); stroke-width: 1; }
.server { stroke: var(--server); fill: none; stroke-width: 2.5; } .server-fill { fill: var(--server); }
.echo { stroke: var(--echo); fill: none; stroke-width: 2.5; stroke-dasharray: 7 4; } .echo-fill { fill: var(--echo); }";

/// Draws the measurements, in order of their number of subscriptions. None make an empty chart.
pub fn growth(points: &[Point]) -> String {
    let scale = Scale::of(points);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"title desc\">\n\
         <title id=\"title\">Cost of an answer by number of subscriptions</title>\n\
         <desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n",
        describe(points)
    );
    axes(&mut svg, &scale, points);
    line(&mut svg, &scale, "server", "gts-mock", points, |point| {
        point.server
    });
    line(&mut svg, &scale, "echo", "bare echo", points, |point| {
        point.echo
    });
    svg.push_str("</svg>\n");
    svg
}

/// The same in words, for those who do not see it.
fn describe(points: &[Point]) -> String {
    let told = points.iter().map(|point| {
        format!(
            "{} subscriptions: server {:.0} ns, echo {:.0} ns",
            name(point.devices),
            point.server.median,
            point.echo.median
        )
    });
    let told: Vec<String> = told.collect();
    format!("CPU time for one answer. {}.", told.join("; "))
}

/// Where a measurement stands: logarithmic to the right, linear from 0 upwards.
struct Scale {
    first: f64,
    decades: f64,
    top: f64,
    step: f64,
}

impl Scale {
    fn of(points: &[Point]) -> Self {
        let decade = |devices: u32| f64::from(devices.max(1)).log10();
        let first = points.first().map_or(0.0, |point| decade(point.devices));
        let last = points.last().map_or(1.0, |point| decade(point.devices));
        let highest = points
            .iter()
            .flat_map(|point| [point.server.high, point.echo.high])
            .fold(1.0, f64::max);
        let step = step(highest);
        Self {
            first,
            decades: (last - first).max(1e-9),
            top: (highest / step).ceil() * step,
            step,
        }
    }

    fn x(&self, devices: u32) -> f64 {
        let part = (f64::from(devices.max(1)).log10() - self.first) / self.decades;
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, nanos: f64) -> f64 {
        HEIGHT - BOTTOM - nanos / self.top * (HEIGHT - TOP - BOTTOM)
    }
}

/// 1, 2 or 5 times a power of ten, so that about five lines are drawn.
fn step(highest: f64) -> f64 {
    let raw = highest / 5.0;
    let power = 10f64.powf(raw.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|factor| factor * power);
    steps
        .into_iter()
        .find(|step| *step >= raw)
        .unwrap_or(10.0 * power)
}

// Writing to a string does not fail; this holds for all that follows.
fn axes(svg: &mut String, scale: &Scale, points: &[Point]) {
    let mut nanos = 0.0;
    while nanos <= scale.top {
        let (y, right) = (scale.y(nanos), WIDTH - RIGHT);
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{nanos:.0}</text>",
            LEFT - 8.0,
            y + 4.5
        );
        nanos += scale.step;
    }
    for point in points {
        let (x, y) = (scale.x(point.devices), HEIGHT - BOTTOM + 20.0);
        let name = name(point.devices);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{name}</text>"
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"12\" y=\"24\">CPU nanoseconds for one answer</text>"
    );
    let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0);
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">subscriptions</text>"
    );
}

/// A line through the medians, with the interval of each as a bar.
fn line(
    svg: &mut String,
    scale: &Scale,
    class: &str,
    label: &str,
    points: &[Point],
    of: impl Fn(&Point) -> Estimate,
) {
    let mut path = String::new();
    for (number, point) in points.iter().enumerate() {
        let (x, cost) = (scale.x(point.devices), of(point));
        let pen = if number == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{pen}{x:.1} {:.1}", scale.y(cost.median));
        let (low, high) = (scale.y(cost.low), scale.y(cost.high));
        let _ = writeln!(
            svg,
            "<path class=\"{class}\" style=\"stroke-dasharray:none\" d=\"M{x:.1} {low:.1}V{high:.1}\"/>\
             <circle class=\"{class}-fill\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4\"/>",
            scale.y(cost.median)
        );
    }
    let _ = writeln!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
    if let Some(last) = points.last() {
        let (x, y) = (scale.x(last.devices) + 10.0, scale.y(of(last).median) + 4.5);
        let _ = writeln!(
            svg,
            "<text class=\"{class}-fill\" x=\"{x:.1}\" y=\"{y:.1}\">{label}</text>"
        );
    }
}

/// `10 k`, `1 M`.
fn name(devices: u32) -> String {
    match devices {
        millions if millions >= 1_000_000 && millions % 100_000 == 0 => {
            format!("{} M", f64::from(millions) / 1e6)
        }
        thousands if thousands >= 1000 && thousands % 100 == 0 => {
            format!("{} k", f64::from(thousands) / 1e3)
        }
        few => few.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(devices: u32, server: f64) -> Point {
        let estimate = |median: f64| Estimate {
            median,
            low: median - 20.0,
            high: median + 20.0,
        };
        Point {
            devices,
            server: estimate(server),
            echo: estimate(1200.0),
        }
    }

    fn chart() -> String {
        growth(&[
            point(10_000, 1300.0),
            point(100_000, 1400.0),
            point(10_000_000, 1600.0),
        ])
    }

    #[test]
    fn the_chart_says_in_words_what_it_shows() {
        let svg = chart();
        assert!(svg.contains("<title id=\"title\">") && svg.contains("role=\"img\""));
        assert!(svg.contains("10 M subscriptions: server 1600 ns, echo 1200 ns"));
        assert!(svg.contains("prefers-color-scheme: dark"));
        assert_eq!(svg.matches("<circle").count(), 6);
    }

    #[test]
    fn the_scale_begins_at_nothing_and_holds_all_that_is_drawn() {
        let scale = Scale::of(&[point(10_000, 1300.0), point(10_000_000, 1600.0)]);
        assert_eq!(scale.y(0.0), HEIGHT - BOTTOM);
        assert!(scale.y(1620.0) >= TOP);
        assert_eq!(
            (scale.x(10_000), scale.x(10_000_000)),
            (LEFT, WIDTH - RIGHT)
        );
        let half = f64::midpoint(scale.x(10_000), scale.x(1_000_000));
        assert!((scale.x(100_000) - half).abs() < 1e-6);
    }

    #[test]
    fn lines_are_drawn_at_round_numbers() {
        assert_eq!(
            [9.0, 11.0, 1600.0, 26_000.0].map(step),
            [2.0, 5.0, 500.0, 10_000.0]
        );
        assert_eq!(name(2_500_000), "2.5 M");
        assert_eq!(name(1234), "1234");
    }

    #[test]
    fn no_point_or_one_makes_a_chart_without_nonsense() {
        for svg in [growth(&[]), growth(&[point(1000, 1.0)])] {
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
