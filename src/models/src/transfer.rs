//! A download that several may wait for. When the last of them has gone, it stops.

use std::{pin::Pin, sync::Arc, time::Duration};

use async_stream::try_stream;
use futures_util::Stream;
use rkllama_core::{Step, StoreError};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// How often whoever waits hears of it.
const TELL_EVERY: Duration = Duration::from_millis(60);

/// One file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) file: String,
    pub(crate) sha256: Option<String>,
    pub(crate) total: u64,
    pub(crate) completed: u64,
}

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    files: Vec<Progress>,
    is_writing: bool,
    /// The model's id, or why there is none.
    end: Option<Result<String, StoreError>>,
}

/// A download.
pub(crate) struct Transfer {
    state: watch::Receiver<State>,
    _task: AbortOnDropHandle<()>,
}

/// How a download tells of itself.
#[derive(Clone)]
pub(crate) struct Report(watch::Sender<State>);

impl Report {
    /// A file is on its way, the last of those that were told of.
    pub(crate) fn file(&self, progress: Progress) {
        self.0.send_modify(|state| state.files.push(progress));
    }

    /// So much of the last file is here.
    pub(crate) fn completed(&self, bytes: u64) {
        self.0.send_modify(|state| {
            if let Some(last) = state.files.last_mut() {
                last.completed = bytes;
            }
        });
    }

    /// All files are here.
    pub(crate) fn writing(&self) {
        self.0.send_modify(|state| state.is_writing = true);
    }
}

impl Transfer {
    /// Begins one; its end is the model's id.
    pub(crate) fn begin<F>(work: impl FnOnce(Report) -> F) -> Self
    where
        F: Future<Output = Result<String, StoreError>> + Send + 'static,
    {
        let (report, state) = watch::channel(State::default());
        let work = work(Report(report.clone()));
        let task = tokio::spawn(async move {
            let end = work.await;
            report.send_modify(|state| state.end = Some(end));
        });
        Self { state, _task: AbortOnDropHandle::new(task) }
    }

    /// Whether nothing comes of it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.state.borrow().end.is_some()
    }

    /// What happens, from the beginning; holds the download until it is dropped.
    pub(crate) fn steps(
        self: Arc<Self>,
    ) -> Pin<Box<dyn Stream<Item = Result<Step, StoreError>> + Send>> {
        Box::pin(try_stream! {
            let mut receiver = self.state.clone();
            let mut told: Vec<Option<u64>> = Vec::new();
            let mut has_told_writing = false;
            loop {
                let state = receiver.borrow_and_update().clone();
                told.resize(state.files.len(), None);
                for (file, told) in state.files.iter().zip(&mut told) {
                    if *told != Some(file.completed) {
                        *told = Some(file.completed);
                        yield fetching(file);
                    }
                }
                if state.is_writing && !has_told_writing {
                    has_told_writing = true;
                    yield Step::Verifying;
                    yield Step::Writing;
                }
                if let Some(end) = state.end {
                    yield Step::Done { model: end? };
                    return;
                }
                tokio::time::sleep(TELL_EVERY).await;
                let gone = StoreError::Disk { reason: "the download was given up".to_owned() };
                receiver.changed().await.map_err(|_| gone)?;
            }
        })
    }
}

fn fetching(file: &Progress) -> Step {
    let Progress { file, sha256, total, completed } = file.clone();
    Step::Fetching { file, sha256, total, completed }
}
