//! Swagger UI from `utoipa-swagger-ui`'s embedded files: nothing is loaded from elsewhere, so it
//! works on a board without a network.

use std::{
    io::{self, Read},
    sync::Arc,
};

use flate2::read::GzDecoder;
use poem::{
    Endpoint, Request, Response, Result,
    error::{InternalServerError, MethodNotAllowedError, NotFoundError},
    http::{Method, StatusCode, header::ACCEPT_ENCODING},
};
use utoipa_swagger_ui::{Config, SwaggerFile};

/// What the page needs and nothing else: its own files, inline styles and `data:` images, which
/// its bundle makes, and requests to this server, which "Try it out" sends.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The pages below a mount point such as `/docs`.
pub struct SwaggerUi {
    config: Arc<Config<'static>>,
}

impl SwaggerUi {
    /// Pages that show the document at `document_url`.
    pub fn new(document_url: &'static str) -> Self {
        // No validator badge: it would send the document's address to a public service.
        let config =
            Config::from(document_url).validator_url("none").display_request_duration(true);
        Self { config: Arc::new(config) }
    }
}

impl Endpoint for SwaggerUi {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Err(MethodNotAllowedError.into());
        }
        let inner_path = request.uri().path().trim_start_matches('/');
        let original = request.original_uri().path();
        // The page's links are relative: without the slash they would point one level up.
        if inner_path.is_empty() && !original.ends_with('/') {
            return Ok(Response::builder()
                .status(StatusCode::PERMANENT_REDIRECT)
                .header("location", format!("{original}/"))
                .finish());
        }
        match utoipa_swagger_ui::serve(inner_path, Arc::clone(&self.config)) {
            Ok(Some(file)) => page(file, takes_gzip(&request)),
            Ok(None) => Err(NotFoundError.into()),
            Err(error) => {
                Err(poem::Error::from_string(error.to_string(), StatusCode::INTERNAL_SERVER_ERROR))
            }
        }
    }
}

/// Whether the client said that it takes gzip. Every browser does; `curl` does not unless asked.
fn takes_gzip(request: &Request) -> bool {
    let accepted = request.headers().get_all(ACCEPT_ENCODING).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| matches!(coding.split(';').next().map(str::trim), Some("gzip" | "*")))
}

fn page(file: SwaggerFile<'_>, takes_gzip: bool) -> Result<Response> {
    let response = Response::builder()
        .content_type(&file.content_type)
        .header("content-security-policy", CONTENT_SECURITY_POLICY)
        .header("x-content-type-options", "nosniff")
        .header("referrer-policy", "no-referrer")
        .header("cache-control", "no-cache")
        .header("vary", "accept-encoding");
    // `gzpipped` is the crate's spelling.
    Ok(match (file.gzpipped, takes_gzip) {
        (false, _) => response.body(file.bytes.into_owned()),
        (true, true) => response.header("content-encoding", "gzip").body(file.bytes.into_owned()),
        (true, false) => response.body(unpacked(&file.bytes).map_err(InternalServerError)?),
    })
}

fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain)?;
    Ok(plain)
}
