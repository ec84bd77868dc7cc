//! Axes: from values to places, and the values worth a label.

/// How values become places between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// From 0 up to this.
    Linear(f64),
    /// From the first to the second by powers of ten; both above 0.
    Logarithmic(f64, f64),
}

impl Scale {
    /// From 0 to a round value not below `largest`, and above 0.
    pub(super) fn up_to(largest: f64) -> Self {
        let largest = if largest > 0.0 { largest } else { 1.0 };
        let step = step(largest / 4.0);
        Self::Linear((largest / step).ceil() * step)
    }

    /// By powers of ten around values from `smallest` to `largest`, both above 0, at least a factor of ten wide.
    pub(super) fn around(smallest: f64, largest: f64) -> Self {
        let low = floor_125(smallest);
        let mut high = floor_125(largest);
        while high < largest * 1.05 || high < low * 10.0 {
            high = floor_125(high * 2.5);
        }
        Self::Logarithmic(low, high)
    }

    pub(super) fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear(high) => (value / high).clamp(0.0, 1.0),
            Self::Logarithmic(low, high) => ((value.max(low) / low).ln() / (high / low).ln()).clamp(0.0, 1.0),
        }
    }

    /// Round values across the scale, about four.
    pub(super) fn ticks(self) -> Vec<f64> {
        match self {
            Self::Linear(high) => {
                let step = step(high / 4.0);
                (0..=(high / step).round() as u32).map(|tick| f64::from(tick) * step).collect()
            }
            Self::Logarithmic(low, high) => {
                let decades = (high / low).log10();
                let wanted = |value: f64| decades <= 1.8 || is_power_of_ten(value);
                let mut ticks = vec![low];
                while ticks[ticks.len() - 1] < high * 0.99 {
                    ticks.push(floor_125(ticks[ticks.len() - 1] * 2.6));
                }
                ticks.retain(|value| wanted(*value));
                ticks
            }
        }
    }
}

/// The least of 1, 2, 5, 10, … (times a power of ten) that is not below `least`.
pub(super) fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let candidates = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    candidates.into_iter().find(|candidate| *candidate >= least * 0.999_999).unwrap_or(candidates[3])
}

/// The greatest of 1, 2, 5 times a power of ten that is not above `value`.
fn floor_125(value: f64) -> f64 {
    let power = 10_f64.powf((value * 1.000_001).log10().floor());
    let candidates = [5.0, 2.0, 1.0].map(|factor| factor * power);
    candidates.into_iter().find(|candidate| *candidate <= value * 1.000_001).unwrap_or(power)
}

fn is_power_of_ten(value: f64) -> bool {
    (value.log10() - value.log10().round()).abs() < 1e-6
}

/// Seconds between labels of a time axis `seconds` long, at most about ten of them.
pub(super) fn time_step(seconds: f64) -> f64 {
    const STEPS: [f64; 18] = [
        0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0,
        7200.0, 14_400.0,
    ];
    STEPS.into_iter().find(|step| seconds / step <= 10.0).unwrap_or_else(|| step(seconds / 10.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_scales_end_at_round_values() {
        assert_eq!(Scale::up_to(0.0), Scale::Linear(1.0));
        assert_eq!(Scale::up_to(487.0).ticks(), [0.0, 200.0, 400.0, 600.0]);
        assert_eq!(Scale::up_to(100.0).ticks(), [0.0, 50.0, 100.0]);
        assert_eq!(Scale::up_to(3.0).ticks(), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(Scale::Linear(600.0).place(300.0), 0.5);
    }

    #[test]
    fn logarithmic_scales_hold_their_values() {
        for (smallest, largest) in [(0.3, 0.31), (1.0, 1000.0), (4.7, 96.0), (0.02, 30_000.0)] {
            let scale = Scale::around(smallest, largest);
            let Scale::Logarithmic(low, high) = scale else { panic!("{scale:?}") };
            assert!(low <= smallest && high >= largest && high >= low * 9.99, "{scale:?}");
            assert!((2..=7).contains(&scale.ticks().len()), "{scale:?}");
        }
        assert_eq!(Scale::around(1.0, 90.0).ticks().len(), 3, "whole powers of ten over two decades");
        assert!((Scale::Logarithmic(1.0, 100.0).place(10.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn time_has_at_most_ten_labels() {
        assert_eq!(
            [1.0, 10.0, 30.0, 60.0, 600.0, 86_400.0].map(time_step),
            [0.1, 1.0, 5.0, 10.0, 60.0, 14_400.0]
        );
    }
}
