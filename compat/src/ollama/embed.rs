//! Texts as vectors.

use std::{sync::Arc, time::Instant};

use rkllama_core::{EmbedInput, EmbedRequest, EngineError};
use rkllama_http::ApiError;

use super::{
    answer::nanos,
    convert::Named,
    failure::{self, bad},
    options::{Options, keep_alive},
    wire::{self, EmbedAnswer, EmbeddingsAnswer, OllamaTexts},
};
use crate::State;

/// Most texts of one request; each is a run of its own.
const TEXTS_MAX: usize = 2048;

fn named(state: &State, asked: String) -> Result<Named, ApiError> {
    let name = asked.clone();
    Named::find(state, asked, |_| format!("model \"{name}\" not found, try pulling it first"))
}

/// `/api/embed`.
pub(super) async fn embed(
    wire: wire::EmbedRequest,
    client: Arc<str>,
    state: &State,
    received: Instant,
) -> Result<EmbedAnswer, ApiError> {
    if wire.model.is_empty() {
        return Err(failure::not_found("model '' not found"));
    }
    let named = named(state, wire.model)?;
    let texts = match wire.input {
        None => Vec::new(),
        Some(OllamaTexts::One(text)) if text.is_empty() => Vec::new(),
        Some(OllamaTexts::One(text)) => vec![text],
        Some(OllamaTexts::Several(texts)) => texts,
    };
    Options::of(wire.options.as_ref())?;
    let keep_alive = keep_alive(wire.keep_alive.as_ref())?;
    if texts.is_empty() {
        let model = Arc::clone(&named.model);
        state.engine.load(model, keep_alive, client).await.map_err(failure::engine)?;
        return Ok(EmbedAnswer {
            model: named.asked,
            embeddings: Vec::new(),
            total_duration: None,
            load_duration: None,
            prompt_eval_count: None,
        });
    }
    if texts.len() > TEXTS_MAX {
        return Err(bad(format!("input: {} texts are more than {TEXTS_MAX}", texts.len())));
    }
    let truncate = wire.truncate.unwrap_or(true);
    let dimensions = wire.dimensions.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let embeddings = read(&named, texts, truncate, keep_alive, client, state).await?;
    let tokens = embeddings.iter().map(|embedding| embedding.tokens).sum();
    let vectors = embeddings.into_iter().map(|embedding| cut(embedding.vector, dimensions));
    Ok(EmbedAnswer {
        model: named.asked,
        embeddings: vectors.collect(),
        total_duration: Some(nanos(received.elapsed())),
        // Not told apart from the reading.
        load_duration: Some(1),
        prompt_eval_count: Some(tokens),
    })
}

/// `/api/embeddings`, the older route for one text.
pub(super) async fn embeddings(
    wire: wire::EmbeddingsRequest,
    client: Arc<str>,
    state: &State,
) -> Result<EmbeddingsAnswer, ApiError> {
    if wire.model.is_empty() {
        return Err(bad("model is required"));
    }
    let named = named(state, wire.model)?;
    Options::of(wire.options.as_ref())?;
    let keep_alive = keep_alive(wire.keep_alive.as_ref())?;
    let Some(prompt) = wire.prompt.filter(|prompt| !prompt.is_empty()) else {
        let model = Arc::clone(&named.model);
        state.engine.load(model, keep_alive, client).await.map_err(failure::engine)?;
        return Ok(EmbeddingsAnswer { embedding: Vec::new() });
    };
    let embeddings = read(&named, vec![prompt], true, keep_alive, client, state).await?;
    let embedding = embeddings.into_iter().next().map(|embedding| embedding.vector);
    Ok(EmbeddingsAnswer { embedding: embedding.unwrap_or_default() })
}

async fn read(
    named: &Named,
    texts: Vec<String>,
    truncate: bool,
    keep_alive: Option<rkllama_core::KeepAlive>,
    client: Arc<str>,
    state: &State,
) -> Result<Vec<rkllama_core::Embedding>, ApiError> {
    // Clients send lists of paragraphs in which one may be empty; for that the others must not fail.
    let text = |text: String| if text.is_empty() { " ".to_owned() } else { text };
    let request = EmbedRequest {
        model: Arc::clone(&named.model),
        inputs: texts.into_iter().map(|it| EmbedInput::Text(text(it))).collect(),
        are_queries: false,
        truncate,
        keep_alive,
        client,
    };
    state.engine.embed(request).await.map_err(|failed| match failed.error {
        EngineError::ContextExceeded { .. } => bad("the input length exceeds the context length"),
        error => failure::engine(error),
    })
}

/// The first numbers of a vector, brought to length 1 again.
fn cut(mut vector: Vec<f32>, dimensions: Option<usize>) -> Vec<f32> {
    let Some(dimensions) = dimensions.filter(|n| *n < vector.len()) else { return vector };
    vector.truncate(dimensions);
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        for number in &mut vector {
            *number = (f64::from(*number) / length) as f32;
        }
    }
    vector
}
