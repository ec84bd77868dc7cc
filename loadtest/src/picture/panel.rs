//! One chart of a picture: a frame with axes, and curves over the same time as the others'.

use super::font::Font;
use super::scale::Scale;
use super::scene::{Anchor, Color, Point, Scene};

pub(super) const INK: Color = Color::opaque(0x1f_2933);
pub(super) const MUTED: Color = Color::opaque(0x6b_7785);
const GRID: Color = Color::opaque(0xe6_e9ee);
const AXIS: Color = Color::opaque(0xb6_bec9);

/// A curve in values over seconds; gaps where there is no value.
pub(super) type Curve = Vec<(f64, Option<f64>)>;

/// Where a chart is, and what its axes say.
pub(super) struct Panel<'a> {
    pub(super) title: &'a str,
    pub(super) left: f32,
    pub(super) top: f32,
    pub(super) width: f32,
    pub(super) height: f32,
    /// How long the time axis is.
    pub(super) seconds: f64,
    pub(super) scale: Scale,
    pub(super) label: fn(f64) -> String,
}

impl Panel<'_> {
    pub(super) fn x(&self, seconds: f64) -> f32 {
        self.left + self.width * (seconds / self.seconds).clamp(0.0, 1.0) as f32
    }

    fn y(&self, value: f64) -> f32 {
        self.top + self.height * (1.0 - self.scale.place(value)) as f32
    }

    /// The title, the horizontal lines and their labels.
    pub(super) fn frame(&self, scene: &mut Scene) {
        scene.bold((self.left, self.top - 12.0), self.title, 13.0, INK);
        for tick in self.scale.ticks() {
            let y = self.y(tick);
            scene.line(vec![(self.left, y), (self.left + self.width, y)], GRID, 1.0);
            scene.text((self.left - 8.0, y + 4.0), &(self.label)(tick), 11.0, MUTED, Anchor::End);
        }
    }

    /// The line below the curves; drawn after them.
    pub(super) fn base(&self, scene: &mut Scene) {
        let y = self.top + self.height;
        scene.line(vec![(self.left, y), (self.left + self.width, y)], AXIS, 1.0);
    }

    /// Names and colours, right of the title.
    pub(super) fn legend(&self, scene: &mut Scene, entries: &[(&str, Color)]) {
        let font = Font::new(11.5, false);
        let mut right = self.left + self.width;
        for (name, color) in entries.iter().rev() {
            scene.text((right, self.top - 12.0), name, 11.5, MUTED, Anchor::End);
            right -= font.width(name) + 16.0;
            scene.rect((right, self.top - 21.0), (10.0, 10.0), 2.5, *color);
            right -= 16.0;
        }
    }

    /// Areas on top of one another, the first at the bottom; each over the same seconds.
    pub(super) fn stack(&self, scene: &mut Scene, at: &[f64], layers: &[(Vec<f64>, Color)]) {
        let mut floor = vec![0.0; at.len()];
        for (values, color) in layers {
            let roof: Vec<f64> = floor.iter().zip(values).map(|(low, value)| low + value).collect();
            if values.iter().any(|value| *value > 0.0) {
                let mut outline = self.across(at, &roof);
                let top = outline.clone();
                outline.extend(self.across(at, &floor).into_iter().rev());
                scene.area(outline, color.faded(0.82));
                scene.line(top, *color, 1.0);
            }
            floor = roof;
        }
    }

    /// Bars on top of one another, each as wide as its slice.
    pub(super) fn bars(&self, scene: &mut Scene, at: &[f64], interval: f64, layers: &[(Vec<f64>, Color)]) {
        for (place, middle) in at.iter().enumerate() {
            let (left, right) = (self.x(middle - interval / 2.0), self.x(middle + interval / 2.0));
            let width = (right - left - 1.0).max(0.8);
            let mut floor = 0.0;
            for (values, color) in layers {
                let roof = floor + values[place];
                let (top, bottom) = (self.y(roof), self.y(floor));
                if bottom > top {
                    scene.rect((left + 0.5, top), (width, bottom - top), 0.0, *color);
                }
                floor = roof;
            }
        }
    }

    /// The places of values, drawn out to both ends of the time axis.
    fn across(&self, at: &[f64], values: &[f64]) -> Vec<Point> {
        let mut points: Vec<Point> =
            at.iter().zip(values).map(|(at, value)| (self.x(*at), self.y(*value))).collect();
        if let (Some(first), Some(last)) = (points.first().copied(), points.last().copied()) {
            points.insert(0, (self.left, first.1));
            points.push((self.left + self.width, last.1));
        }
        points
    }

    pub(super) fn curve(&self, scene: &mut Scene, curve: &Curve, color: Color, width: f32) {
        for stretch in curve.split(|(_, value)| value.is_none()) {
            let mut points: Vec<Point> = stretch
                .iter()
                .filter_map(|(at, value)| value.map(|value| (self.x(*at), self.y(value))))
                .collect();
            if let [(x, y)] = points[..] {
                points = vec![(x - 1.5, y), (x + 1.5, y)];
            }
            if !points.is_empty() {
                scene.line(points, color, width);
            }
        }
    }
}
