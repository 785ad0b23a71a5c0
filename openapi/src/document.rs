//! The published document, made from the operations' types.

use std::{collections::HashMap, marker::PhantomData};

use poem::{
    Endpoint, Response,
    endpoint::{BoxEndpoint, make_sync},
    http::Method,
};
use poem_openapi::{
    ExtraHeader, LicenseObject, OpenApi, OpenApiService,
    registry::{MetaApi, Registry},
};

use crate::operations::{
    ChatApi, CompletionsApi, CountsApi, EmbeddingsApi, GuiActorApi, ModelsApi, ResponsesApi,
    ServerApi,
};

/// All operations.
pub(crate) type Operations = (
    ChatApi,
    CompletionsApi,
    ResponsesApi,
    CountsApi,
    EmbeddingsApi,
    GuiActorApi,
    ModelsApi,
    ServerApi,
);

const DESCRIPTION: &str = "\
A Rockchip board as an OpenAI-compatible server.

OpenAI's clients work with the base URL `http://HOST:PORT/v1` and one of the server's keys; where \
it has none, with any. Where this server knows more than OpenAI's API, or less, the fields say so; \
`x-rkllama-ignored` in an answer lists fields of the request that had no effect. Every error of \
`/v1` has the same body, with all four of `message`, `type`, `param` and `code`. The routes of other \
APIs (Ollama, Anthropic, llama-server, RKLLama) have bodies and errors of their own.";

/// `operations` with what the document says about all of them.
pub(crate) fn service<T: OpenApi>(operations: T) -> OpenApiService<T, ()> {
    let id = |description: &str| ExtraHeader::new("x-request-id").description(description);
    OpenApiService::new(operations, "rkllama", env!("CARGO_PKG_VERSION"))
        .description(DESCRIPTION)
        .license(LicenseObject::new("Apache-2.0"))
        .server("/")
        .extra_request_header::<Option<String>, _>(id(
            "An id for this request, in the answer and in the server's log. Default: a new one.",
        ))
        .extra_response_header::<String, _>(id("The request's id."))
}

/// The document as JSON, with the operations `T` of other APIs: the content of `openapi.json`, but for
/// the line feed at its end.
pub fn document<T: OpenApi>() -> String {
    service(Described::<(Operations, T)>(PhantomData)).spec()
}

/// The document as YAML.
pub fn document_yaml<T: OpenApi>() -> String {
    service(Described::<(Operations, T)>(PhantomData)).spec_yaml()
}

/// An endpoint that sends `text`.
pub(crate) fn page(content_type: &'static str, text: String) -> impl Endpoint + 'static {
    let text = bytes::Bytes::from(text);
    make_sync(move |_| {
        Response::builder()
            .content_type(content_type)
            .header("cache-control", "no-cache")
            .body(text.clone())
    })
}

/// The operations of `T` without a `T`: to be described, not called.
struct Described<T>(PhantomData<fn() -> T>);

impl<T: OpenApi> OpenApi for Described<T> {
    fn meta() -> Vec<MetaApi> {
        T::meta()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn add_routes(self, _: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {}
}
