//! The bounded queue of one model. Leaving it needs no call: a job whose client has gone counts
//! for nothing and is never started. Clients take turns: who was served last comes last, so that
//! one client's twenty requests do not stand before another's one.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rkllama_core::{EngineError, Finish, KeepAlive, Sampling};
use rkllama_protocol::{Encoder, Pictured, Pooling, TokenScore};
use tokio::sync::{Notify, mpsc};

use crate::steering::Steering;

/// What a job's owner hears.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The run has begun.
    Started {
        /// Sampling parameters that cannot be applied.
        ignored: Vec<&'static str>,
        /// Tokens of the prompt that were computed before.
        cached_tokens: u32,
        /// Tokens of the whole prompt, where that is known only now.
        prompt_tokens: Option<u32>,
    },
    /// Text of one token or of several.
    Piece {
        /// The token's id; negative for text of several, or of none.
        token: i32,
        /// Its text; empty inside an unfinished character.
        text: Vec<u8>,
        /// Tokens that it stands for.
        tokens: u32,
    },
    /// The run is over.
    End {
        /// Why.
        finish: Finish,
        /// Tokens of the answer, the end of sequence included.
        tokens: u32,
    },
    /// The model is loaded; the answer to a job without a prompt.
    Loaded,
    /// The vector of the text; the answer to a job that wants one.
    Embedding(Vec<f32>),
    /// The logarithms of probabilities; the answer to a job that wants them.
    Scores {
        /// Of the candidates.
        candidates: Vec<f32>,
        /// Of the text's last tokens.
        tokens: Vec<TokenScore>,
    },
    /// How much each part of the image is meant; the answer to a job that wants a place.
    Place {
        /// One for each part, row after row.
        scores: Vec<f32>,
        /// What cut the image into parts.
        encoder: Encoder,
    },
    /// It cannot begin or go on.
    Failed(EngineError),
}

/// What is wanted of a text that is read.
#[derive(Debug, Clone)]
pub(crate) enum Reading {
    /// Its vector.
    Vector(Pooling),
    /// How likely each of these tokens comes behind it.
    Scores(Arc<[i32]>),
    /// What the token with so many behind it means of the image.
    Place {
        /// Tokens behind it.
        behind: u32,
    },
    /// How likely its own last tokens were.
    Logprobs {
        /// So many of them: fewer than there are.
        last: u32,
        /// So many of the likeliest tokens in each of their places.
        top: u32,
        /// Whether it goes on with a job that has had its place in the queue: it finds one always.
        goes_on: bool,
    },
}

impl Reading {
    const fn goes_on(&self) -> bool {
        matches!(self, Self::Logprobs { goes_on: true, .. })
    }
}

/// A prompt waiting for its model.
#[derive(Debug)]
pub(crate) struct Job {
    /// The prompt; empty to have the model loaded and no more.
    pub(crate) tokens: Vec<i32>,
    /// The prompt as a text with images, where it has some; placeholders stand for them in the tokens.
    pub(crate) pictured: Option<Arc<Pictured>>,
    /// The beginning that it has in common with other conversations of the same application: the
    /// operator's words and the list of tools. Not empty, and shorter than the prompt.
    pub(crate) shared_prefix: Option<Arc<[i32]>>,
    /// What is wanted of the tokens, where that is no answer to them.
    pub(crate) reading: Option<Reading>,
    /// What the client said.
    pub(crate) sampling: Sampling,
    pub(crate) tokens_max: Option<u32>,
    pub(crate) stop_tokens: Vec<i32>,
    /// Holds the answer to a form.
    pub(crate) steering: Option<Steering>,
    pub(crate) keep_alive: Option<KeepAlive>,
    pub(crate) client: Arc<str>,
    /// Closed by its receiver when the client leaves. Holds a whole answer, so that a slow reader
    /// never stops the NPU for the others.
    pub(crate) reply: mpsc::Sender<Reply>,
}

impl Job {
    /// Whether it goes on with one that has had its place in the queue. There is at most one such job
    /// for each, so that they are bounded as those are.
    pub(crate) fn goes_on(&self) -> bool {
        self.reading.as_ref().is_some_and(Reading::goes_on)
    }
}

