//! A load as a picture over time: requests by release, what went wrong, and how long answers took.
//!
//! The same drawing becomes SVG, with text as text, or PNG, with the lettering that is part of this crate.

mod chart;
mod font;
mod panel;
mod raster;
mod scale;
mod scene;
mod svg;

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::load::{Report, Series};
use crate::units;

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// The headline.
    pub title: String,
    /// One line below it.
    pub subtitle: String,
    /// What happened.
    pub series: Series,
    /// Moments that explain it.
    pub marks: Vec<Mark>,
}

/// A moment worth a line in the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Since the load's start.
    pub at: Duration,
    /// A few words.
    pub label: String,
}

/// How a picture is written, by the end of its file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.svg`
    Svg,
    /// `.png`, twice as fine as its size says, for sharp screens.
    Png,
}

impl Format {
    /// The format of a file's name; none if it ends otherwise.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "svg" => Some(Self::Svg),
            "png" => Some(Self::Png),
            _ => None,
        }
    }
}

impl Picture {
    /// A headline and the figures that matter most, for a load of `rate` requests a second.
    pub fn of(title: &str, rate: f64, duration: Duration, report: &Report) -> Self {
        let summary = &report.summary;
        let failed = summary.failed();
        let subtitle = format!(
            "{rate} requests a second for {} · {} requests, {} failed ({}) · median {}, p99 {}",
            units::short(duration),
            units::count(summary.requests),
            units::count(failed),
            units::percent(failed, summary.requests),
            units::milliseconds(summary.latency.p50),
            units::milliseconds(summary.latency.p99),
        );
        Self { title: title.to_owned(), subtitle, series: report.series.clone(), marks: Vec::new() }
    }

    /// As an SVG document.
    pub fn svg(&self) -> String {
        svg::document(&chart::draw(self))
    }

    /// As a PNG file's bytes.
    pub fn png(&self) -> Vec<u8> {
        raster::png(&chart::draw(self))
    }

    /// Writes it to a file whose name ends in `.svg` or `.png`.
    ///
    /// # Errors
    /// When the name ends otherwise, or the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        match Format::of(path) {
            Some(Format::Svg) => std::fs::write(path, self.svg()),
            Some(Format::Png) => std::fs::write(path, self.png()),
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, "a picture is a .svg or a .png file")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Cell, Slice};

    /// A rollout of a bad release: it takes over from second 10, fails, and is taken back at second 20.
    fn bad_rollout() -> Picture {
        let cell = |requests, failed, p50: f64| Cell {
            requests,
            statuses: [(200, requests - failed), (500, failed)].into(),
            errors: 0,
            p50,
            p99: p50 * 4.0,
            max: p50 * 9.0,
        };
        let slices = (0_u32..60).map(|number| {
            let at = f64::from(number) * 0.5;
            let canary = if (20..40).contains(&number) { u64::from(number) - 15 } else { 0 };
            let mut releases = [("v41".to_owned(), cell(100 - canary, 0, 12.0 + f64::from(number % 5)))];
            let mut slice = Slice {
                at,
                total: Cell { errors: u64::from(number % 20 == 9), ..cell(102, canary / 2, 14.0) },
                releases: std::mem::take(&mut releases).into(),
            };
            if canary > 0 {
                slice.releases.insert("v42 <new>".to_owned(), cell(canary, canary / 2, 55.0));
            }
            slice
        });
        let series = Series { interval_seconds: 0.5, seconds: 30.0, slices: slices.collect() };
        let mark = |seconds, label: &str| Mark { at: Duration::from_secs(seconds), label: label.to_owned() };
        Picture {
            title: "A bad release is taken back".to_owned(),
            subtitle: "200 requests a second for 30s".to_owned(),
            series,
            marks: vec![
                mark(10, "canary at 5 %"),
                mark(11, "canary at 10 %"),
                mark(20, "rolled back"),
                mark(30, "end"),
            ],
        }
    }

    #[test]
    fn releases_and_marks_are_named() {
        let svg = bad_rollout().svg();
        for text in
            [">v41<", ">v42 &lt;new&gt;<", ">no release named<", ">canary at 5 %<", ">rolled back<", ">30 s<"]
        {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_png_has_the_size_of_its_svg_twice() {
        let png = bad_rollout().png();
        let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert_eq!((side(16), side(20)), (1920, 1344));
    }

    #[test]
    fn nothing_at_all_is_a_picture_too() {
        let blank = Picture { series: Series::default(), marks: Vec::new(), ..bad_rollout() };
        let svg = blank.svg();
        assert!(svg.contains(">none<") && !svg.contains("NaN"), "{svg}");
    }
}
