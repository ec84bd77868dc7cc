//! What is on a picture, before it is SVG or PNG.

/// A colour: red, green, blue, and how opaque it is, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Color(pub(super) u8, pub(super) u8, pub(super) u8, pub(super) f32);

impl Color {
    pub(super) const fn opaque(rgb: u32) -> Self {
        Self((rgb >> 16) as u8, (rgb >> 8) as u8, rgb as u8, 1.0)
    }

    /// The same, more transparent.
    pub(super) const fn faded(self, alpha: f32) -> Self {
        Self(self.0, self.1, self.2, alpha)
    }
}

/// A place in points from the top left.
pub(super) type Point = (f32, f32);

/// A line's look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stroke {
    pub(super) color: Color,
    pub(super) width: f32,
    pub(super) dashed: bool,
}

/// Which end of a text its place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A line of text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Text {
    pub(super) at: Point,
    pub(super) text: String,
    pub(super) size: f32,
    pub(super) bold: bool,
    pub(super) color: Color,
    pub(super) anchor: Anchor,
}

/// One thing that is drawn.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Rect { at: Point, width: f32, height: f32, radius: f32, fill: Color },
    Line { points: Vec<Point>, stroke: Stroke },
    Area { points: Vec<Point>, fill: Color },
    Text(Text),
}

/// Everything, the last on top.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scene {
    pub(super) width: f32,
    pub(super) height: f32,
    pub(super) shapes: Vec<Shape>,
}

impl Scene {
    pub(super) fn line(&mut self, points: Vec<Point>, color: Color, width: f32) {
        self.shapes.push(Shape::Line { points, stroke: Stroke { color, width, dashed: false } });
    }

    pub(super) fn dashes(&mut self, points: Vec<Point>, color: Color, width: f32) {
        self.shapes.push(Shape::Line { points, stroke: Stroke { color, width, dashed: true } });
    }

    pub(super) fn area(&mut self, points: Vec<Point>, fill: Color) {
        self.shapes.push(Shape::Area { points, fill });
    }

    pub(super) fn rect(&mut self, at: Point, (width, height): (f32, f32), radius: f32, fill: Color) {
        self.shapes.push(Shape::Rect { at, width, height, radius, fill });
    }

    pub(super) fn text(&mut self, at: Point, text: &str, size: f32, color: Color, anchor: Anchor) {
        self.shapes.push(Shape::Text(Text { at, text: text.to_owned(), size, bold: false, color, anchor }));
    }

    pub(super) fn bold(&mut self, at: Point, text: &str, size: f32, color: Color) {
        let anchor = Anchor::Start;
        self.shapes.push(Shape::Text(Text { at, text: text.to_owned(), size, bold: true, color, anchor }));
    }
}
