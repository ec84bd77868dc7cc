//! The layout of a picture: three charts over one time axis, a headline above, marks across.

use super::font::Font;
use super::panel::{Curve, INK, MUTED, Panel};
use super::scale::{Scale, time_step};
use super::scene::{Anchor, Color, Scene};
use super::{Mark, Picture};
use crate::load::{Cell, Series, Slice};

const WIDTH: f32 = 960.0;
const HEIGHT: f32 = 672.0;
const LEFT: f32 = 72.0;
const CHART_WIDTH: f32 = WIDTH - LEFT - 28.0;

const PAPER: Color = Color::opaque(0xff_ffff);
const MARK: Color = Color::opaque(0x44_4f5c);
const REFUSED: Color = Color::opaque(0xf0_a93b);
const SERVER_ERROR: Color = Color::opaque(0xd6_4545);
const NO_ANSWER: Color = Color::opaque(0x6d_1f2f);
const UNNAMED: Color = Color::opaque(0xb4_bcc8);

/// For releases, in the order in which they are first seen.
const RELEASES: [Color; 7] = [
    Color::opaque(0x3f_6ad8),
    Color::opaque(0x1f_a187),
    Color::opaque(0x9b_5de5),
    Color::opaque(0xe8_7ba8),
    Color::opaque(0x8c_6a4f),
    Color::opaque(0x57_b8d9),
    Color::opaque(0x7f_8f2f),
];

/// The series with what every chart needs of it.
struct View<'a> {
    /// The slices that began before the load ended.
    slices: &'a [Slice],
    /// The middle of each.
    at: Vec<f64>,
    interval: f64,
    seconds: f64,
    releases: Vec<(&'a str, Color)>,
}

impl<'a> View<'a> {
    fn of(series: &'a Series) -> Self {
        let interval = series.interval_seconds.max(1e-3);
        // A last slice that had hardly begun would look like a collapse.
        let middle = |slice: &Slice| slice.at + interval / 2.0;
        let whole = series.slices.iter().filter(|slice| middle(slice) <= series.seconds).count();
        let slices = &series.slices[..whole.max(1).min(series.slices.len())];
        let names = first_seen(slices).into_iter().zip(RELEASES.into_iter().cycle());
        Self {
            at: slices.iter().map(middle).collect(),
            slices,
            interval,
            seconds: series.seconds.max(interval),
            releases: names.collect(),
        }
    }

    /// A count of each slice, as so many a second.
    fn per_second(&self, count: impl Fn(&Slice) -> u64) -> Vec<f64> {
        self.slices.iter().map(|slice| count(slice) as f64 / self.interval).collect()
    }

