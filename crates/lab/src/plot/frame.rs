//! Where a picture's times and values come to lie, and what is drawn by that.

use std::{collections::BTreeSet, fmt::Write as _};

use super::parts::{Escaped, Join, LANE_HEIGHT, LEFT, LETTER, Lane, Line, Marks, PLOT_HEIGHT, Plot, RIGHT, Svg, WIDTH};

/// Where times and values come to lie.
pub(super) struct Frame {
    pub(super) top: f64,
    pub(super) bottom: f64,
    from_ms: u64,
    to_ms: u64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Frame {
    pub(super) fn new(plot: &Plot, top: f64) -> Self {
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

    pub(super) fn x(&self, time_ms: u64) -> f64 {
        let part = (time_ms as f64 - self.from_ms as f64) / (self.to_ms - self.from_ms) as f64;
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        self.bottom - (value - self.low) / (self.high - self.low) * PLOT_HEIGHT
    }

    pub(super) fn draw_axes(&self, values: &str, lanes: usize, svg: &mut Svg) {
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
    pub(super) fn path(&self, line: &Line) -> String {
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

    pub(super) fn draw_marks(&self, marks: &Marks, svg: &mut Svg) {
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

    pub(super) fn draw_lane(&self, lane: &Lane, at: usize, svg: &mut Svg) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
