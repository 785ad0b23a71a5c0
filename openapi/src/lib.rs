//! The typed `/v1` API and its published document.
//!
//! The way of a request: [`wire`] is read by serde, `convert` checks it once and makes it a
//! `rkllama_core::Request`, `operations` hands it to the engine, `answer` turns events into wire
//! types again. `failure` and `refusal` hold the words for what goes wrong, `shape` their form,
//! `fields` what becomes of each field of a request; `kept` holds the responses that clients go
//! on from.
#![forbid(unsafe_code)]

mod answer;
mod convert;
mod document;
mod failure;
mod fields;
mod kept;
mod operations;
mod paths;
mod readiness;
mod refusal;
mod shape;
pub mod wire;

use std::sync::Arc;

use poem::{Endpoint, EndpointExt, Response, Route, get, http::StatusCode};
use poem_openapi::OpenApi;
use rkllama_core::{Engine, Models, Texts};
use rkllama_http::{
    ApiError, Browsers, Guard, Intake, Keys, Metrics, Observe, RouteTable, Shaped, SwaggerUi,
};

pub use document::{document, document_yaml};
pub use fields::coverage;
pub use kept::{KeptLimits, KeptResponses};
pub use rkllama_http::{ErrorShape, Fallbacks};
pub use shape::OpenAiShape;

use answer::Envelope;
use convert::Checked;
use document::Operations;
use operations::{
    ChatApi, CompletionsApi, CountsApi, EmbeddingsApi, GuiActorApi, ModelsApi, ResponsesApi,
    ServerApi,
};

/// What the operations work with.
#[derive(Clone)]
pub struct State {
    /// Answers conversations.
    pub engine: Arc<dyn Engine>,
    /// Knows what models make of texts.
    pub texts: Arc<dyn Texts>,
    /// Knows the models.
    pub models: Arc<dyn Models>,
    /// What is counted: by the engine, and here by route.
    pub metrics: Arc<Metrics>,
    /// The models that answer for names nobody knows and for requests without one.
    pub fallback: Arc<Fallbacks>,
    /// The server's version.
    pub version: String,
    /// The keys that let clients in; without any everybody is let in.
    pub keys: Keys,
    /// Which web pages may ask.
    pub browsers: Browsers,
    /// The responses that clients can go on from.
    pub responses: KeptResponses,
    /// Whether fields that would be ignored are refused instead.
    pub strict_parameters: bool,
    /// What to do where there is no model at all, said with every unknown model: a command.
    pub empty_store_hint: Option<String>,
}

impl State {
    /// The frame of the answer to a request, with an id that begins with `prefix`.
    fn envelope(&self, prefix: &str, checked: &Checked) -> Envelope {
        let fingerprint = format!("fp_rkllama_{}", self.version);
        Envelope::new(prefix, checked.model.clone(), fingerprint, checked.include_usage)
    }

    /// Adds to an unknown model what to do about an empty store.
    fn explain(&self, mut error: ApiError) -> ApiError {
        let hint = self.empty_store_hint.as_deref();
        if let Some(hint) = hint.filter(|_| error.status == StatusCode::NOT_FOUND)
            && self.models.list().is_empty()
        {
            error.message.push_str(" No model is installed: ");
            error.message.push_str(hint);
        }
        error
    }
}

/// Operations of other APIs, to stand under the same roof.
pub struct Others<T> {
    /// The operations.
    pub operations: T,
    /// What their errors look like, by where their paths begin.
    pub shapes: Vec<(&'static str, Box<dyn ErrorShape>)>,
}

/// Everything under one roof: operations, document, pages, errors in OpenAI's shape, ids and the
/// log.
pub fn app(state: State, intake: impl Into<Intake>) -> impl Endpoint<Output = Response> + 'static {
    app_with(state, intake, Others { operations: (), shapes: Vec::new() })
}

/// As [`app`], with the operations of other APIs beside those of `/v1`, in the document too.
pub fn app_with<T: OpenApi + 'static>(
    state: State,
    intake: impl Into<Intake>,
    others: Others<T>,
) -> impl Endpoint<Output = Response> + 'static {
    let intake = intake.into();
    const DOCUMENT_PAGES: [&str; 2] = ["/openapi.json", "/openapi.yaml"];
    let metrics = Arc::clone(&state.metrics);
    let browsers = state.browsers.clone();
    let guard = Guard::new(state.keys.clone(), intake.clone());
    let operations = document::service((
        ChatApi { state: state.clone(), intake: intake.clone() },
        CompletionsApi { state: state.clone(), intake: intake.clone() },
        ResponsesApi { state: state.clone(), intake: intake.clone() },
        CountsApi { state: state.clone() },
        EmbeddingsApi { state: state.clone() },
        GuiActorApi { state: state.clone() },
        ModelsApi { state: state.clone() },
        ServerApi { state },
        others.operations,
    ));
    let routes = RouteTable::of::<(Operations, T)>().page("/docs").page("/docs/{file}");
    let routes = DOCUMENT_PAGES.into_iter().fold(routes, RouteTable::page);
    let [json, yaml] = DOCUMENT_PAGES;
    let app = Route::new()
        .at(json, get(document::page("application/json", document::<T>())))
        .at(yaml, get(document::page("application/yaml", document_yaml::<T>())))
        .nest("/docs", SwaggerUi::new(json))
        .nest("/", operations)
        .data(intake)
        .with(guard)
        .with(Shaped::new(OpenAiShape, others.shapes, routes))
        .with(browsers)
        .with(Observe::new(metrics));
    paths::Meant::new(app)
}
