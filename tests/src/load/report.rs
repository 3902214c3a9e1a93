// SPDX-License-Identifier: Apache-2.0
//! What a bench run found, for people and for programs.

use std::time::Duration;

use serde::Serialize;

/// Times of the same thing, done again and again.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Adds a time.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The value below which `percent` of the times lie; zero without times.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let last = sorted.len().saturating_sub(1);
        sorted
            .get((last * percent + 50) / 100)
            .copied()
            .unwrap_or_default()
    }

    /// The middle.
    #[must_use]
    pub fn median(&self) -> Duration {
        self.percentile(50)
    }
}

/// One figure against its floor.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// What it is held against.
    pub floor: String,
    /// The measured value.
    pub value: f64,
    /// The floor's value.
    pub floor_value: f64,
    /// Unit of both.
    pub unit: &'static str,
    /// value / floor.
    pub ratio: f64,
    /// The ratio that is aimed at.
    pub target: f64,
    /// Whether it is reached.
    pub met: bool,
}

impl Figure {
    /// A figure from medians.
    #[must_use]
    pub fn times(what: &str, value: &Samples, floor: &str, against: &Samples, target: f64) -> Self {
        let milliseconds = |samples: &Samples| samples.median().as_secs_f64() * 1_000.0;
        Self::new(
            what,
            milliseconds(value),
            floor,
            milliseconds(against),
            "ms",
            target,
        )
    }

    /// A figure.
    #[must_use]
    pub fn new(
        what: &str,
        value: f64,
        floor: &str,
        floor_value: f64,
        unit: &'static str,
        target: f64,
    ) -> Self {
        let ratio = if floor_value > 0.0 {
            value / floor_value
        } else if value > 0.0 {
            f64::INFINITY
        } else {
            // Nothing was allowed, and nothing it is.
            0.0
        };
        Self {
            what: what.to_owned(),
            floor: floor.to_owned(),
            value,
            floor_value,
            unit,
            ratio,
            target,
            met: ratio <= target,
        }
    }
}

/// The figures as an aligned table.
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    let mut rows = vec![
        [
            "WHAT", "MEASURED", "FLOOR", "RATIO", "TARGET", "MET", "AGAINST",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(figures.iter().map(|figure| {
        vec![
            figure.what.clone(),
            format!("{:.2} {}", figure.value, figure.unit),
            format!("{:.2} {}", figure.floor_value, figure.unit),
            format!("{:.2}", figure.ratio),
            format!("≤ {:.2}", figure.target),
            if figure.met { "yes" } else { "NO" }.to_owned(),
            figure.floor.clone(),
        ]
    }));
    let widths: Vec<usize> = (0..7)
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            format!("{}\n", cells.join("  ").trim_end())
        })
        .collect()
}
