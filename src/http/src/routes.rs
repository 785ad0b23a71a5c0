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
        self.routes.iter().map(|(pattern, _)| &**pattern).find(|pattern| fits(pattern, path))
    }

    /// The methods of the route that fits `path`, as an `Allow` header lists them.
    pub fn allow(&self, path: &str) -> String {
        let methods = self.routes.iter().find(|(pattern, _)| fits(pattern, path));
        let mut names = Vec::new();
        for method in methods.map(|(_, methods)| methods.as_slice()).unwrap_or_default() {
            names.push(method.as_str());
            if method == Method::GET {
                names.push("HEAD");
            }
        }
        names.join(", ")
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
    fn get_brings_head_along_and_unknown_paths_allow_nothing() {
        let table = RouteTable::default().page("/docs/");
        assert_eq!(table.allow("/nowhere"), "");
        let table = table.page("/openapi.json");
        assert_eq!(table.allow("/openapi.json"), "GET, HEAD");
    }
}