    fn panel(&self, title: &'static str, top: f32, height: f32, scale: Scale) -> Panel<'static> {
        Panel {
            title,
            left: LEFT,
            top,
            width: CHART_WIDTH,
            height,
            seconds: self.seconds,
            scale,
            label: rate,
        }
    }
}

fn first_seen(slices: &[Slice]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for slice in slices {
        let mut new: Vec<_> =
            slice.releases.iter().filter(|(name, _)| !names.contains(&name.as_str())).collect();
        new.sort_by_key(|(_, cell)| std::cmp::Reverse(cell.requests));
        names.extend(new.into_iter().map(|(name, _)| name.as_str()));
    }
    names
}

/// The whole picture.
pub(super) fn draw(picture: &Picture) -> Scene {
    let mut scene = Scene { width: WIDTH, height: HEIGHT, shapes: Vec::new() };
    scene.rect((0.0, 0.0), (WIDTH, HEIGHT), 0.0, PAPER);
    scene.bold((LEFT - 44.0, 38.0), &picture.title, 19.0, INK);
    scene.text((LEFT - 44.0, 59.0), &picture.subtitle, 12.5, MUTED, Anchor::Start);
    let view = View::of(&picture.series);
    let panels = [requests(&mut scene, &view), troubles(&mut scene, &view), times(&mut scene, &view)];
    time_axis(&mut scene, &panels[2]);
    marks(&mut scene, picture, &panels);
    scene
}

fn requests(scene: &mut Scene, view: &View<'_>) -> Panel<'static> {
    let mut layers: Vec<_> = Vec::new();
    for (name, color) in &view.releases {
        let of = |slice: &Slice| slice.releases.get(*name).map_or(0, |cell| cell.requests);
        layers.push((view.per_second(of), *color));
    }
    let unnamed = view.per_second(|slice| {
        slice.total.requests - slice.releases.values().map(|cell| cell.requests).sum::<u64>()
    });
    let mut entries = view.releases.clone();
    if unnamed.iter().any(|value| *value > 0.0) {
        entries.push((if entries.is_empty() { "all" } else { "no release named" }, UNNAMED));
    }
    layers.push((unnamed, UNNAMED));
    let panel = view.panel("Requests a second", 116.0, 150.0, stack_scale(&layers));
    panel.frame(scene);
    panel.stack(scene, &view.at, &layers);
    panel.base(scene);
    panel.legend(scene, &entries);
    panel
}

fn troubles(scene: &mut Scene, view: &View<'_>) -> Panel<'static> {
    let layers = [
        (view.per_second(|slice| slice.total.errors), NO_ANSWER),
        (view.per_second(|slice| slice.total.failed() - slice.total.errors), SERVER_ERROR),
        (view.per_second(|slice| slice.total.refused()), REFUSED),
    ];
    let panel = view.panel("Errors a second", 316.0, 96.0, stack_scale(&layers));
    panel.frame(scene);
    if layers.iter().all(|(values, _)| values.iter().all(|value| *value == 0.0)) {
        scene.text((LEFT + CHART_WIDTH / 2.0, 369.0), "none", 12.5, MUTED, Anchor::Middle);
    }
    panel.bars(scene, &view.at, view.interval, &layers);
    panel.base(scene);
    panel.legend(scene, &[("no answer", NO_ANSWER), ("status 5xx", SERVER_ERROR), ("status 4xx", REFUSED)]);
    panel
}

fn times(scene: &mut Scene, view: &View<'_>) -> Panel<'static> {
    let curves = latency_curves(view);
    let values =
        curves.iter().flat_map(|(_, p50, p99)| p50.iter().chain(p99)).filter_map(|(_, value)| *value);
    let (smallest, largest) = values.fold((f64::MAX, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    let scale = if largest > 0.0 { Scale::around(smallest, largest) } else { Scale::around(1.0, 10.0) };
    let panel = view.panel("Time to answer", 462.0, 160.0, scale);
    let panel = Panel { label: milliseconds, ..panel };
    panel.frame(scene);
    for (color, p50, p99) in &curves {
        panel.curve(scene, p50, color.faded(0.45), 1.25);
        panel.curve(scene, p99, *color, 1.75);
    }
    panel.base(scene);
    let title_width = Font::new(13.0, true).width(panel.title);
    scene.text((LEFT + title_width + 8.0, 450.0), "p99 strong, median faint", 11.5, MUTED, Anchor::Start);
    panel
}

/// Median and 99th percentile by release, or of everything where no release is named.
fn latency_curves(view: &View<'_>) -> Vec<(Color, Curve, Curve)> {
    let curve = |cell: &dyn Fn(&Slice) -> Option<Cell>, value: fn(&Cell) -> f64| -> Curve {
        let value =
            |slice: &Slice| cell(slice).filter(|cell| cell.requests > cell.errors).map(|cell| value(&cell));
        view.at.iter().zip(view.slices).map(|(at, slice)| (*at, value(slice))).collect()
    };
    let both = |cell: &dyn Fn(&Slice) -> Option<Cell>, color| {
        (color, curve(cell, |cell| cell.p50), curve(cell, |cell| cell.p99))
    };
    if view.releases.is_empty() {
        return vec![both(&|slice| Some(slice.total.clone()), RELEASES[0])];
    }
    let of = |(name, color): &(&str, Color)| both(&|slice| slice.releases.get(*name).cloned(), *color);
    view.releases.iter().map(of).collect()
}

fn stack_scale(layers: &[(Vec<f64>, Color)]) -> Scale {
    let count = layers.iter().map(|(values, _)| values.len()).max().unwrap_or(0);
    let heights = (0..count).map(|at| layers.iter().filter_map(|(values, _)| values.get(at)).sum::<f64>());
    Scale::up_to(heights.fold(0.0, f64::max))
}

fn time_axis(scene: &mut Scene, panel: &Panel<'_>) {
    let step = time_step(panel.seconds);
    let bottom = panel.top + panel.height;
    for tick in 0..=(panel.seconds / step + 1e-6) as u32 {
        let seconds = f64::from(tick) * step;
        let x = panel.x(seconds);
        scene.line(vec![(x, bottom), (x, bottom + 5.0)], MUTED, 1.0);
        scene.text((x, bottom + 20.0), &clock(seconds, panel.seconds), 11.0, MUTED, Anchor::Middle);
    }
}

/// Lines across every chart, each with its label at the top; labels that would touch go one line lower.
fn marks(scene: &mut Scene, picture: &Picture, panels: &[Panel<'_>; 3]) {
    let font = Font::new(11.0, false);
    let mut ends = [f32::MIN; 3];
    let x = |mark: &Mark| panels[0].x(mark.at.as_secs_f64());
    for mark in &picture.marks {
        for panel in panels {
            scene.dashes(vec![(x(mark), panel.top), (x(mark), panel.top + panel.height)], MARK, 1.0);
        }
    }
    for mark in &picture.marks {
        let width = font.width(&mark.label) + 10.0;
        let left = (x(mark) + 4.0).min(LEFT + CHART_WIDTH - width);
        let row = ends.iter().position(|end| left > *end).unwrap_or(ends.len() - 1);
        ends[row] = left + width + 4.0;
        let top = panels[0].top + 4.0 + 18.0 * row as f32;
        scene.rect((left, top), (width, 16.0), 3.0, PAPER.faded(0.88));
        scene.text((left + 5.0, top + 12.0), &mark.label, 11.0, INK, Anchor::Start);
    }
}

fn rate(value: f64) -> String {
    match value {
        v if v >= 10_000.0 => format!("{}k", v / 1000.0),
        v => format!("{}", (v * 1000.0).round() / 1000.0),
    }
}

fn milliseconds(value: f64) -> String {
    match value {
        v if v < 0.999 => format!("{:.0} µs", v * 1000.0),
        v if v < 999.0 => format!("{v:.0} ms"),
        v => format!("{:.0} s", v / 1000.0),
    }
}

/// A time on an axis of so many seconds.
fn clock(seconds: f64, whole: f64) -> String {
    match seconds {
        _ if whole <= 180.0 => format!("{} s", (seconds * 10.0).round() / 10.0),
        s if whole <= 7200.0 => format!("{}:{:02}", s as u64 / 60, s as u64 % 60),
        s => format!("{} h {:02}", s as u64 / 3600, s as u64 / 60 % 60),
    }
}
