//! Other people's APIs: translations onto the domain, and no other way to the engine.
//!
//! Each module is an API: it reads its own wire, makes a `rkllama_core::Request` of it, and writes
//! the events in its own words, errors too. They share what is no API's own: names of models
//! (`names`), what is told of a model (`card`) and the running of an answer (`run`).
#![forbid(unsafe_code)]

pub mod anthropic;
mod card;
mod checks;
pub mod legacy;
pub mod llama_server;
mod messages;
mod names;
pub mod ollama;
pub mod pictures;
pub mod rerank;
mod run;

use std::sync::Arc;

use rkllama_core::{Engine, ModelStore, Models, Texts};
use rkllama_http::{ErrorShape, Fallbacks, Intake};

/// What the operations work with.
#[derive(Clone)]
pub struct State {
    /// Answers, reads, loads and unloads.
    pub engine: Arc<dyn Engine>,
    /// Knows what models make of texts.
    pub texts: Arc<dyn Texts>,
    /// Knows the models.
    pub models: Arc<dyn Models>,
    /// Makes, fetches and removes them.
    pub store: Arc<dyn ModelStore>,
    /// The models that answer for names nobody knows, where an API's clients have names baked in.
    pub fallback: Arc<Fallbacks>,
    /// The limits of requests.
    pub intake: Intake,
    /// The server's version.
    pub version: String,
    /// Whether routes for those who look for faults are there.
    pub debug: bool,
}

/// All operations.
pub type Operations = (
    ollama::OllamaApi,
    ollama::OllamaStoreApi,
    anthropic::AnthropicApi,
    llama_server::LlamaServerApi,
    legacy::LegacyApi,
    rerank::RerankApi,
    pictures::PicturesApi,
);

/// All operations at work.
pub fn operations(state: State) -> Operations {
    (
        ollama::OllamaApi::new(state.clone()),
        ollama::OllamaStoreApi::new(state.clone()),
        anthropic::AnthropicApi::new(state.clone()),
        llama_server::LlamaServerApi::new(state.clone()),
        legacy::LegacyApi::new(state.clone()),
        rerank::RerankApi::new(state.clone()),
        pictures::PicturesApi::new(state),
    )
}

/// What the errors of each API look like, by where its paths begin.
pub fn shapes() -> Vec<(&'static str, Box<dyn ErrorShape>)> {
    let mut shapes: Vec<(&'static str, Box<dyn ErrorShape>)> = vec![
        ("/api", Box::new(ollama::OllamaShape)),
        ("/v1/messages", Box::new(anthropic::AnthropicShape)),
    ];
    for path in llama_server::PATHS.into_iter().chain(rerank::PATHS) {
        shapes.push((path, Box::new(llama_server::LlamaServerShape)));
    }
    for path in legacy::PATHS {
        shapes.push((path, Box::new(legacy::LegacyShape)));
    }
    shapes
}
