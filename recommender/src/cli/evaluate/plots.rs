//! Plots as SVG, drawn without scripts or anything from elsewhere.

use std::fmt::Write as _;

const WIDTH: f64 = 680.0;
const ROW: f64 = 24.0;
const HEIGHT: f64 = 320.0;
/// Room for the names of axes and models.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;
/// Room for what is written beside a dot.
const MARK: f64 = 24.0;
/// Told apart by people who see colours differently too, and each readable as text on white (4.5 to 1).
const COLORS: [&str; 8] = [
    "#0b5f86", "#b3331f", "#8a5a00", "#256b3b", "#6a4c93", "#4f5b68", "#a0416a", "#00706a",
];

/// The looks of what is drawn, wherever it stands.
pub(super) const STYLE: &str = "svg text{font:12px Inter,system-ui,sans-serif;fill:#1d2733}svg .axis{fill:#56626e}\
    svg .grid{stroke:#e3e0d8}svg .mark{font-size:11px}";

/// A line or a point with its name.
pub(super) struct Named<'a> {
    pub name: &'a str,
    pub points: Vec<(f64, f64)>,
    /// What stands beside each point, where each has a name of its own.
    pub marks: Vec<String>,
}

/// An axis: its name, and how a value of it is written.
pub(super) struct Scale<'a> {
    pub name: &'a str,
    pub write: &'a dyn Fn(f64) -> String,
}

fn color(at: usize) -> &'static str {
    COLORS[at % COLORS.len()]
}

/// Text as HTML shows it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A drawing with its title above, as a part of a page.
pub(super) fn figure(page: &mut String, title: &str, drawing: &str) {
    let _ = write!(
        page,
        "<figure><figcaption>{}</figcaption>{drawing}</figure>",
        escaped(title)
    );
}

fn open(title: &str, height: f64) -> String {
    let title = escaped(title);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">"
    )
}

/// A bar for each model, the longest first.
pub(super) fn bars(page: &mut String, title: &str, values: &[(&str, f64)]) {
    let top = values
        .iter()
        .map(|(_, value)| *value)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].1.total_cmp(&values[*a].1));
    let mut drawing = open(title, ROW * values.len() as f64 + 6.0);
    for (row, at) in order.into_iter().enumerate() {
        let (name, value) = values[at];
        let (y, length) = (row as f64 * ROW + 3.0, value / top * (WIDTH - 180.0));
        let _ = write!(
            drawing,
            "<text x=\"104\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect x=\"112\" y=\"{y:.1}\" \
            width=\"{length:.1}\" height=\"18\" rx=\"2\" fill=\"{}\"/><text x=\"{:.1}\" y=\"{:.1}\">{value:.4}</text>",
            y + 14.0,
            escaped(name),
            color(at),
            118.0 + length,
            y + 14.0,
        );
    }
    drawing.push_str("</svg>");
    figure(page, title, &drawing);
}

/// Two axes.
pub(super) struct Panel<'a> {
    /// What is seen.
    pub title: &'a str,
    pub x: Scale<'a>,
    pub y: Scale<'a>,
}

/// Where values stand, and which of them are written at the axes.
struct Place {
    x: Span,
    y: Span,
}

/// What an axis goes over.
struct Span {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Span {
    /// From nothing on.
    fn from_zero(values: impl Iterator<Item = f64>) -> Self {
        let high = values.fold(f64::MIN_POSITIVE, f64::max) * 1.08;
        Self::with_round_ticks(0.0, high)
    }

    /// As far as the values go, with some room: what differs a little is told apart.
    fn around(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let room = ((high - low) * 0.12).max(1e-9);
        Self::with_round_ticks((low - room).max(0.0), high + room)
    }

    /// As far as the values go, in four equal parts: times have no round numbers.
    fn of_time(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let high = if high > low { high } else { low + 1.0 };
        let tick = |step: i32| low + (high - low) * f64::from(step) / 4.0;
        Self {
            low,
            high,
            ticks: (0..=4).map(tick).collect(),
        }
    }

