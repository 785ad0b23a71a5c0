//! What has been done with a key: how often in the last minute, and how much at the moment.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{AuthError, keys::Entry};

/// The stretch over which requests are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// When to ask again where all places are taken: an answer of a few dozen tokens takes as long.
const PLACE_RETRY_AFTER_S: u32 = 5;

/// The use of one key.
#[derive(Debug, Default)]
pub(super) struct Usage(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// When the requests of the last minute came, oldest first; as many as the limit at most.
    recent: VecDeque<Instant>,
    /// Requests that are being answered.
    running: u32,
}

/// A place among a key's requests, given back when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Usage>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.with(|counts| counts.running = counts.running.saturating_sub(1));
    }
}

impl Usage {
    fn with<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes a place for a request that comes now. A request that is refused counts for nothing.
pub(super) fn take_place(entry: &Entry) -> Result<Place, AuthError> {
    let limits = entry.key.limits();
    let key = || entry.key.name().to_owned();
    let now = Instant::now();
    entry.usage.with(|counts| {
        if let Some(max) = limits.concurrent_max
            && counts.running >= max.get()
        {
            let concurrent_max = max.get();
            let retry_after_s = PLACE_RETRY_AFTER_S;
            return Err(AuthError::TooMany { key: key(), concurrent_max, retry_after_s });
        }
        if let Some(max) = limits.requests_per_minute {
            let per_minute = max.get();
            counts.note(now, per_minute).map_err(|retry_after_s| AuthError::TooOften {
                key: key(),
                per_minute,
                retry_after_s,
            })?;
        }
        counts.running = counts.running.saturating_add(1);
        Ok(())
    })?;
    Ok(Place(Arc::clone(&entry.usage)))
}

impl Counts {
    /// Counts a request, or says in how many seconds one may come.
    fn note(&mut self, now: Instant, per_minute: u32) -> Result<(), u32> {
        while self.recent.front().is_some_and(|then| now - *then >= WINDOW) {
            self.recent.pop_front();
        }
        let limit = usize::try_from(per_minute).unwrap_or(usize::MAX);
        // After a reload with a lower limit there may be more than it: the one to wait for is the
        // first that has to leave.
        if let Some(index) = self.recent.len().checked_sub(limit)
            && let Some(blocking) = self.recent.get(index)
        {
            let wait = WINDOW.saturating_sub(now - *blocking);
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            return Err(u32::try_from(seconds).unwrap_or(u32::MAX).max(1));
        }
        self.recent.push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tokio::time::advance;

    use super::*;
    use crate::auth::{ApiKey, KeyLimits, Keys};

    fn limited(per_minute: u32, concurrent: u32) -> Entry {
        let limits = KeyLimits {
            requests_per_minute: NonZeroU32::new(per_minute),
            concurrent_max: NonZeroU32::new(concurrent),
        };
        Keys::new(vec![ApiKey::new("a", "s", limits)]).find("s").unwrap()
    }

    fn wait_s(entry: &Entry) -> Option<u32> {
        match take_place(entry) {
            Ok(_) => None,
            Err(AuthError::TooOften { retry_after_s, .. }) => Some(retry_after_s),
            Err(other) => panic!("{other}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_minute_never_sees_more_than_the_limit_and_the_wait_is_exact() {
        let entry = limited(2, 0);
        assert_eq!(wait_s(&entry), None);
        advance(Duration::from_millis(20_500)).await;
        assert_eq!(wait_s(&entry), None);
        assert_eq!(wait_s(&entry), Some(40));
        advance(Duration::from_millis(39_400)).await;
        assert_eq!(wait_s(&entry), Some(1));
        advance(Duration::from_millis(100)).await;
        assert_eq!(wait_s(&entry), None);
        // The second one of before leaves 20.5 s later.
        assert_eq!(wait_s(&entry), Some(21));
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_given_back() {
        let entry = limited(0, 2);
        let (first, _second) = (take_place(&entry).unwrap(), take_place(&entry).unwrap());
        let refused = take_place(&entry).unwrap_err();
        assert!(matches!(refused, AuthError::TooMany { concurrent_max: 2, .. }), "{refused}");
        drop(first);
        assert!(take_place(&entry).is_ok());
    }

    /// What is refused for the places is not counted for the minute.
    #[tokio::test(start_paused = true)]
    async fn a_refused_request_counts_for_nothing() {
        let entry = limited(2, 1);
        let first = take_place(&entry).unwrap();
        for _ in 0..5 {
            assert!(matches!(take_place(&entry), Err(AuthError::TooMany { .. })));
        }
        drop(first);
        assert!(take_place(&entry).is_ok());
        assert_eq!(wait_s(&entry), Some(60));
    }
}
