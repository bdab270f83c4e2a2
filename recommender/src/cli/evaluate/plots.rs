//! Plots as SVG, drawn without scripts or anything from elsewhere.

use std::fmt::Write as _;

const WIDTH: f64 = 680.0;
const ROW: f64 = 24.0;
const HEIGHT: f64 = 300.0;
/// Room for the names of axes and models.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;
const COLORS: [&str; 8] = [
    "#0b6e99", "#d1495b", "#edae49", "#2e7d32", "#6a4c93", "#5c677d", "#b56576", "#00897b",
];

/// A line or a point with its name.
pub(super) struct Named<'a> {
    pub name: &'a str,
    pub points: Vec<(f64, f64)>,
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

fn open(page: &mut String, title: &str, height: f64) {
    let title = escaped(title);
    let _ = write!(
        page,
        "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
        height=\"{height}\" role=\"img\" aria-label=\"{title}\">"
    );
}

/// A bar for each model, the longest first.
pub(super) fn bars(page: &mut String, title: &str, values: &[(&str, f64)]) {
    let top = values
        .iter()
        .map(|(_, value)| *value)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].1.total_cmp(&values[*a].1));
    open(page, title, ROW * values.len() as f64 + 6.0);
    for (row, at) in order.into_iter().enumerate() {
        let (name, value) = values[at];
        let (y, length) = (row as f64 * ROW + 3.0, value / top * (WIDTH - 180.0));
        let _ = write!(
            page,
            "<text x=\"104\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect x=\"112\" y=\"{y:.1}\" \
            width=\"{length:.1}\" height=\"18\" rx=\"2\" fill=\"{}\"/><text x=\"{:.1}\" y=\"{:.1}\">{value:.4}</text>",
            y + 14.0,
            escaped(name),
            color(at),
            118.0 + length,
            y + 14.0,
        );
    }
    page.push_str("</svg></figure>");
}

/// Lines (more than one point) and dots on two axes; names stand beside the last point, apart from each other.
pub(super) fn chart(page: &mut String, title: &str, x: &Scale<'_>, y: &Scale<'_>, all: &[Named<'_>]) {
    let points = || all.iter().flat_map(|named| named.points.iter().copied());
    let (mut left, mut right) = points().fold((f64::MAX, f64::MIN), |(low, high), (x, _)| {
        (low.min(x), high.max(x))
    });
    let up = points().map(|(_, y)| y).fold(f64::MIN_POSITIVE, f64::max) * 1.08;
    if all.iter().all(|named| named.points.len() < 2) {
        // Dots: shares, which begin at nothing.
        (left, right) = (0.0, right * 1.08);
    }
    let span = if right > left { right - left } else { 1.0 };
    let at_x = |value: f64| LEFT + (value - left) / span * (WIDTH - LEFT - RIGHT);
    let at_y = |value: f64| TOP + (1.0 - value / up) * (HEIGHT - TOP - BOTTOM);
    open(page, title, HEIGHT);
    for step in 0..=4 {
        let share = f64::from(step) / 4.0;
        let (value, line) = (up * share, at_y(up * share));
        let _ = write!(
            page,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{line:.1}\" x2=\"{:.1}\" y2=\"{line:.1}\"/>\
            <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            line + 4.0,
            (y.write)(value),
        );
        let value = left + span * share;
        let _ = write!(
            page,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            at_x(value),
            HEIGHT - BOTTOM + 18.0,
            (x.write)(value),
        );
    }
    let _ = write!(
        page,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" class=\"axis\">{}</text>\
        <text x=\"14\" y=\"{:.1}\" text-anchor=\"middle\" class=\"axis\" transform=\"rotate(-90 14 {:.1})\">{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 6.0,
        escaped(x.name),
        (TOP + HEIGHT - BOTTOM) / 2.0,
        (TOP + HEIGHT - BOTTOM) / 2.0,
        escaped(y.name),
    );
    let mut labels: Vec<(usize, f64, f64)> = Vec::new();
    for (at, named) in all.iter().enumerate() {
        let Some(&(last_x, last_y)) = named.points.last() else {
            continue;
        };
        if named.points.len() > 1 {
            let path: Vec<String> = named
                .points
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y)))
                .collect();
            let _ = write!(
                page,
                "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"{}\"/>",
                color(at),
                path.join(" ")
            );
        } else {
            let _ = write!(
                page,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\" fill=\"{}\"/>",
                at_x(last_x),
                at_y(last_y),
                color(at)
            );
        }
        labels.push((at, at_x(last_x) + 9.0, at_y(last_y) + 4.0));
    }
    labels.sort_by(|a, b| a.2.total_cmp(&b.2));
    for next in 1..labels.len() {
        // Only names that would stand on each other are moved apart.
        let taken = labels[..next]
            .iter()
            .filter(|known| (known.1 - labels[next].1).abs() < 90.0);
        let lowest = taken.map(|known| known.2 + 13.0).fold(f64::MIN, f64::max);
        labels[next].2 = labels[next].2.max(lowest);
    }
    for (at, x, y) in labels {
        let _ = write!(
            page,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{}\">{}</text>",
            color(at),
            escaped(all[at].name)
        );
    }
    page.push_str("</svg></figure>");
}
