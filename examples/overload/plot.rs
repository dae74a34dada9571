//! Plots as SVG: lines over an axis. They are readable on white and on black, as files and within a page.

use std::fmt::Write;

/// A grey that is legible on white and on black.
const GREY: &str = "#7b7b7b";
/// Colours that differ, together with the dashes, for readers who cannot see red or green.
const COLOURS: [&str; 10] = [
    "#7b7b7b", "#c08a00", "#d1495b", "#0f8fb8", "#2f9e44", "#8b5cf6", "#e0701a", "#b83fa5", "#1fa39a",
    "#5c7cfa",
];
const DASHES: [&str; 10] = ["", "2 3", "8 3", "", "6 3 2 3", "", "2 3", "8 3", "", "6 3 2 3"];

const WIDTH: f64 = 760.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 740.0;
const ABOVE: f64 = 44.0;
const BELOW: f64 = 48.0;
const LEGEND_ROW: f64 = 20.0;
const LEGEND_COLUMNS: usize = 3;

#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// The name of the axis, with the unit.
    pub(crate) label: &'static str,
    /// The values from one end of the axis to the other.
    pub(crate) ticks: Vec<f64>,
    pub(crate) logarithmic: bool,
}

impl Axis {
    pub(crate) fn linear(label: &'static str, ticks: impl Into<Vec<f64>>) -> Self {
        Self { label, ticks: ticks.into(), logarithmic: false }
    }

    pub(crate) fn logarithmic(label: &'static str, ticks: impl Into<Vec<f64>>) -> Self {
        Self { label, ticks: ticks.into(), logarithmic: true }
    }

    /// Returns the position of `value` as a share of the axis, clamped to its ends.
    fn share(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.ln() } else { value };
        let (Some(first), Some(last)) = (self.ticks.first(), self.ticks.last()) else { return 0.0 };
        ((scale(value) - scale(*first)) / (scale(*last) - scale(*first))).clamp(0.0, 1.0)
    }
}

/// Points from left to right. A value of `None` is a gap.
pub(crate) type Line = Vec<(f64, Option<f64>)>;

/// A highlighted part of the horizontal axis.
pub(crate) struct Span {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) caption: &'static str,
}

pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) height: f64,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) spans: Vec<Span>,
    /// One line for each name, in the same order.
    pub(crate) lines: Vec<Line>,
}

/// Returns a plot of the panels, one below the other, with a legend. It has no empty line, which would end
/// the plot within a page of Markdown.
pub(crate) fn draw(title: &str, names: &[&str], panels: &[Panel]) -> String {
    let rows = names.len().div_ceil(LEGEND_COLUMNS);
    let panels_height: f64 = panels.iter().map(|panel| ABOVE + panel.height + BELOW).sum();
    let height = panels_height + LEGEND_ROW * rows as f64 + 8.0;
    let mut svg = Svg(String::new());
    svg.add(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"{GREY}\">"
    ));
    svg.add(format_args!("<title>{title}</title>"));
    let mut top = 0.0;
    for panel in panels {
        panel.draw(&mut svg, top + ABOVE);
        top += ABOVE + panel.height + BELOW;
    }
    for (place, name) in names.iter().enumerate() {
        let x = LEFT + (place % LEGEND_COLUMNS) as f64 * 228.0;
        let y = top + LEGEND_ROW * (place / LEGEND_COLUMNS) as f64 + 10.0;
        svg.polyline(place, &[(x, y), (x + 28.0, y)]);
        svg.text(x + 34.0, y + 4.0, "start", name);
    }
    svg.add(format_args!("</svg>"));
    svg.0
}

impl Panel {
    fn draw(&self, svg: &mut Svg, top: f64) {
        let x = |value| LEFT + self.x.share(value) * (RIGHT - LEFT);
        let bottom = top + self.height;
        let y = |value| bottom - self.y.share(value) * self.height;
        svg.add(format_args!(
            "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\" font-size=\"13\">{}</text>",
            top - 26.0,
            self.title
        ));
        for Span { from, to, caption } in &self.spans {
            let (from, to) = (x(*from), x(*to));
            svg.add(format_args!(
                "<rect x=\"{from:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{}\" fill-opacity=\"0.14\"/>",
                to - from,
                self.height
            ));
            svg.text((from + to) / 2.0, top - 7.0, "middle", caption);
        }
        for tick in &self.y.ticks {
            svg.rule((LEFT, y(*tick)), (RIGHT, y(*tick)), 0.3);
            svg.text(LEFT - 7.0, y(*tick) + 4.0, "end", &tick.to_string());
        }
        for tick in &self.x.ticks {
            svg.rule((x(*tick), bottom), (x(*tick), bottom + 4.0), 1.0);
            svg.text(x(*tick), bottom + 17.0, "middle", &tick.to_string());
        }
        svg.rule((LEFT, bottom), (RIGHT, bottom), 1.0);
        svg.text((LEFT + RIGHT) / 2.0, bottom + 34.0, "middle", self.x.label);
        let middle = top + self.height / 2.0;
        svg.add(format_args!(
            "<text x=\"16\" y=\"{middle}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {middle})\">{}</text>",
            self.y.label
        ));
        for (place, line) in self.lines.iter().enumerate() {
            for piece in line.split(|(_, value)| value.is_none()).filter(|piece| !piece.is_empty()) {
                let at = |(at, value): &(f64, Option<f64>)| Some((x(*at), y((*value)?)));
                svg.polyline(place, &piece.iter().filter_map(at).collect::<Vec<_>>());
            }
        }
    }
}

/// Returns an SVG as a data URI, for pages that cannot refer to a file.
pub(crate) fn data_uri(svg: &str) -> String {
    let mut uri = "data:image/svg+xml,".to_owned();
    for byte in svg.lines().collect::<String>().bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/:,=;+".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            write!(uri, "%{byte:02X}").expect("a string accepts every write");
        }
    }
    uri.push('\n');
    uri
}

struct Svg(String);

impl Svg {
    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{element}").expect("a string accepts every write");
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        self.add(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"));
    }

    fn rule(&mut self, from: (f64, f64), to: (f64, f64), opacity: f64) {
        self.add(format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{GREY}\" stroke-opacity=\"{opacity}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    fn polyline(&mut self, place: usize, points: &[(f64, f64)]) {
        let of = |styles: [&'static str; 10]| styles.into_iter().cycle().nth(place).unwrap_or_default();
        let mut places = String::new();
        for (x, y) in points {
            write!(places, "{x:.1},{y:.1} ").expect("a string accepts every write");
        }
        let (colour, dashes) = (of(COLOURS), of(DASHES));
        // A dashed line may cover a solid one.
        let width = if dashes.is_empty() { 3 } else { 2 };
        self.add(format_args!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-dasharray=\"{dashes}\" stroke-width=\"{width}\" \
             points=\"{}\"/>",
            places.trim_end()
        ));
    }
}
