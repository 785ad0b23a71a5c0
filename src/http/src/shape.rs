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

    /// Writes an error's body, as JSON.
    fn body(&self, error: &ApiError) -> Vec<u8>;
}

/// A middleware that gives every error of an API its shape.
#[derive(Debug, Clone)]
pub struct Shaped<S> {
    shape: Arc<S>,
    routes: Arc<RouteTable>,
}

impl<S: ErrorShape> Shaped<S> {
    /// `routes` are those of the API, for the `Allow` header.
    pub fn new(shape: S, routes: RouteTable) -> Self {
        Self { shape: Arc::new(shape), routes: Arc::new(routes) }
    }
}

impl<S: ErrorShape, E: Endpoint> Middleware<E> for Shaped<S> {
    type Output = ShapedEndpoint<S, E>;

    fn transform(&self, inner: E) -> Self::Output {
        ShapedEndpoint { inner, shape: Arc::clone(&self.shape), routes: Arc::clone(&self.routes) }
    }
}

/// See [`Shaped`].
pub struct ShapedEndpoint<S, E> {
    inner: E,
    shape: Arc<S>,
    routes: Arc<RouteTable>,
}

impl<S: ErrorShape, E: Endpoint> Endpoint for ShapedEndpoint<S, E> {
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
                respond(&*self.shape, &self.shape.error(Fault::Panic { what: words(&*panic) }))
            }
        })
    }
}

impl<S: ErrorShape, E> ShapedEndpoint<S, E> {
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
        let error = match error.downcast::<ApiError>() {
            Ok(error) => error,
            Err(error) => self.shape.error(self.fault(error, method, path)),
        };
        let mut response = respond(&*self.shape, &error);
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
fn respond(shape: &impl ErrorShape, error: &ApiError) -> Response {
    error.log();
    let mut response = Response::builder()
        .status(error.status)
        .content_type("application/json")
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