/// Jobs that wait for one model.
#[derive(Debug)]
pub(crate) struct Queue {
    len_max: AtomicUsize,
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// When each client that waits was last served, counted in jobs.
    served: HashMap<Arc<str>, u64>,
    jobs_served: u64,
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
        let len_max = AtomicUsize::new(len_max.get());
        Self { len_max, waiting: Mutex::default(), arrived: Notify::new() }
    }

    /// Sets another bound. Who waits already stays.
    pub(crate) fn set_len_max(&self, len_max: NonZeroUsize) {
        self.len_max.store(len_max.get(), Ordering::Relaxed);
    }

    /// Adds a job; returns how many stand before it, if nobody overtakes.
    pub(crate) fn admit(&self, job: Job) -> Result<usize, Refusal> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Refusal::Closed);
        }
        waiting.forget_who_left();
        let before = waiting.jobs.len();
        if before >= self.len_max.load(Ordering::Relaxed) && !job.goes_on() {
            return Err(Refusal::Full(before));
        }
        waiting.jobs.push_back(job);
        self.arrived.notify_one();
        Ok(before)
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

    /// Takes no more if nobody waits; whether that is so.
    pub(crate) fn close_if_empty(&self) -> bool {
        let mut waiting = self.lock();
        waiting.forget_who_left();
        waiting.closed |= waiting.jobs.is_empty();
        waiting.closed
    }

    /// Whether nobody will come for a job.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn take(&self) -> Option<Job> {
        let mut waiting = self.lock();
        waiting.forget_who_left();
        waiting.take_turns()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn forget_who_left(&mut self) {
        self.jobs.retain(|job| !job.reply.is_closed());
    }

    /// The oldest job of the client that was served longest ago.
    fn take_turns(&mut self) -> Option<Job> {
        let served = |job: &Job| self.served.get(&job.client).copied().unwrap_or(0);
        let (at, _) = self.jobs.iter().enumerate().min_by_key(|(_, job)| served(job))?;
        let job = self.jobs.remove(at)?;
        self.jobs_served += 1;
        self.served.insert(Arc::clone(&job.client), self.jobs_served);
        // A client with nothing left starts afresh; what is remembered stays as short as the queue.
        let jobs = &self.jobs;
        self.served.retain(|client, _| jobs.iter().any(|job| job.client == *client));
        Some(job)
    }
}

/// How many requests wait in all queues, with the bound on them.
#[derive(Debug)]
pub(crate) struct TotalWaiting {
    len_max: AtomicUsize,
    len: AtomicUsize,
}

impl TotalWaiting {
    pub(crate) const fn new(len_max: NonZeroUsize) -> Self {
        Self { len_max: AtomicUsize::new(len_max.get()), len: AtomicUsize::new(0) }
    }

    /// Sets another bound. Who waits already stays.
    pub(crate) fn set_len_max(&self, len_max: NonZeroUsize) {
        self.len_max.store(len_max.get(), Ordering::Relaxed);
    }

    /// A ticket for one more, or how many there are. It counts until it is dropped. Who goes on gets one
    /// always.
    pub(crate) fn enter(self: &Arc<Self>, goes_on: bool) -> Result<Ticket, usize> {
        let len = self.len.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket(Arc::clone(self));
        if goes_on || len < self.len_max.load(Ordering::Relaxed) { Ok(ticket) } else { Err(len) }
    }
}

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<TotalWaiting>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.len.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(first_token: i32) -> (Job, mpsc::Receiver<Reply>) {
        job_of("somebody", first_token)
    }

    fn job_of(client: &str, first_token: i32) -> (Job, mpsc::Receiver<Reply>) {
        let (reply, replies) = mpsc::channel(1);
        let job = Job {
            tokens: vec![first_token],
            pictured: None,
            shared_prefix: None,
            sampling: Sampling::default(),
            tokens_max: None,
            stop_tokens: Vec::new(),
            reading: None,
            steering: None,
            keep_alive: None,
            client: client.into(),
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
    async fn clients_take_turns() {
        let queue = Queue::new(NonZeroUsize::new(9).unwrap());
        let jobs = [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)];
        let _clients: Vec<_> = jobs
            .map(|(client, token)| {
                let (job, replies) = job_of(client, token);
                queue.admit(job).unwrap();
                replies
            })
            .into_iter()
            .collect();
        let mut order = Vec::new();
        for _ in jobs {
            order.push(queue.next().await.tokens[0]);
        }
        assert_eq!(order, [1, 4, 5, 2, 6, 3]);
    }

    #[test]
    fn tickets_count_until_they_are_dropped() {
        let total = Arc::new(TotalWaiting::new(NonZeroUsize::MIN));
        let ticket = total.enter(false).unwrap();
        assert_eq!(total.enter(false).unwrap_err(), 1);
        assert!(total.enter(true).is_ok());
        drop(ticket);
        assert!(total.enter(false).is_ok());
    }

    #[tokio::test]
    async fn nothing_is_left_behind_in_a_closed_queue() {
        let queue = Queue::new(NonZeroUsize::MIN);
        let (waits, _a) = job(1);
        let (late, _b) = job(2);
        assert!(!queue.is_closed());
        queue.admit(waits).unwrap();
        assert!(!queue.close_if_empty());
        assert_eq!(queue.close().len(), 1);
        assert!(queue.is_closed() && queue.close_if_empty());
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
