//! Errors leave in the API's own shape, whoever made them.
//!
//! poem answers unknown routes, wrong methods and unreadable bodies with plain text, and a panic
//! with nothing. [`Shaped`] stands around an API's routes and lets that API say all of it.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use poem::{
    Endpoint, Error, IntoResponse, Middleware, PathPattern, Request, Response, Result,
    error::{MethodNotAllowedError, NotFoundError, ParsePathError},
    http::{HeaderValue, Method, StatusCode, header},
};

use crate::{ApiError, AuthError, BodyError, RouteTable};

/// Something that went wrong outside an API's handlers.
#[derive(Debug)]
pub enum Fault {
    /// No such path.
    UnknownRoute {
        /// The request's method.
        method: Method,
        /// The request's path.
        path: String,
    },
    /// The path is there, the method is not.
    WrongMethod {
        /// The request's method.
        method: Method,
        /// The request's path.
        path: String,
        /// The methods that would do, as in the `Allow` header.
        allow: String,
    },
    /// The body cannot be taken as a request.
    Body(BodyError),
    /// It is not let in.
    Auth(AuthError),
    /// A handler panicked.
    Panic {
        /// What it said, for the log.
        what: String,
    },
    /// A parameter of the path cannot be read.
    Parameter {
        /// Its name.
        name: String,
    },
    /// The framework refused for another reason.
    Framework {
        /// The status it chose.
        status: StatusCode,
        /// Its words.
        reason: String,
    },
}

/// How an API words and writes its errors.
pub trait ErrorShape: Send + Sync + 'static {
    /// Words a fault.
    fn error(&self, fault: Fault) -> ApiError;

    /// Writes an error's body.
    fn body(&self, error: &ApiError) -> Vec<u8>;

    /// What that body is.
    fn content_type(&self, _error: &ApiError) -> &'static str {
        "application/json"
    }
}

/// The shapes of several APIs, by where their paths begin.
struct Shapes {
    others: Vec<(&'static str, Box<dyn ErrorShape>)>,
    rest: Box<dyn ErrorShape>,
}

impl Shapes {
    /// The shape of a path's errors: that of the longest beginning that is there.
    fn of(&self, path: &str) -> &dyn ErrorShape {
        let fits = |beginning: &str| {
            let rest = path.strip_prefix(beginning);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let fitting = self.others.iter().filter(|(beginning, _)| fits(beginning));
        let longest = fitting.max_by_key(|(beginning, _)| beginning.len());
        longest.map_or(&*self.rest, |(_, shape)| &**shape)
    }
}

/// A middleware that gives every error the shape of the API that was meant.
#[derive(Clone)]
pub struct Shaped {
    shapes: Arc<Shapes>,
    routes: Arc<RouteTable>,
}

impl Shaped {
    /// `shape` is that of all paths but those that begin as one of `others`; `routes` are those of
    /// all APIs, for the `Allow` header.
    pub fn new(
        shape: impl ErrorShape,
        others: Vec<(&'static str, Box<dyn ErrorShape>)>,
        routes: RouteTable,
    ) -> Self {
        let shapes = Shapes { others, rest: Box::new(shape) };
        Self { shapes: Arc::new(shapes), routes: Arc::new(routes) }
    }
}

impl<E: Endpoint> Middleware<E> for Shaped {
    type Output = ShapedEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        ShapedEndpoint { inner, shapes: Arc::clone(&self.shapes), routes: Arc::clone(&self.routes) }
    }
}

/// See [`Shaped`].
pub struct ShapedEndpoint<E> {
    inner: E,
    shapes: Arc<Shapes>,
    routes: Arc<RouteTable>,
}

impl<E: Endpoint> Endpoint for ShapedEndpoint<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind().await;
        Ok(match answer {
            Ok(Ok(response)) => self.labelled(response.into_response(), &path),
            Ok(Err(error)) => {
                let response = self.refuse(error, method, path.clone());
                self.labelled(response, &path)
            }
            Err(panic) => {
                let shape = self.shapes.of(&path);
                respond(shape, &shape.error(Fault::Panic { what: words(&*panic) }))
            }
        })
    }
}

impl<E> ShapedEndpoint<E> {
    /// Gives the log the route in the document's words: poem-openapi calls parameters `:param0`.
    fn labelled(&self, mut response: Response, path: &str) -> Response {
        let pattern = response.data::<PathPattern>().and_then(|_| self.routes.pattern(path));
        if let Some(pattern) = pattern.map(|pattern| PathPattern(pattern.into())) {
            response.set_data(pattern);
        }
        response
    }

    fn refuse(&self, error: Error, method: Method, path: String) -> Response {
        let pattern = error.data::<PathPattern>().cloned();
        let is_unknown = error.is::<NotFoundError>();
        let shape = self.shapes.of(&path);
        let error = match error.downcast::<ApiError>() {
            Ok(error) => error,
            Err(error) => shape.error(self.fault(error, method, path)),
        };
        let mut response = respond(shape, &error);
        // The pattern is for the log line; a path that is unknown has none.
        if let Some(pattern) = pattern.filter(|_| !is_unknown) {
            response.set_data(pattern);
        }
        response
    }

    fn fault(&self, error: Error, method: Method, path: String) -> Fault {
        if error.is::<NotFoundError>() {
            return Fault::UnknownRoute { method, path };
        }
        if error.is::<MethodNotAllowedError>() {
            let allow = self.routes.allow(&path);
            return Fault::WrongMethod { method, path, allow };
        }
        if error.is::<ParsePathError>() {
            let pattern = self.routes.pattern(&path).unwrap_or_default();
            let name = pattern.split(['{', '}']).nth(1).unwrap_or("path").to_owned();
            return Fault::Parameter { name };
        }
        let error = match error.downcast::<AuthError>() {
            Ok(error) => return Fault::Auth(error),
            Err(error) => error,
        };
        match error.downcast::<BodyError>() {
            Ok(error) => Fault::Body(error),
            Err(error) => Fault::Framework { status: error.status(), reason: error.to_string() },
        }
    }
}

/// Logs an error and makes it a response.
fn respond(shape: &dyn ErrorShape, error: &ApiError) -> Response {
    error.log();
    let mut response = Response::builder()
        .status(error.status)
        .content_type(shape.content_type(error))
        .body(shape.body(error));
    if let Some(seconds) = error.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    for (name, value) in error.headers.iter().flat_map(|headers| headers.iter()) {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".into())
}
