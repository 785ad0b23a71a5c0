//! Paths that mean others.
//!
//! poem-openapi has no wildcard: `/v1/models/:id` takes `a%2Fb` and not `a/b`. Clients send both,
//! so the second is made the first on the way in and one operation answers both. llama-server has most
//! of its routes without `/v1` too; `/completions` and `/embeddings` are then its own and not OpenAI's.

use poem::{
    Endpoint, IntoEndpoint, Request, Result,
    http::{Uri, uri::PathAndQuery},
};

const MODELS: &str = "/v1/models/";
const ALIASES: [(&str, &str); 7] = [
    ("/chat/completions", "/v1/chat/completions"),
    ("/chat/completions/input_tokens", "/v1/chat/completions/input_tokens"),
    ("/responses/input_tokens", "/v1/responses/input_tokens"),
    ("/completions", "/completion"),
    ("/embeddings", "/embedding"),
    ("/responses", "/v1/responses"),
    ("/messages", "/v1/messages"),
];

/// An endpoint that gets the paths that are meant.
pub(crate) struct Meant<E> {
    inner: E,
}

impl<E: Endpoint> Meant<E> {
    pub(crate) fn new(inner: impl IntoEndpoint<Endpoint = E>) -> Self {
        Self { inner: inner.into_endpoint() }
    }
}

impl<E: Endpoint> Endpoint for Meant<E> {
    type Output = E::Output;

    async fn call(&self, mut request: Request) -> Result<Self::Output> {
        if let Some(uri) = meant(request.uri()) {
            *request.uri_mut() = uri;
        }
        self.inner.call(request).await
    }
}

/// What `uri` means, where that is another: the slashes of a model's id encoded, aliases replaced.
fn meant(uri: &Uri) -> Option<Uri> {
    let path = match uri.path().strip_prefix(MODELS) {
        Some(id) if id.contains('/') => format!("{MODELS}{}", id.replace('/', "%2F")),
        Some(_) => return None,
        None => {
            let (_, path) = ALIASES.iter().find(|(alias, _)| *alias == uri.path())?;
            (*path).to_owned()
        }
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = path + &query;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_of_ids_are_encoded_and_aliases_replaced() {
        let encode = |uri: &str| meant(&uri.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(encode("/v1/models/a/b/c?x=/").unwrap(), "/v1/models/a%2Fb%2Fc?x=/");
        assert_eq!(encode("http://h/v1/models/a/b").unwrap(), "http://h/v1/models/a%2Fb");
        assert_eq!(encode("/v1/models/a"), None);
        assert_eq!(encode("/v1/chat/completions"), None);
        assert_eq!(encode("/chat/completions?a=b").unwrap(), "/v1/chat/completions?a=b");
        assert_eq!(encode("/completions").unwrap(), "/completion");
        assert_eq!(encode("/chat/completions/x"), None);
    }
}
