//! The steps a canary climbs.

use std::time::Duration;

use crate::config::model;
use crate::unit::Weight;

/// How long a cutover is watched when no step says otherwise.
const DEFAULT_WATCH: Duration = Duration::from_secs(600);

/// A plan with at least one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    first: model::Step,
    rest: Vec<model::Step>,
    advances: bool,
}

impl Plan {
    /// The steps of a plan, or its one weight for good. A list without steps is a plan that stays at nothing.
    pub fn new(plan: &model::Plan) -> Self {
        let mut steps = match plan {
            model::Plan::Fixed(weight) => return Self::fixed(*weight),
            model::Plan::Steps(steps) => steps.iter().cloned(),
        };
        match steps.next() {
            Some(first) => Self { first, rest: steps.collect(), advances: true },
            None => Self::fixed(Weight::ZERO),
        }
    }

    /// One weight that never advances and is guarded all the same, as the parts of a fixed split are.
    pub fn fixed(weight: Weight) -> Self {
        let first =
            model::Step { weight, hold: DEFAULT_WATCH, min_requests: 0, gate: model::Gate::Automatic };
        Self { first, rest: Vec::new(), advances: false }
    }

    /// All traffic at once, watched for ten minutes: what a cutover follows when nothing else was planned.
    pub fn cutover() -> Self {
        Self { advances: true, ..Self::fixed(Weight::FULL) }
    }

    /// Whether time and evidence ever change the weight.
    pub fn advances(&self) -> bool {
        self.advances
    }

    /// The index of the last step.
    pub fn last(&self) -> usize {
        self.rest.len()
    }

    /// A step; the last one for any index beyond it.
    pub fn step(&self, index: usize) -> &model::Step {
        match index.min(self.last()) {
            0 => &self.first,
            index => &self.rest[index - 1],
        }
    }

    /// The highest step whose weight is at most `weight`; the first if there is none.
    pub fn nearest_at_most(&self, weight: Weight) -> usize {
        (0..=self.last()).rev().find(|index| self.step(*index).weight <= weight).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(percents: &[f64]) -> Plan {
        let step = |percent: &f64| model::Step {
            weight: Weight::from_percent(*percent).expect("a percentage"),
            ..Plan::fixed(Weight::ZERO).first
        };
        Plan::new(&model::Plan::Steps(percents.iter().map(step).collect()))
    }

    #[test]
    fn an_edited_plan_never_gives_more_than_the_canary_had() {
        let edited = plan(&[5.0, 20.0, 50.0, 100.0]);
        let nearest = |percent| edited.nearest_at_most(Weight::from_percent(percent).expect("a percentage"));
        assert_eq!([nearest(10.0), nearest(20.0), nearest(99.0), nearest(100.0)], [0, 1, 2, 3]);
        assert_eq!(nearest(1.0), 0);
    }

    #[test]
    fn an_index_beyond_the_plan_is_its_last_step() {
        assert_eq!(plan(&[5.0, 20.0]).step(7).weight.percent(), 20.0);
        assert_eq!(plan(&[]).step(0).weight, Weight::ZERO);
    }
}
