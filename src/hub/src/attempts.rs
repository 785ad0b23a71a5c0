//! The budget of attempts: which faults may pass, how long to wait for that, and when to give up.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::{HubError, Patience};

/// What ended one attempt.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Another attempt will not help.
    Final(HubError),
    /// The hub asks to wait.
    Limited { retry_after: Option<Duration> },
    /// What is there of the file cannot be gone on with: start anew.
    Useless { reason: String },
    /// The next attempt may do better.
    Passing { reason: String },
}

impl From<HubError> for Fault {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

impl Fault {
    pub(crate) fn passing(reason: impl Into<String>) -> Self {
        Self::Passing { reason: reason.into() }
    }
}

/// The attempts at one thing.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    what: &'a str,
    patience: &'a Patience,
    delays: ExponentialBackoff,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(what: &'a str, patience: &'a Patience) -> Self {
        // The first attempt is made before any wait.
        Self { what, patience, delays: delays(patience, patience.attempts_max.saturating_sub(1)) }
    }

    /// Something new came: this fault does not count, nor do those before it.
    pub(crate) fn forgive(&mut self) {
        self.delays = delays(self.patience, self.patience.attempts_max);
    }

    /// Waits until the next attempt is due.
    ///
    /// # Errors
    /// There is none: the fault is final or the attempts are used up.
    pub(crate) async fn wait(&mut self, fault: Fault) -> Result<(), HubError> {
        let (delay, reason) = match fault {
            Fault::Final(error) => return Err(error),
            Fault::Limited { retry_after } => {
                (self.limited_delay(retry_after)?, "too many requests".to_owned())
            }
            Fault::Useless { reason } | Fault::Passing { reason } => match self.delays.next() {
                Some(delay) => (delay.min(self.patience.wait_max), reason),
                None => return Err(HubError::Unreachable { what: self.what.to_owned(), reason }),
            },
        };
        tracing::info!(what = self.what, reason, delay_ms = delay.as_millis(), "trying again");
        tokio::time::sleep(delay).await;
        Ok(())
    }

    fn limited_delay(&mut self, retry_after: Option<Duration>) -> Result<Duration, HubError> {
        let wait_max = self.patience.wait_max;
        let is_too_long = retry_after.is_some_and(|asked| asked > wait_max);
        match self.delays.next() {
            Some(delay) if !is_too_long => Ok(retry_after.unwrap_or(delay).min(wait_max)),
            _ => Err(HubError::RateLimited { retry_after_s: retry_after.map(|it| it.as_secs()) }),
        }
    }
}

fn delays(patience: &Patience, waits_max: u32) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(patience.wait_min)
        .with_max_delay(patience.wait_max)
        .with_max_times(waits_max as usize)
        .with_jitter()
        .build()
}
