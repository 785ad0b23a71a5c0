//! Which methods a path knows, for the `Allow` header of a 405.
//!
//! Taken from the published operations, so that no second list of routes is kept by hand.

use poem::http::Method;
use poem_openapi::OpenApi;

/// Paths with their methods.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    routes: Vec<(String, Vec<Method>)>,
}

impl RouteTable {
    /// The operations of `T`.
    pub fn of<T: OpenApi>() -> Self {
        let routes = T::meta()
            .into_iter()
            .flat_map(|api| api.paths)
            .map(|path| {
                let methods = path.operations.into_iter().map(|operation| operation.method);
                (path.path, methods.collect())
            })
            .collect();
        Self { routes }
    }

    /// Adds a page that is no operation.
    #[must_use]
    pub fn page(mut self, path: &str) -> Self {
        self.routes.push((path.to_owned(), vec![Method::GET]));
        self
    }

    /// The route that fits `path`, as the document writes it: `/v1/models/{id}`.
    pub fn pattern(&self, path: &str) -> Option<&str> {
        self.route(path).map(|(pattern, _)| &**pattern)
    }

    /// The methods of the route that fits `path`, as an `Allow` header lists them.
    pub fn allow(&self, path: &str) -> String {
        let mut names = Vec::new();
        for method in self.route(path).map(|(_, methods)| methods.as_slice()).unwrap_or_default() {
            names.push(method.as_str());
            if method == Method::GET {
                names.push("HEAD");
            }
        }
        names.join(", ")
    }

    /// The route that fits `path` the closest: `/a/{id}/b` before `/a/{id}`, which takes slashes too.
    fn route(&self, path: &str) -> Option<&(String, Vec<Method>)> {
        let fitting = self.routes.iter().filter(|(pattern, _)| fits(pattern, path));
        fitting.max_by_key(|(pattern, _)| pattern.split('/').count())
    }
}

/// Whether `path` is one of `pattern`'s; a slash at its end counts for nothing. A `{parameter}` at the end takes the rest, slashes too:
/// ids of models have them.
fn fits(pattern: &str, path: &str) -> bool {
    let mut segments = path.trim_end_matches('/').split('/');
    let mut patterns = pattern.split('/').peekable();
    while let Some(expected) = patterns.next() {
        let Some(segment) = segments.next() else { return false };
        let is_parameter = expected.starts_with('{');
        if is_parameter && patterns.peek().is_none() {
            return true;
        }
        if !is_parameter && segment != expected {
            return false;
        }
    }
    segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_at_the_end_takes_slashes() {
        assert!(fits("/v1/models/{id}", "/v1/models/a"));
        assert!(fits("/v1/models/{id}", "/v1/models/a/b/c"));
        assert!(!fits("/v1/models/{id}", "/v1/models"));
        assert!(fits("/v1/models", "/v1/models/"));
        assert!(!fits("/v1/models", "/v1/models/a"));
        assert!(!fits("/v1/models", "/v1/chat"));
    }

    #[test]
    fn the_closest_route_is_the_one_meant() {
        let table = ["/v1/responses/{id}", "/v1/responses/{id}/cancel", "/v1/responses"];
        let table = table.into_iter().fold(RouteTable::default(), RouteTable::page);
        for (path, pattern) in [
            ("/v1/responses", "/v1/responses"),
            ("/v1/responses/a", "/v1/responses/{id}"),
            ("/v1/responses/a/cancel", "/v1/responses/{id}/cancel"),
        ] {
            assert_eq!(table.pattern(path), Some(pattern));
        }
    }

    #[test]
    fn get_brings_head_along_and_unknown_paths_allow_nothing() {
        let table = RouteTable::default().page("/docs/");
        assert_eq!(table.allow("/nowhere"), "");
        let table = table.page("/openapi.json");
        assert_eq!(table.allow("/openapi.json"), "GET, HEAD");
    }
}
