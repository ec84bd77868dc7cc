//! The lettering of pictures: how wide a text is, and its outlines.

use std::sync::LazyLock;

use ttf_parser::{Face, GlyphId};

static REGULAR: LazyLock<Face<'static>> =
    LazyLock::new(|| face(include_bytes!("../../assets/Roboto-Regular.ttf")));
static MEDIUM: LazyLock<Face<'static>> =
    LazyLock::new(|| face(include_bytes!("../../assets/Roboto-Medium.ttf")));

fn face(bytes: &'static [u8]) -> Face<'static> {
    Face::parse(bytes, 0).expect("the file is part of this crate, and a test reads it")
}

/// A weight of the lettering at a size.
pub(super) struct Font {
    pub(super) face: &'static Face<'static>,
    /// Points for each of the face's units.
    pub(super) scale: f32,
}

impl Font {
    pub(super) fn new(size: f32, bold: bool) -> Self {
        let face: &Face<'_> = if bold { &MEDIUM } else { &REGULAR };
        Self { face, scale: size / f32::from(face.units_per_em()) }
    }

    /// Each character's glyph and how far the next one is, in points. An unknown character is a question mark.
    pub(super) fn glyphs<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (GlyphId, f32)> + 'a {
        text.chars().map(|character| {
            let known = self.face.glyph_index(character).or_else(|| self.face.glyph_index('?'));
            let glyph = known.unwrap_or(GlyphId(0));
            (glyph, f32::from(self.face.glyph_hor_advance(glyph).unwrap_or(0)) * self.scale)
        })
    }

    pub(super) fn width(&self, text: &str) -> f32 {
        self.glyphs(text).map(|(_, advance)| advance).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_weights_have_the_letters_that_pictures_use() {
        for bold in [false, true] {
            let font = Font::new(10.0, bold);
            for character in "Az09 %./·–…µ×≤≥".chars() {
                assert!(font.face.glyph_index(character).is_some(), "{character:?}, bold {bold}");
            }
            assert!(font.width("wide") > font.width("i") && font.width("00") == font.width("17"));
        }
    }
}
