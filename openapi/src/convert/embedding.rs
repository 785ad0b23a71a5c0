//! A request for embeddings.

use std::sync::Arc;

use rkllama_core::{EmbedInput, EmbedRequest, Prompt};
use rkllama_http::{ApiError, Caller};

use super::{
    common::{CommonFields, check_integer},
    completion::prompts,
    model::resolve_for_embedding,
    refuse_ignored,
};
use crate::{
    State,
    fields::Fields,
    refusal::unsupported,
    wire::{EMBEDDING_INPUTS_MAX, EmbeddingRequest, EncodingFormat, InputType, given},
};

/// A request that may run, and how to answer it.
pub(crate) struct CheckedEmbedding {
    pub(crate) request: EmbedRequest,
    /// The model's name for the answer: the client's own words.
    pub(crate) model: String,
    pub(crate) encoding: EncodingFormat,
    /// How many numbers of each vector are wanted.
    pub(crate) dimensions: Option<usize>,
    /// Fields that were used in vain.
    pub(crate) ignored: Vec<&'static str>,
}

/// Checks a request and translates it.
pub(crate) fn embedding(
    wire: EmbeddingRequest,
    caller: Caller,
    state: &State,
) -> Result<CheckedEmbedding, ApiError> {
    if let Some(field) = wire.refused() {
        return Err(unsupported(field));
    }
    let ignored = wire.ignored();
    refuse_ignored(&ignored, state)?;
    check_integer("dimensions", wire.dimensions, 1, i32::MAX)?;
    let keep_alive =
        CommonFields { keep_alive: wire.keep_alive, ..CommonFields::default() }.keep_alive()?;
    let inputs = prompts("input", wire.input.0, EMBEDDING_INPUTS_MAX)?;
    let inputs = inputs.into_iter().filter_map(|input| match input {
        Prompt::Text(text) => Some(EmbedInput::Text(text)),
        Prompt::Tokens(tokens) => Some(EmbedInput::Tokens(tokens)),
        // The wire has no such inputs.
        Prompt::Chat(_) | Prompt::Infill(_) => None,
    });
    let (model, name) = resolve_for_embedding(wire.model, state)?;
    Ok(CheckedEmbedding {
        request: EmbedRequest {
            model,
            inputs: inputs.collect(),
            are_queries: given(wire.input_type).is_some_and(InputType::is_query),
            truncate: wire.truncate.unwrap_or(false),
            keep_alive,
            client: Arc::clone(&caller.0),
        },
        model: name,
        encoding: given(wire.encoding_format).unwrap_or(EncodingFormat::Float),
        dimensions: wire.dimensions.and_then(|count| usize::try_from(count).ok()),
        ignored,
    })
}
