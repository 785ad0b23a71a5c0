//! Ids of models with slashes in a path.
//!
//! poem-openapi has no wildcard: `/v1/models/:id` takes `a%2Fb` and not `a/b`. Clients send both,
//! so the second is made the first on the way in and one operation answers both.

use poem::{
    Endpoint, IntoEndpoint, Request, Result,
    http::{Uri, uri::PathAndQuery},
};

const MODELS: &str = "/v1/models/";

/// An endpoint that gets the slashes of a model's id encoded.
pub(crate) struct EncodeSlashes<E> {
    inner: E,
}

impl<E: Endpoint> EncodeSlashes<E> {
    pub(crate) fn new(inner: impl IntoEndpoint<Endpoint = E>) -> Self {
        Self { inner: inner.into_endpoint() }
    }
}

impl<E: Endpoint> Endpoint for EncodeSlashes<E> {
    type Output = E::Output;

    async fn call(&self, mut request: Request) -> Result<Self::Output> {
        if let Some(uri) = encoded(request.uri()) {
            *request.uri_mut() = uri;
        }
        self.inner.call(request).await
    }
}

/// `uri` with the slashes of a model's id encoded, where it has any.
fn encoded(uri: &Uri) -> Option<Uri> {
    let id = uri.path().strip_prefix(MODELS)?;
    if !id.contains('/') {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("{MODELS}{}{query}", id.replace('/', "%2F"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_slashes_of_an_id_are_encoded() {
        let encode = |uri: &str| encoded(&uri.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(encode("/v1/models/a/b/c?x=/").unwrap(), "/v1/models/a%2Fb%2Fc?x=/");
        assert_eq!(encode("http://h/v1/models/a/b").unwrap(), "http://h/v1/models/a%2Fb");
        assert_eq!(encode("/v1/models/a"), None);
        assert_eq!(encode("/v1/chat/completions"), None);
    }
}