    fn with_round_ticks(low: f64, high: f64) -> Self {
        let rough = (high - low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let first = (low / step).ceil() as i64;
        let ticks = (first..)
            .map(|n| n as f64 * step)
            .take_while(|tick| *tick <= high)
            .take(12)
            .collect();
        Self { low, high, ticks }
    }

    /// Which share of the axis lies before a value.
    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

impl Place {
    fn of(all: &[Named<'_>]) -> Self {
        let points = || all.iter().flat_map(|named| named.points.iter().copied());
        let (xs, ys) = (|| points().map(|(x, _)| x), || points().map(|(_, y)| y));
        if all.iter().any(|named| !named.marks.is_empty()) {
            return Self {
                x: Span::around(xs()),
                y: Span::around(ys()),
            };
        }
        let dots = all.iter().all(|named| named.points.len() < 2);
        Self {
            x: if dots {
                Span::from_zero(xs())
            } else {
                Span::of_time(xs())
            },
            y: Span::from_zero(ys()),
        }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (1.0 - self.y.share(value)) * (HEIGHT - TOP - BOTTOM)
    }
}

impl Panel<'_> {
    /// Lines (more than one point) and dots; names stand beside the last point, apart from each other.
    pub fn draw(&self, all: &[Named<'_>]) -> String {
        self.draw_with(all, &[])
    }

    /// The same with a dashed line at each of these values of x.
    pub fn draw_with(&self, all: &[Named<'_>], at: &[f64]) -> String {
        let place = Place::of(all);
        let mut drawing = open(self.title, HEIGHT);
        self.axes(&mut drawing, &place);
        let within = place.x.low..=place.x.high;
        for x in at
            .iter()
            .filter(|value| within.contains(*value))
            .map(|value| place.x(*value))
        {
            let _ = write!(
                drawing,
                "<line stroke=\"#56626e\" stroke-dasharray=\"4 4\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{:.1}\"/>",
                HEIGHT - BOTTOM
            );
        }
        let mut labels: Vec<(usize, f64, f64)> = Vec::new();
        for (at, named) in all.iter().enumerate() {
            let Some(&(last_x, last_y)) = named.points.last() else {
                continue;
            };
            line(&mut drawing, &place, named, color(at));
            // Beside a point, and below its mark where it has one.
            let below = if named.marks.is_empty() { 4.0 } else { 12.0 };
            labels.push((at, place.x(last_x) + 9.0, place.y(last_y) + below));
        }
        for (at, x, y) in apart(labels) {
            let _ = write!(
                drawing,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" style=\"fill:{};font-weight:600\">{}</text>",
                color(at),
                escaped(all[at].name)
            );
        }
        drawing.push_str("</svg>");
        drawing
    }

    fn axes(&self, drawing: &mut String, place: &Place) {
        for value in place.y.ticks.iter().copied() {
            let line = place.y(value);
            let _ = write!(
                drawing,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{line:.1}\" x2=\"{:.1}\" y2=\"{line:.1}\"/>\
                <text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                line + 4.0,
                (self.y.write)(value),
            );
        }
        for value in place.x.ticks.iter().copied() {
            let _ = write!(
                drawing,
                "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                place.x(value),
                HEIGHT - BOTTOM + 18.0,
                (self.x.write)(value),
            );
        }
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        let _ = write!(
            drawing,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" class=\"axis\">{}</text>\
            <text x=\"14\" y=\"{middle:.1}\" text-anchor=\"middle\" class=\"axis\" \
            transform=\"rotate(-90 14 {middle:.1})\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 6.0,
            escaped(self.x.name),
            escaped(self.y.name),
        );
    }
}

fn line(drawing: &mut String, place: &Place, named: &Named<'_>, color: &str) {
    if named.points.len() > 1 {
        let path: Vec<String> = named
            .points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", place.x(*x), place.y(*y)))
            .collect();
        let _ = write!(
            drawing,
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" stroke-linejoin=\"round\" points=\"{}\"/>",
            path.join(" ")
        );
    }
    let dots = named.points.len() == 1 || !named.marks.is_empty();
    for (x, y) in named.points.iter().filter(|_| dots) {
        let _ = write!(
            drawing,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4.5\" fill=\"{color}\"/>",
            place.x(*x),
            place.y(*y),
        );
    }
    let mut before: Option<f64> = None;
    for ((x, y), mark) in named.points.iter().zip(&named.marks) {
        let (x, y) = (place.x(*x), place.y(*y));
        // Where dots are crowded, not each of them: the order tells the rest.
        if before.is_some_and(|before| (x - before).abs() < MARK) {
            continue;
        }
        before = Some(x);
        let _ = write!(
            drawing,
            "<text class=\"mark\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            y - 9.0,
            escaped(mark)
        );
    }
}

/// Names that would stand on each other, moved apart.
fn apart(mut labels: Vec<(usize, f64, f64)>) -> Vec<(usize, f64, f64)> {
    labels.sort_by(|a, b| a.2.total_cmp(&b.2));
    for next in 1..labels.len() {
        let taken = labels[..next]
            .iter()
            .filter(|known| (known.1 - labels[next].1).abs() < 90.0);
        let lowest = taken.map(|known| known.2 + 13.0).fold(f64::MIN, f64::max);
        labels[next].2 = labels[next].2.max(lowest);
    }
    labels
}

/// A title and what is drawn below it.
pub(super) type Titled = (String, String);

/// Room for a title.
const HEAD: f64 = 34.0;

/// Drawings below each other, as a file of their own.
pub(super) fn picture(drawings: &[Titled]) -> String {
    let height = (HEAD + HEIGHT) * drawings.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\
        <style>{STYLE}</style><rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fffefa\"/>"
    );
    for (at, (title, drawing)) in drawings.iter().enumerate() {
        let y = (HEAD + HEIGHT) * at as f64 + HEAD;
        let _ = write!(
            svg,
            "<text x=\"16\" y=\"{:.1}\" style=\"font-weight:600;font-size:13.5px\">{}</text>",
            y - 10.0,
            escaped(title)
        );
        let placed = drawing.replacen("<svg ", &format!("<svg y=\"{y}\" "), 1);
        svg.push_str(&placed);
    }
    svg.push_str("</svg>\n");
    svg
}
