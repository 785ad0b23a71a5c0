//! How often a model's worker died, and how long to wait before it is tried again.
//!
//! The first crash costs nobody anything: the next request loads the model again. When crashes
//! follow each other without an answer in between, each doubles the pause, so that a model that
//! kills the driver does not do so at the pace of its clients' retries.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::CrashBudget;

/// The recent crashes of one model.
#[derive(Debug)]
pub(crate) struct CrashRecord {
    budget: CrashBudget,
    /// Crashes since the last answer that was completed.
    in_a_row: u32,
    last: Option<(Instant, String)>,
}

impl CrashRecord {
    pub(crate) const fn new(budget: CrashBudget) -> Self {
        Self { budget, in_a_row: 0, last: None }
    }

    /// A worker died.
    pub(crate) fn crashed(&mut self, what: &str) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.last = Some((Instant::now(), what.to_owned()));
    }

    /// An answer was completed.
    pub(crate) fn recovered(&mut self) {
        self.in_a_row = 0;
        self.last = None;
    }

    /// The time that is left until the next attempt, once the budget is spent.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let (at, _) = self.last.as_ref()?;
        let beyond = self.in_a_row.checked_sub(self.budget.crashes_max)?;
        let pause = self
            .budget
            .pause_min
            .saturating_mul(2_u32.saturating_pow(beyond))
            .min(self.budget.pause_max);
        pause.checked_sub(at.elapsed()).filter(|left| !left.is_zero())
    }

    /// What to tell the operator, once the budget is spent.
    pub(crate) fn problem(&self) -> Option<String> {
        let (_, what) = self.last.as_ref()?;
        (self.in_a_row >= self.budget.crashes_max)
            .then(|| format!("its worker died {} times in a row; last: it {what}", self.in_a_row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: CrashBudget = CrashBudget {
        crashes_max: 3,
        pause_min: Duration::from_secs(1),
        pause_max: Duration::from_secs(60),
    };

    #[tokio::test(start_paused = true)]
    async fn the_pause_begins_with_the_budgets_end_and_doubles() {
        let mut record = CrashRecord::new(BUDGET);
        for expected in [None, None, Some(1), Some(2), Some(4), Some(8)] {
            record.crashed("was ended by signal 11");
            assert_eq!(record.pause().map(|left| left.as_secs()), expected);
        }
        assert!(record.problem().unwrap().contains("6 times"));
        tokio::time::advance(Duration::from_secs(8)).await;
        assert_eq!(record.pause(), None, "one attempt is due");
        for _ in 0..40 {
            record.crashed("x");
        }
        assert_eq!(record.pause(), Some(BUDGET.pause_max));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_restores_the_budget() {
        let mut record = CrashRecord::new(BUDGET);
        for _ in 0..5 {
            record.crashed("x");
        }
        record.recovered();
        assert_eq!((record.pause(), record.problem()), (None, None));
    }
}
