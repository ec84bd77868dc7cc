//! A scene as SVG.

use std::fmt::Write;

use super::scene::{Anchor, Color, Point, Scene, Shape, Stroke, Text};

/// A whole document, without anything that is fetched from elsewhere.
pub(super) fn document(scene: &Scene) -> String {
    let Scene { width, height, shapes } = scene;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
         {height}\" font-family=\"Roboto, 'Helvetica Neue', Arial, sans-serif\">\n"
    );
    for shape in shapes {
        svg.push_str(&element(shape));
        svg.push('\n');
    }
    svg.push_str("</svg>\n");
    svg
}

fn element(shape: &Shape) -> String {
    match shape {
        Shape::Rect { at: (x, y), width, height, radius, fill } => format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius}\" {}/>",
            paint("fill", *fill)
        ),
        Shape::Line { points, stroke: Stroke { color, width, dashed } } => format!(
            "<polyline points=\"{}\" fill=\"none\" {} stroke-width=\"{width}\" stroke-linejoin=\"round\"{}/>",
            places(points),
            paint("stroke", *color),
            if *dashed { " stroke-dasharray=\"3 3\"" } else { " stroke-linecap=\"round\"" }
        ),
        Shape::Area { points, fill } => {
            format!("<polygon points=\"{}\" {}/>", places(points), paint("fill", *fill))
        }
        Shape::Text(text) => letters(text),
    }
}

fn letters(text: &Text) -> String {
    let Text { at: (x, y), text, size, bold, color, anchor } = text;
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    let weight = if *bold { " font-weight=\"500\"" } else { "" };
    let paint = paint("fill", *color);
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\"{weight} text-anchor=\"{anchor}\" {paint}>{}</text>",
        escaped(text)
    )
}

fn places(points: &[Point]) -> String {
    let mut text = String::new();
    for (x, y) in points {
        // Writing to a string does not fail.
        let _ = write!(text, "{x:.1},{y:.1} ");
    }
    text.truncate(text.trim_end().len());
    text
}

fn paint(what: &str, Color(red, green, blue, alpha): Color) -> String {
    let opacity = if alpha < 1.0 { format!(" {what}-opacity=\"{alpha}\"") } else { String::new() };
    format!("{what}=\"#{red:02x}{green:02x}{blue:02x}\"{opacity}")
}

/// Text that XML 1.0 can hold: its signs escaped, control characters replaced.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            character if character.is_control() => safe.push('?'),
            character => safe.push(character),
        }
    }
    safe
}
