//! JSON bodies of APIs that read them in a way of their own.
//!
//! serde's words name Rust's types, and some APIs' clients look at the words. A type that reads
//! itself says what is wrong as its API says it.

use poem::{Request, RequestBody, Result};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    payload::{ParsePayload, Payload},
    registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry},
    types::Type,
};

use crate::{BodyError, json::read_as};

/// A type that reads itself from a body.
pub trait ReadBody: Sized + Send + 'static {
    /// Reads the bytes of a whole body.
    ///
    /// # Errors
    /// [`BodyError::Worded`], in the words of the API.
    fn read_body(bytes: &[u8]) -> Result<Self, BodyError>;
}

/// A JSON body that reads itself. Documented as what it is; any `Content-Type` is taken.
#[derive(Debug, Clone)]
pub struct OwnJson<T>(pub T);

impl<T: Type> Payload for OwnJson<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Type + ReadBody> ParsePayload for OwnJson<T> {
    const IS_REQUIRED: bool = true;

    async fn from_request(request: &Request, body: &mut RequestBody) -> Result<Self> {
        Ok(Self(read_as(request, body, T::read_body).await?))
    }
}

impl<'a, T: Type + ReadBody> ApiExtractor<'a> for OwnJson<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <Self as Payload>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: Self::CONTENT_TYPE,
                schema: Self::schema_ref(),
            }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        <Self as ParsePayload>::from_request(request, body).await
    }
}
