//! Who asks: for the APIs, and for the document.

use std::sync::Arc;

use poem::{Request, RequestBody, Result};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

/// The name of the key with which a request was let in. Among the request's data.
#[derive(Debug, Clone)]
pub(super) struct KeyName(pub(super) Arc<str>);

/// Whom a request takes turns as: its key's name, else the machine it came from.
///
/// An operation that takes it is documented as one that needs a key where the server has keys.
/// The asking itself is [`super::Guard`]'s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Arc<str>);

const SCHEME: &str = "bearer";

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SCHEME,
            MetaSecurityScheme {
                ty: "http",
                description: Some(
                    "One of the server's keys; the header `x-api-key` may carry it too. A server \
                     without keys takes any, and requests without one.",
                ),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: None,
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    fn has_security_fallback() -> bool {
        true
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> Result<Self> {
        if let Some(KeyName(name)) = request.data() {
            return Ok(Self(Arc::clone(name)));
        }
        let peer = request.remote_addr();
        let machine = peer.as_socket_addr().map(|address| address.ip().to_string());
        Ok(Self(machine.unwrap_or_else(|| peer.to_string()).into()))
    }
}
