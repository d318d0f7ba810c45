//! Pictures of values over time, as SVG that reads on light and on dark pages: lines, marked readings, shaded spans, limits.
//!
//! The size of a picture does not grow with its data: of each column of pixels a line keeps its first, smallest, largest and
//! last value, and marks that would cover each other are drawn once.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 24.0;
const PLOT_HEIGHT: f64 = 300.0;
const TITLE_HEIGHT: f64 = 54.0;
const LEGEND_ROW: f64 = 20.0;
const LANE_HEIGHT: f64 = 16.0;
const FOOT: f64 = 44.0;
/// Of the legend's letters, on the wide side: the reader's font is not known.
const LETTER: f64 = 6.5;

const STYLE: &str = "
  text{font:12px system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#57606a}
  .title{font-size:15px;font-weight:600;fill:#1f2328}
  .page{fill:#fff}.grid{stroke:#d8dee4}.frame{fill:none;stroke:#afb8c1}
  .line{fill:none;stroke-width:1.5;stroke-linejoin:round}.limit{stroke:#57606a;stroke-dasharray:5 4}
  .value{stroke:#0969da;color:#0969da}.held{stroke:#8250df;color:#8250df}.sent{stroke:#0969da;color:#0969da}
  .skipped{stroke:#8c959f;color:#8c959f}.flagged{stroke:#bc4c00;color:#bc4c00}.blocked{stroke:#cf222e;color:#cf222e}
  .local{stroke:#1a7f37;color:#1a7f37}.full{fill:currentColor}.open{fill:#fff}
  .mark{stroke-width:1.5}.cross{fill:none;stroke-width:2}.span{fill:currentColor;fill-opacity:.12;stroke:none}
  .lane{fill:currentColor;stroke:none}
  @media (prefers-color-scheme:dark){
  text{fill:#9198a1}.title{fill:#f0f6fc}.page{fill:#0d1117}.grid{stroke:#262c36}.frame{stroke:#3d444d}
  .limit{stroke:#9198a1}.value,.sent{stroke:#58a6ff;color:#58a6ff}.held{stroke:#bc8cff;color:#bc8cff}
  .skipped{stroke:#7d8590;color:#7d8590}.flagged{stroke:#f0883e;color:#f0883e}.blocked{stroke:#ff7b72;color:#ff7b72}
  .local{stroke:#3fb950;color:#3fb950}.open{fill:#0d1117}}
";

/// A picture.
#[derive(Debug, Clone, Default)]
pub struct Plot {
    /// The first line above it.
    pub title: String,
    /// The second.
    pub note: String,
    /// What the values are, with their unit.
    pub values: String,
    /// Lines. Together they make the scale.
    pub lines: Vec<Line>,
    /// Marked readings. Those far beyond the lines stand at the edge.
    pub marks: Vec<Marks>,
    /// Shaded times.
    pub spans: Vec<Span>,
    /// Limits that the values are held against.
    pub limits: Vec<Limit>,
    /// Strips below the plot; those in which nothing happened are left out.
    pub lanes: Vec<Lane>,
}

/// What something is, which makes its colour and shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// What was measured.
    Value,
    /// What a receiver believes.
    Held,
    /// A reading that was sent.
    Sent,
    /// A reading that was not.
    Skipped,
    /// A reading with a flag, or a time that is marked.
    Flagged,
    /// A reading that was stopped.
    Blocked,
    /// What was put in and not measured: a label, a value of the receiving agent.
    Local,
}

/// How the points of a line are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// From each to the next.
    Straight,
    /// Held until the next.
    Steps,
}

/// A line.
#[derive(Debug, Clone)]
pub struct Line {
    /// For the legend.
    pub name: String,
    /// What it is.
    pub ink: Ink,
    /// How its points are joined.
    pub join: Join,
    /// Unix ms and value, in order. A value that is no number interrupts it.
    pub points: Vec<(u64, f64)>,
}

/// Readings of one kind.
#[derive(Debug, Clone)]
pub struct Marks {
    /// For the legend.
    pub name: String,
    /// What they are.
    pub ink: Ink,
    /// The readings.
    pub points: Vec<Mark>,
}

/// One marked reading.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Unix ms.
    pub time_ms: u64,
    /// Its value. One that is no number stands at the lower edge.
    pub value: f64,
    /// What a reader who points at it is told; may be empty.
    pub text: String,
}

/// A shaded time.
#[derive(Debug, Clone)]
pub struct Span {
    /// Unix ms.
    pub from_ms: u64,
    /// Unix ms.
    pub to_ms: u64,
    /// Stands at its lower edge.
    pub name: String,
    /// Its colour.
    pub ink: Ink,
}

/// A horizontal line.
#[derive(Debug, Clone)]
pub struct Limit {
    /// Where.
    pub value: f64,
    /// Stands at its right end.
    pub name: String,
}

/// How large a part of the readings of each moment something happened to.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Stands at its left.
    pub name: String,
    /// For the legend; empty where the name says it all.
    pub legend: String,
    /// Its colour.
    pub ink: Ink,
    /// Unix ms, and whether it happened.
    pub points: Vec<(u64, bool)>,
}

impl Ink {
    fn class(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Held => "held",
            Self::Sent => "sent",
            Self::Skipped => "skipped",
            Self::Flagged => "flagged",
            Self::Blocked => "blocked",
            Self::Local => "local",
        }
    }

    /// The mark at x, y: kinds differ in shape, not in colour alone.
    fn mark(self, x: f64, y: f64) -> String {
        let class = self.class();
        match self {
            Self::Blocked => format!("<path class='cross {class}' d='M{:.1} {:.1}l8 8m0-8l-8 8'/>", x - 4.0, y - 4.0),
            Self::Flagged => {
                format!("<path class='mark open {class}' d='M{:.1} {:.1}l5 9h-10z'/>", x, y - 5.5)
            }
            Self::Local => {
                format!("<rect class='mark open {class}' x='{:.1}' y='{:.1}' width='7' height='7'/>", x - 3.5, y - 3.5)
            }
            Self::Skipped => format!("<circle class='mark open {class}' cx='{x:.1}' cy='{y:.1}' r='2.5'/>"),
            _ => format!("<circle class='mark full {class}' cx='{x:.1}' cy='{y:.1}' r='2.5'/>"),
        }
    }
}

impl Plot {
    /// The picture as an SVG document.
    pub fn to_svg(&self) -> String {
        let lanes: Vec<&Lane> =
            self.lanes.iter().filter(|lane| lane.points.iter().any(|(_, happened)| *happened)).collect();
        let legend = self.legend(&lanes);
        let top = TITLE_HEIGHT + LEGEND_ROW * legend.rows as f64 + 8.0;
        let frame = Frame::new(self, top);
        let height = frame.bottom + LANE_HEIGHT * lanes.len() as f64 + FOOT;
        let mut svg = Svg(format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}' \
             role='img' aria-label='{}'>\n<style>{STYLE}</style>\n<rect class='page' width='{WIDTH}' \
             height='{height}' rx='6'/>\n<text class='title' x='16' y='26'>{}</text>\n<text x='16' y='45'>{}</text>\n",
            Escaped(&self.title),
            Escaped(&self.title),
            Escaped(&self.note),
        ));
        svg.put(&legend.svg);
        self.draw_spans(&frame, &mut svg);
        frame.draw_axes(&self.values, lanes.len(), &mut svg);
        self.draw_limits(&frame, &mut svg);
        for line in &self.lines {
            let path = frame.path(line);
            if !path.is_empty() {
                svg.put(&format!("<path class='line {}' d='{path}'/>\n", line.ink.class()));
            }
        }
        for marks in &self.marks {
            frame.draw_marks(marks, &mut svg);
        }
        for (at, lane) in lanes.iter().enumerate() {
            frame.draw_lane(lane, at, &mut svg);
        }
        svg.put("</svg>\n");
        svg.0
    }

    fn legend(&self, lanes: &[&Lane]) -> Legend {
        let mut legend = Legend { svg: String::new(), rows: 1 };
        let mut x = 16.0;
        let lines = self.lines.iter().map(|line| (line.ink, line.name.as_str(), Sign::Line));
        let marks = self.marks.iter().filter(|marks| !marks.points.is_empty());
        let marks = marks.map(|marks| (marks.ink, marks.name.as_str(), Sign::Mark));
        let lanes = lanes.iter().filter(|lane| !lane.legend.is_empty());
        let lanes = lanes.map(|lane| (lane.ink, lane.legend.as_str(), Sign::Lane));
        for (ink, name, sign) in lines.chain(marks).chain(lanes) {
            let wide = 40.0 + name.chars().count() as f64 * LETTER;
            if x + wide > WIDTH - RIGHT && x > 16.0 {
                x = 16.0;
                legend.rows += 1;
            }
            let y = TITLE_HEIGHT + LEGEND_ROW * legend.rows as f64 - 10.0;
            let sign = match sign {
                Sign::Line => format!("<path class='line {}' d='M{x:.1} {y:.1}h18'/>", ink.class()),
                Sign::Mark => ink.mark(x + 9.0, y),
                Sign::Lane => format!(
                    "<g class='{}'><rect class='lane' x='{x:.1}' y='{:.1}' width='18' height='10'/></g>",
                    ink.class(),
                    y - 5.0
                ),
            };
            legend.svg += &format!("{sign}<text x='{:.1}' y='{:.1}'>{}</text>\n", x + 24.0, y + 4.0, Escaped(name));
            x += wide;
        }
        legend
    }

    fn draw_spans(&self, frame: &Frame, svg: &mut Svg) {
        for span in &self.spans {
            let from = frame.x(span.from_ms).clamp(LEFT, WIDTH - RIGHT);
            let wide = (frame.x(span.to_ms).clamp(LEFT, WIDTH - RIGHT) - from).max(1.0);
            svg.put(&format!(
                "<rect class='span {}' x='{from:.1}' y='{:.1}' width='{wide:.1}' height='{PLOT_HEIGHT}'/>\
                 <text x='{:.1}' y='{:.1}' text-anchor='middle'>{}</text>\n",
                span.ink.class(),
                frame.top,
                from + wide / 2.0,
                frame.bottom - 8.0,
                Escaped(&span.name)
            ));
        }
    }

    fn draw_limits(&self, frame: &Frame, svg: &mut Svg) {
        for limit in &self.limits {
            if limit.value < frame.low || limit.value > frame.high {
                continue;
            }
            let y = frame.y(limit.value);
            svg.put(&format!(
                "<path class='limit' d='M{LEFT} {y:.1}H{}'/><text x='{}' y='{:.1}' text-anchor='end'>{}</text>\n",
                WIDTH - RIGHT,
                WIDTH - RIGHT - 4.0,
                if y < frame.top + 20.0 { y + 14.0 } else { y - 4.0 },
                Escaped(&limit.name)
            ));
        }
    }
}

/// What the legend shows before a name.
enum Sign {
    Line,
    Mark,
    Lane,
}

struct Legend {
    svg: String,
    rows: usize,
}

struct Svg(String);

impl Svg {
    fn put(&mut self, text: &str) {
        self.0.push_str(text);
    }
}

/// Where times and values come to lie.
struct Frame {
    top: f64,
    bottom: f64,
    from_ms: u64,
    to_ms: u64,
    low: f64,
    high: f64,
}

impl Frame {
    fn new(plot: &Plot, top: f64) -> Self {
        let times = || {
            let lines = plot.lines.iter().flat_map(|line| line.points.iter().map(|point| point.0));
            let marks = plot.marks.iter().flat_map(|marks| marks.points.iter().map(|mark| mark.time_ms));
            lines.chain(marks).chain(plot.spans.iter().flat_map(|span| [span.from_ms, span.to_ms]))
        };
        let from_ms = times().min().unwrap_or(0);
        let to_ms = times().max().unwrap_or(0).max(from_ms.saturating_add(1));
        let (low, high) = plot.scale();
        Self { top, bottom: top + PLOT_HEIGHT, from_ms, to_ms, low, high }
    }

    fn x(&self, time_ms: u64) -> f64 {
        let part = (time_ms as f64 - self.from_ms as f64) / (self.to_ms - self.from_ms) as f64;
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - (value - self.low) / (self.high - self.low) * PLOT_HEIGHT
    }

    fn draw_axes(&self, values: &str, lanes: usize, svg: &mut Svg) {
        let step = nice((self.high - self.low) / 6.0);
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let first = (self.low / step).ceil();
        for at in 0..=20 {
            // Not -0.
            let value = (first + f64::from(at)) * step + 0.0;
            if value > self.high {
                break;
            }
            let y = self.y(value);
            svg.put(&format!(
                "<path class='grid' d='M{LEFT} {y:.1}H{}'/><text x='{}' y='{:.1}' text-anchor='end'>{value:.decimals$}\
                 </text>\n",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
            ));
        }
        let step_ms = time_step(self.to_ms - self.from_ms);
        let foot = self.bottom + LANE_HEIGHT * lanes as f64;
        let mut next = self.from_ms.checked_next_multiple_of(step_ms);
        while let Some(time_ms) = next.filter(|time_ms| *time_ms <= self.to_ms) {
            let x = self.x(time_ms);
            let label = time_label(time_ms, step_ms);
            let most = WIDTH - 4.0 - label.len() as f64 * LETTER / 2.0;
            svg.put(&format!(
                "<path class='grid' d='M{x:.1} {:.1}V{foot:.1}'/><text x='{:.1}' y='{:.1}' text-anchor='middle'>{label}\
                 </text>\n",
                self.top,
                x.min(most),
                foot + 17.0,
            ));
            next = time_ms.checked_add(step_ms);
        }
        let middle = self.top + PLOT_HEIGHT / 2.0;
        svg.put(&format!(
            "<rect class='frame' x='{LEFT}' y='{:.1}' width='{}' height='{PLOT_HEIGHT}'/>\
             <text x='18' y='{middle}' text-anchor='middle' transform='rotate(-90 18 {middle})'>{}</text>\
             <text x='{}' y='{:.1}' text-anchor='end'>{}</text>\n",
            self.top,
            WIDTH - LEFT - RIGHT,
            Escaped(values),
            WIDTH - RIGHT,
            foot + 35.0,
            self.days()
        ));
    }

    fn days(&self) -> String {
        let [from, to] =
            [self.from_ms, self.to_ms].map(|ms| sealcast_reading::utc(ms).chars().take(10).collect::<String>());
        if from == to { format!("time (UTC), {from}") } else { format!("time (UTC), {from} to {to}") }
    }

    /// SVG path data.
    fn path(&self, line: &Line) -> String {
        let mut path = String::new();
        let mut column = Column::default();
        let mut last: Option<f64> = None;
        for &(time_ms, value) in &line.points {
            if !value.is_finite() {
                column.flush(&mut path);
                column.broken = true;
                last = None;
                continue;
            }
            let (x, y) = (self.x(time_ms), self.y(value).clamp(self.top, self.bottom));
            if let (Join::Steps, Some(before)) = (line.join, last) {
                column.add(x, before, &mut path);
            }
            column.add(x, y, &mut path);
            last = Some(y);
        }
        if let (Join::Steps, Some(before)) = (line.join, last) {
            column.add(self.x(self.to_ms), before, &mut path);
        }
        column.flush(&mut path);
        path
    }

    fn draw_marks(&self, marks: &Marks, svg: &mut Svg) {
        let mut taken = BTreeSet::new();
        for mark in &marks.points {
            let x = self.x(mark.time_ms);
            let value = if mark.value.is_finite() { mark.value } else { self.low };
            let y = self.y(value).clamp(self.top + 6.0, self.bottom - 6.0);
            // Two pixels apart, or it is the same to the eye.
            if !taken.insert(((x / 2.0) as i64, (y / 2.0) as i64)) {
                continue;
            }
            let sign = marks.ink.mark(x, y);
            if mark.text.is_empty() {
                svg.put(&format!("{sign}\n"));
            } else {
                let time = sealcast_reading::utc(mark.time_ms);
                svg.put(&format!("<g>{sign}<title>{time}: {}</title></g>\n", Escaped(&mark.text)));
            }
        }
    }

    fn draw_lane(&self, lane: &Lane, at: usize, svg: &mut Svg) {
        let y = self.bottom + LANE_HEIGHT * at as f64 + 4.0;
        svg.put(&format!(
            "<text x='{}' y='{:.1}' text-anchor='end'>{}</text><g class='{}'>\n",
            LEFT - 8.0,
            y + 9.0,
            Escaped(&lane.name),
            lane.ink.class()
        ));
        let columns = (WIDTH - LEFT - RIGHT) as usize / 2;
        let mut parts = vec![(0_u32, 0_u32); columns + 1];
        for &(time_ms, happened) in &lane.points {
            let column = ((self.x(time_ms) - LEFT) / 2.0).max(0.0) as usize;
            if let Some((hits, all)) = parts.get_mut(column) {
                *hits += u32::from(happened);
                *all += 1;
            }
        }
        for (column, (hits, all)) in parts.into_iter().enumerate().filter(|(_, (hits, _))| *hits > 0) {
            // One hit among hundreds has to be seen as well.
            let opacity = 0.25 + 0.75 * f64::from(hits) / f64::from(all);
            let x = LEFT + 2.0 * column as f64;
            svg.put(&format!(
                "<rect class='lane' x='{x:.0}' y='{y:.1}' width='2' height='10' fill-opacity='{opacity:.2}'/>\n"
            ));
        }
        svg.put("</g>\n");
    }
}

impl Plot {
    /// The smallest and largest value that are drawn: all of the lines, and the marks that are not far beyond.
    fn scale(&self) -> (f64, f64) {
        let lines = self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
        let (low, high) = extent(lines).or_else(|| extent(self.mark_values())).unwrap_or((0.0, 1.0));
        let room = (high - low).max(high.abs() * 0.02).max(1e-6) * 1.5;
        let limits = self.limits.iter().map(|limit| limit.value);
        let near = self.mark_values().chain(limits).filter(|value| (low - room..=high + room).contains(value));
        let (low, high) = extent(near.chain([low, high])).unwrap_or((low, high));
        let margin = (high - low).max(high.abs() * 0.02).max(1e-6) * 0.07;
        (low - margin, high + margin)
    }

    fn mark_values(&self) -> impl Iterator<Item = f64> {
        self.marks.iter().flat_map(|marks| marks.points.iter().map(|mark| mark.value))
    }
}

fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |found: Option<(f64, f64)>, value| {
        Some(found.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
    })
}

/// The points of a line that fall into one column of pixels.
#[derive(Default)]
struct Column {
    at: Option<i64>,
    first: (f64, f64),
    low: (f64, f64),
    high: (f64, f64),
    last: (f64, f64),
    /// The next point begins a new stroke.
    broken: bool,
    started: bool,
}

impl Column {
    fn add(&mut self, x: f64, y: f64, path: &mut String) {
        let at = x as i64;
        let point = (x, y);
        if self.at != Some(at) {
            self.flush(path);
            (self.at, self.first, self.low, self.high, self.last) = (Some(at), point, point, point, point);
            return;
        }
        if y < self.low.1 {
            self.low = point;
        }
        if y > self.high.1 {
            self.high = point;
        }
        self.last = point;
    }

    fn flush(&mut self, path: &mut String) {
        if self.at.take().is_none() {
            return;
        }
        let mut before = None;
        for point in [self.first, self.low, self.high, self.last] {
            if before == Some(point) {
                continue;
            }
            before = Some(point);
            let pen = if self.broken || !self.started { 'M' } else { 'L' };
            (self.broken, self.started) = (false, true);
            // Writing to a String can't fail.
            let _ = write!(path, "{pen}{:.1} {:.1}", point.0, point.1);
        }
    }
}

/// 1, 2 or 5 times a power of ten, near `step`.
fn nice(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(1e-9).log10().floor());
    let part = step / power;
    power
        * match part {
            ..1.5 => 1.0,
            1.5..3.5 => 2.0,
            3.5..7.5 => 5.0,
            _ => 10.0,
        }
}

/// Time between two labels so that there are at most nine of them.
fn time_step(span_ms: u64) -> u64 {
    const SECOND: u64 = 1_000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const STEPS: [u64; 27] = [
        SECOND / 10,
        SECOND / 2,
        SECOND,
        2 * SECOND,
        5 * SECOND,
        10 * SECOND,
        15 * SECOND,
        30 * SECOND,
        MINUTE,
        2 * MINUTE,
        5 * MINUTE,
        10 * MINUTE,
        15 * MINUTE,
        30 * MINUTE,
        HOUR,
        2 * HOUR,
        3 * HOUR,
        6 * HOUR,
        12 * HOUR,
        DAY,
        2 * DAY,
        5 * DAY,
        10 * DAY,
        30 * DAY,
        90 * DAY,
        365 * DAY,
        3_650 * DAY,
    ];
    STEPS.into_iter().find(|step| span_ms / step <= 9).unwrap_or_else(|| (span_ms / 9).max(1))
}

fn time_label(time_ms: u64, step_ms: u64) -> String {
    let text = sealcast_reading::utc(time_ms);
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default().to_owned();
    match step_ms {
        86_400_000.. => part(0, 10),
        60_000.. => part(11, 16),
        1_000.. => part(11, 19),
        _ => format!("{}.{}", part(11, 19), time_ms % 1000 / 100),
    }
}

/// Text within XML.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '\'' => f.write_str("&#39;")?,
                '"' => f.write_str("&quot;")?,
                // XML 1.0 knows no other control characters, not even escaped.
                c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: Vec<(u64, f64)>) -> Plot {
        let line = Line { name: "a < b & 'c'".into(), ink: Ink::Value, join: Join::Straight, points };
        Plot { title: "\u{1}".into(), values: "°C".into(), lines: vec![line], ..Plot::default() }
    }

    #[test]
    fn a_picture_does_not_grow_with_its_data() {
        let points = |count: u64| (0..count).map(|at| (at * 1_000, ((at * 7_919) % 100) as f64)).collect();
        let (small, large) = (line(points(20_000)).to_svg(), line(points(400_000)).to_svg());
        assert!(large.len() < small.len() * 11 / 10, "{} {}", small.len(), large.len());
    }

    #[test]
    fn no_text_breaks_out() {
        let svg = line(vec![(0, 1.0), (1_000, f64::NAN), (2_000, 3.0)]).to_svg();
        assert!(svg.contains("a &lt; b &amp; &#39;c&#39;") && !svg.contains('\u{1}') && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn nothing_and_extremes_are_drawn() {
        for points in [
            vec![],
            vec![(5, 2.5)],
            vec![(0, 1e300), (1, -1e300)],
            vec![(0, f64::INFINITY), (u64::MAX, 0.0)],
            vec![(u64::MAX - 1, 0.0), (u64::MAX, 1e-300)],
        ] {
            let svg = line(points.clone()).to_svg();
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"), "{points:?} {svg}");
        }
    }

    #[test]
    fn labels_fit_the_span() {
        for (span_ms, step_ms) in
            [(1_000, 500), (60_000, 10_000), (86_400_000, 10_800_000), (80 * 86_400_000, 864_000_000)]
        {
            assert_eq!(time_step(span_ms), step_ms);
        }
        assert_eq!(time_label(1_386_018_900_000, 60_000), "21:15");
        assert_eq!([nice(0.5), nice(1.0), nice(9.0)], [0.5, 1.0, 10.0]);
    }
}
