//! How much of all request bodies together is in memory.
//!
//! Bytes count as they come and not as they are announced: a client that announces much and sends
//! nothing holds nothing. A body that finds no room waits. So that bodies which are half there
//! never wait for each other, one at a time may go on without room.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Limits;

/// The limits of requests, and the room that all bodies share. Among the data of every request;
/// clones are one and the same.
#[derive(Debug, Clone)]
pub struct Intake(Arc<ArcSwap<Room>>);

impl Intake {
    /// Room for `limits.full_bodies_max` bodies of `limits.body_bytes_max`.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Room::new(limits))))
    }

    /// Goes on under other limits. Bodies that are being read keep theirs, and their room beside
    /// the new one.
    pub fn replace(&self, limits: Limits) {
        self.0.store(Arc::new(Room::new(limits)));
    }

    /// The limits as they are now.
    pub fn limits(&self) -> Limits {
        self.0.load().limits.clone()
    }

    /// Limits and room as they are now.
    pub(crate) fn room(&self) -> Arc<Room> {
        self.0.load_full()
    }
}

impl From<Limits> for Intake {
    fn from(limits: Limits) -> Self {
        Self::new(limits)
    }
}

/// Limits, and what is left of them.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) limits: Limits,
    room_bytes: Arc<Semaphore>,
    overdraft: Arc<Semaphore>,
}

impl Room {
    pub(crate) fn new(limits: Limits) -> Self {
        let room_bytes = limits.body_bytes_max.saturating_mul(limits.full_bodies_max);
        Self {
            limits,
            room_bytes: Arc::new(Semaphore::new(room_bytes.min(Semaphore::MAX_PERMITS))),
            overdraft: Arc::new(Semaphore::new(1)),
        }
    }

    /// The share of one body, empty at first.
    pub(crate) fn share(&self) -> Share {
        let (room_bytes, overdraft) = (Arc::clone(&self.room_bytes), Arc::clone(&self.overdraft));
        Share { room_bytes, overdraft, held: None, overdrawn: None }
    }
}

/// What one body takes of the room; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    room_bytes: Arc<Semaphore>,
    overdraft: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    overdrawn: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Waits for room for `len` more bytes.
    pub(crate) async fn grow(&mut self, len: usize) {
        if self.overdrawn.is_some() {
            return;
        }
        // A piece is what one read from the socket gave: far below 4 GiB.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        // Neither is ever closed, which is the only error.
        tokio::select! {
            biased;
            Ok(more) = Arc::clone(&self.room_bytes).acquire_many_owned(len) => match &mut self.held {
                Some(held) => held.merge(more),
                None => self.held = Some(more),
            },
            Ok(permit) = Arc::clone(&self.overdraft).acquire_owned() => {
                self.overdrawn = Some(permit);
            }
            else => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn has_room(share: &mut Share, len: usize) -> bool {
        tokio::time::timeout(Duration::from_secs(1), share.grow(len)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_room_waits_and_one_goes_on() {
        let limits = Limits { body_bytes_max: 10, full_bodies_max: 2, ..Limits::default() };
        let room = Room::new(limits);
        let [mut a, mut b, mut c] = [room.share(), room.share(), room.share()];
        assert!(has_room(&mut a, 10).await && has_room(&mut b, 8).await);
        assert!(has_room(&mut c, 2).await, "the room is used to its end");
        assert!(has_room(&mut b, 2).await && has_room(&mut b, 5).await, "one may overdraw");
        assert!(!has_room(&mut c, 1).await, "and no other");
        drop(b);
        assert!(has_room(&mut c, 8).await, "what is given back is there again");
        assert!(has_room(&mut c, 9).await && !has_room(&mut a, 1).await);
    }
}
