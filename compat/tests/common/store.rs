//! A store without a disk: it plays what the name asks for, and remembers what it was told.

use std::sync::{Arc, Mutex};

use futures_util::{StreamExt, stream};
use rkllama_core::{
    Creation, Digest, Model, ModelStore, Pull, Step, Steps, StoreError, Storing, Upload,
};

/// What the store was told, in words.
#[derive(Debug, Default)]
pub(crate) struct PlayedStore {
    pub(crate) told: Mutex<Vec<String>>,
}

impl PlayedStore {
    fn tell(&self, words: String) {
        self.told.lock().unwrap_or_else(|it| it.into_inner()).push(words);
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap_or_else(|it| it.into_inner()).clone()
    }
}

/// The digest of the file that was sent.
pub(crate) const KNOWN: Digest = Digest([7; 32]);

/// One error of each kind, by the name that asks for it.
pub(crate) fn failure(name: &str) -> Option<StoreError> {
    let reason = || format!("the reason of {name}");
    Some(match name {
        "org/absent" => StoreError::Absent { reason: reason() },
        "org/gated" => StoreError::Forbidden { reason: reason() },
        "org/hub" => StoreError::Hub { reason: reason() },
        "org/space" => StoreError::Space { reason: reason() },
        "org/disk" => StoreError::Disk { reason: reason() },
        "org/refused" => StoreError::Refused { reason: reason() },
        "org/choice" => StoreError::Choice {
            source_name: name.to_owned(),
            choices: vec!["org/choice/a.rkllm".to_owned(), "org/choice/b.rkllm".to_owned()],
        },
        "bad name" => {
            StoreError::Name { name: name.to_owned(), reason: "it has a blank".to_owned() }
        }
        "blob" => StoreError::NoBlob { digest: KNOWN },
        "mismatch" => StoreError::Mismatch { expected: KNOWN, got: Digest([8; 32]) },
        _ => return None,
    })
}

fn fetching(completed: u64) -> Step {
    Step::Fetching {
        file: "model.rkllm".to_owned(),
        sha256: Some("0123456789abcdef".repeat(4)),
        total: 2048,
        completed,
    }
}

fn text_file() -> Step {
    let file = "tokenizer.json".to_owned();
    Step::Fetching { file, sha256: None, total: 7, completed: 7 }
}

impl ModelStore for PlayedStore {
    fn pull(&self, pull: Pull) -> Steps {
        self.tell(format!("{pull:?}"));
        if pull.source == "bad name" {
            return stream::iter(failure(&pull.source).map(Err)).boxed();
        }
        let end = match failure(&pull.source) {
            Some(error) => vec![Ok(fetching(1024)), Err(error)],
            None => vec![
                Ok(text_file()),
                Ok(fetching(0)),
                Ok(fetching(2048)),
                Ok(Step::Verifying),
                Ok(Step::Writing),
                Ok(Step::Done { model: "pulled".to_owned() }),
            ],
        };
        stream::iter([Ok(Step::Resolving)].into_iter().chain(end)).boxed()
    }

    fn create(&self, creation: Creation) -> Steps {
        self.tell(format!("{creation:?}"));
        if let Some(error) = failure(&creation.name) {
            return stream::iter([Err(error)]).boxed();
        }
        let using = Step::Using { file: "model.rkllm".to_owned(), sha256: None };
        let done = Step::Done { model: creation.name };
        stream::iter([Ok(using), Ok(Step::Writing), Ok(done)]).boxed()
    }

    fn copy(&self, source: Arc<Model>, destination: String) -> Storing<()> {
        self.tell(format!("copy {} to {destination}", source.id));
        let error = failure(&destination);
        Box::pin(async move { error.map_or(Ok(()), Err) })
    }

    fn delete(&self, model: Arc<Model>) -> Storing<()> {
        self.tell(format!("delete {}", model.id));
        Box::pin(async { Ok(()) })
    }

    fn has_blob(&self, digest: Digest) -> Storing<bool> {
        Box::pin(async move { Ok(digest == KNOWN) })
    }

    fn put_blob(&self, digest: Digest, mut upload: Upload) -> Storing<bool> {
        Box::pin(async move {
            let mut bytes = 0;
            while let Some(piece) = upload.next().await {
                bytes += piece.map_err(|reason| StoreError::Refused { reason })?.len();
            }
            if bytes == 0 {
                return Err(StoreError::Mismatch { expected: digest, got: Digest([0; 32]) });
            }
            Ok(digest != KNOWN)
        })
    }
}
