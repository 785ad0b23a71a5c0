//! The bounded queue of one model. Leaving it needs no call: a job whose client has gone counts
//! for nothing and is never started.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rkllama_core::{EngineError, Sampling};
use rkllama_protocol::End;
use tokio::sync::{Notify, mpsc};

/// What a job's owner hears.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The run has begun; these sampling parameters cannot be applied.
    Started(Vec<&'static str>),
    /// Text of one token; empty inside an unfinished character.
    Piece(Vec<u8>),
    /// The run is over.
    End(End),
    /// It cannot begin or go on.
    Failed(EngineError),
}

/// A prompt waiting for its model.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) tokens: Vec<i32>,
    /// What the client said.
    pub(crate) sampling: Sampling,
    pub(crate) tokens_max: Option<u32>,
    pub(crate) stop_tokens: Vec<i32>,
    /// Closed by its receiver when the client leaves. Holds a whole answer, so that a slow reader
    /// never stops the NPU for the others.
    pub(crate) reply: mpsc::Sender<Reply>,
}

/// Jobs in the order of their arrival.
#[derive(Debug)]
pub(crate) struct Queue {
    len_max: NonZeroUsize,
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// A job that was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// So many wait already.
    Full(usize),
    /// Nobody will come for it.
    Closed,
}

impl Queue {
    pub(crate) fn new(len_max: NonZeroUsize) -> Self {
        Self { len_max, waiting: Mutex::default(), arrived: Notify::new() }
    }

    /// Adds a job.
    pub(crate) fn admit(&self, job: Job) -> Result<(), Refusal> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Refusal::Closed);
        }
        waiting.jobs.retain(|job| !job.reply.is_closed());
        if waiting.jobs.len() >= self.len_max.get() {
            return Err(Refusal::Full(waiting.jobs.len()));
        }
        waiting.jobs.push_back(job);
        self.arrived.notify_one();
        Ok(())
    }

    /// The next job whose client is still there. Safe to drop while waiting.
    pub(crate) async fn next(&self) -> Job {
        loop {
            if let Some(job) = self.take() {
                return job;
            }
            self.arrived.notified().await;
        }
    }

    /// Takes no more; hands out everything that waits, oldest first.
    pub(crate) fn close(&self) -> VecDeque<Job> {
        let mut waiting = self.lock();
        waiting.closed = true;
        std::mem::take(&mut waiting.jobs)
    }

    fn take(&self) -> Option<Job> {
        let mut waiting = self.lock();
        waiting.jobs.retain(|job| !job.reply.is_closed());
        waiting.jobs.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(first_token: i32) -> (Job, mpsc::Receiver<Reply>) {
        let (reply, replies) = mpsc::channel(1);
        let job = Job {
            tokens: vec![first_token],
            sampling: Sampling::default(),
            tokens_max: None,
            stop_tokens: Vec::new(),
            reply,
        };
        (job, replies)
    }

    #[tokio::test]
    async fn jobs_leave_in_the_order_they_came() {
        let queue = Queue::new(NonZeroUsize::new(2).unwrap());
        let (first, _a) = job(1);
        let (second, _b) = job(2);
        let (third, _c) = job(3);
        queue.admit(first).unwrap();
        queue.admit(second).unwrap();
        assert_eq!(queue.admit(third).unwrap_err(), Refusal::Full(2));
        assert_eq!(queue.next().await.tokens, [1]);
        assert_eq!(queue.next().await.tokens, [2]);
    }

    #[tokio::test]
    async fn nothing_is_left_behind_in_a_closed_queue() {
        let queue = Queue::new(NonZeroUsize::MIN);
        let (waits, _a) = job(1);
        let (late, _b) = job(2);
        queue.admit(waits).unwrap();
        assert_eq!(queue.close().len(), 1);
        assert_eq!(queue.admit(late).unwrap_err(), Refusal::Closed);
    }

    #[tokio::test]
    async fn who_left_neither_counts_nor_runs() {
        let queue = Queue::new(NonZeroUsize::new(1).unwrap());
        let (gone, client) = job(1);
        queue.admit(gone).unwrap();
        drop(client);
        let (stays, _client) = job(2);
        queue.admit(stays).unwrap();
        assert_eq!(queue.next().await.tokens, [2]);
    }
}
