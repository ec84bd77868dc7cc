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
