//! Fetching and removing models, in the old RKLLama's words.

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use poem::{IntoResponse, Response};
use poem_openapi::{
    payload::Payload,
    registry::{MetaSchema, MetaSchemaRef},
};
use rkllama_core::{Pull, Step, StoreError};

use super::{answer::growing_text, wire::PullRequest};
use crate::State;

/// A text that grows.
pub(super) struct ProgressText(BoxStream<'static, Bytes>);

impl Payload for ProgressText {
    const CONTENT_TYPE: &'static str = "text/plain";

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            description: Some(
                "`Downloading FILE (12.34 MB)...` for each file and `N%` as it comes, each on a line of \
                 its own; an error is a last line that begins with `Error`.",
            ),
            ..MetaSchema::new("string")
        }))
    }
}

impl IntoResponse for ProgressText {
    fn into_response(self) -> Response {
        growing_text(self.0)
    }
}

/// Fetches a model and tells how far it is. Errors stand in the text: the old server had no other
/// place for them.
pub(super) fn pull(state: &State, wire: PullRequest) -> ProgressText {
    let said = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let Some(source) = said(wire.model) else { return only("Error: Model not specified.\n") };
    let pull = Pull { source: source.clone(), name: said(wire.model_name), tokenizer: None };
    let mut steps = state.store.pull(pull);
    let text = async_stream::stream! {
        let mut current = Current::default();
        while let Some(step) = steps.next().await {
            let text = match step {
                Ok(step) => current.tell(step),
                Err(error) => {
                    tracing::warn!(%error, source, "a model could not be fetched");
                    words(error, &source)
                }
            };
            if !text.is_empty() {
                yield Bytes::from(text);
            }
        }
    };
    ProgressText(text.boxed())
}

fn only(text: &'static str) -> ProgressText {
    ProgressText(futures_util::stream::iter([Bytes::from(text)]).boxed())
}

fn words(error: StoreError, source: &str) -> String {
    match error {
        StoreError::Name { .. } => format!("Error: Invalid path '{source}'\n"),
        other => format!("Error during download: {other}\n"),
    }
}

/// The file on its way, and what was told of it.
#[derive(Debug, Default)]
struct Current {
    file: String,
    percent: Option<u64>,
}

impl Current {
    fn tell(&mut self, step: Step) -> String {
        let Step::Fetching { file, total, completed, .. } = step else { return String::new() };
        let mut text = String::new();
        if self.file != file {
            let megabytes = total as f64 / (1024.0 * 1024.0);
            text = format!("Downloading {file} ({megabytes:.2} MB)...\n");
            *self = Self { file, percent: None };
        }
        let percent = (completed * 100).checked_div(total).unwrap_or(100).min(100);
        if self.percent != Some(percent) && (percent > 0 || total == 0) {
            self.percent = Some(percent);
            text.push_str(&format!("{percent}%\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_named_and_each_percent_told_once() {
        let mut current = Current::default();
        let fetching = |file: &str, completed| Step::Fetching {
            file: file.to_owned(),
            sha256: None,
            total: 2 << 20,
            completed,
        };
        let steps = [
            Step::Resolving,
            fetching("a", 0),
            fetching("a", 1 << 20),
            fetching("a", (1 << 20) + 1),
            fetching("a", 2 << 20),
            fetching("b", 0),
            Step::Writing,
        ];
        let text: String = steps.map(|step| current.tell(step)).concat();
        assert_eq!(text, "Downloading a (2.00 MB)...\n50%\n100%\nDownloading b (2.00 MB)...\n");
    }
}
