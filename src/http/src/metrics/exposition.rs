//! Metrics as an answer: Prometheus' text format.

use poem::{IntoResponse, Response};
use poem_openapi::{
    payload::Payload,
    registry::{MetaSchema, MetaSchemaRef},
};

/// All metrics at one moment, in Prometheus' text format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposition(pub(super) String);

impl Exposition {
    /// The lines.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl Payload for Exposition {
    const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4";

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            description: Some("Lines in Prometheus' text format."),
            ..MetaSchema::new("string")
        }))
    }
}

impl IntoResponse for Exposition {
    fn into_response(self) -> Response {
        Response::builder()
            .content_type(Self::CONTENT_TYPE)
            .header("cache-control", "no-store")
            .body(self.0)
    }
}
