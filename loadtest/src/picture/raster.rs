//! A scene as PNG.

use tiny_skia::{
    FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Stroke as Pen, StrokeDash, Transform,
};
use ttf_parser::OutlineBuilder;

use super::font::Font;
use super::scene::{Anchor, Color, Point, Scene, Shape, Stroke, Text};

/// Pixels for each point.
const FINENESS: f32 = 2.0;

/// The bytes of a file.
pub(super) fn png(scene: &Scene) -> Vec<u8> {
    let (width, height) = ((scene.width * FINENESS) as u32, (scene.height * FINENESS) as u32);
    let mut canvas = Pixmap::new(width.max(1), height.max(1)).expect("a chart is a few thousand pixels wide");
    for shape in &scene.shapes {
        paint(&mut canvas, shape);
    }
    canvas.encode_png().expect("a canvas with pixels is encoded in memory")
}

fn paint(canvas: &mut Pixmap, shape: &Shape) {
    match shape {
        Shape::Rect { at, width, height, radius, fill: color } => {
            fill(canvas, rounded(*at, *width, *height, *radius), *color);
        }
        Shape::Line { points, stroke } => line(canvas, points, *stroke),
        Shape::Area { points, fill: color } => fill(canvas, path(points, true), *color),
        Shape::Text(text) => letters(canvas, text),
    }
}

fn ink(Color(red, green, blue, alpha): Color) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(red, green, blue, (alpha * 255.0) as u8);
    paint
}

fn fine() -> Transform {
    Transform::from_scale(FINENESS, FINENESS)
}

/// A path without extent is none, and draws nothing.
fn fill(canvas: &mut Pixmap, path: Option<Path>, color: Color) {
    if let Some(path) = path {
        canvas.fill_path(&path, &ink(color), FillRule::Winding, fine(), None);
    }
}

fn line(canvas: &mut Pixmap, points: &[Point], Stroke { color, width, dashed }: Stroke) {
    let pen = Pen {
        width,
        line_cap: if dashed { LineCap::Butt } else { LineCap::Round },
        line_join: LineJoin::Round,
        dash: if dashed { StrokeDash::new(vec![3.0, 3.0], 0.0) } else { None },
        ..Pen::default()
    };
    if let Some(path) = path(points, false) {
        canvas.stroke_path(&path, &ink(color), &pen, fine(), None);
    }
}

fn path(points: &[Point], closed: bool) -> Option<Path> {
    let mut builder = PathBuilder::new();
    let (first, rest) = points.split_first()?;
    builder.move_to(first.0, first.1);
    rest.iter().for_each(|(x, y)| builder.line_to(*x, *y));
    if closed {
        builder.close();
    }
    builder.finish()
}

fn rounded((x, y): Point, width: f32, height: f32, radius: f32) -> Option<Path> {
    let (right, bottom) = (x + width, y + height);
    let radius = radius.min(width / 2.0).min(height / 2.0);
    let mut builder = PathBuilder::new();
    builder.move_to(x + radius, y);
    builder.line_to(right - radius, y);
    builder.quad_to(right, y, right, y + radius);
    builder.line_to(right, bottom - radius);
    builder.quad_to(right, bottom, right - radius, bottom);
    builder.line_to(x + radius, bottom);
    builder.quad_to(x, bottom, x, bottom - radius);
    builder.line_to(x, y + radius);
    builder.quad_to(x, y, x + radius, y);
    builder.close();
    builder.finish()
}

fn letters(canvas: &mut Pixmap, text: &Text) {
    let Text { at: (x, y), text, size, bold, color, anchor } = text;
    let font = Font::new(*size, *bold);
    let mut x = match anchor {
        Anchor::Start => *x,
        Anchor::Middle => x - font.width(text) / 2.0,
        Anchor::End => x - font.width(text),
    };
    let mut outline = Outline { builder: PathBuilder::new(), at: (x, *y), scale: font.scale };
    for (glyph, advance) in font.glyphs(text) {
        outline.at.0 = x;
        // A space has no outline.
        let _ = font.face.outline_glyph(glyph, &mut outline);
        x += advance;
    }
    fill(canvas, outline.builder.finish(), *color);
}

/// Puts glyphs, whose y points up, where they belong.
struct Outline {
    builder: PathBuilder,
    at: Point,
    scale: f32,
}

impl Outline {
    fn place(&self, x: f32, y: f32) -> Point {
        (self.at.0 + x * self.scale, self.at.1 - y * self.scale)
    }
}

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.builder.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.builder.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.place(x1, y1), self.place(x, y));
        self.builder.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.place(x1, y1), self.place(x2, y2), self.place(x, y));
        self.builder.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.builder.close();
    }
}
