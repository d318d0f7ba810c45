//! Pictures of values over time, as SVG that reads on light and on dark pages: lines, marked readings, shaded spans, limits.
//!
//! The size of a picture does not grow with its data: of each column of pixels a line keeps its first, smallest, largest and
//! last value, and marks that would cover each other are drawn once.

mod frame;
mod parts;

pub use self::parts::{Ink, Join, Lane, Limit, Line, Mark, Marks, Plot, Span};
use self::{
    frame::Frame,
    parts::{Escaped, LANE_HEIGHT, LEFT, LETTER, PLOT_HEIGHT, RIGHT, Svg, WIDTH},
};

const TITLE_HEIGHT: f64 = 54.0;
const LEGEND_ROW: f64 = 20.0;
const FOOT: f64 = 44.0;

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
}
