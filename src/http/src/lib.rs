//! HTTP plumbing shared by the APIs: accept loop, payloads, errors, pages.
//!
//! No API's wire format lives here. What an API says when something goes wrong comes in through
//! [`ErrorShape`]; what it says when all goes well is its own business.
#![forbid(unsafe_code)]

mod auth;
mod browser;
mod document;
mod error;
mod failure;
mod fallback;
mod file_body;
mod hangup;
mod image_source;
mod intake;
mod json;
mod limits;
mod metrics;
mod ndjson;
mod nullable;
mod observe;
mod own_json;
mod raw_json;
mod routes;
mod serve;
mod shape;
mod sse;
mod swagger;
mod trouble;

pub use auth::{ApiKey, AuthError, Caller, Guard, InvalidDigest, KeyLimits, Keys};
pub use browser::{BrowserRules, Browsers, InvalidOrigin};
pub use error::ApiError;
pub use failure::{Failure, Statuses};
pub use fallback::{Fallbacks, Unresolved};
pub use file_body::FileBody;
pub use image_source::{image_of_base64, image_of_text, image_of_url};
pub use intake::Intake;
pub use json::{ApiJson, BodyError};
pub use limits::Limits;
pub use metrics::{Exposition, Metrics};
pub use ndjson::{Ndjson, line as ndjson_line};
pub use nullable::{Nullable, given};
pub use observe::Observe;
pub use own_json::{OwnJson, ReadBody};
pub use raw_json::{JsonObject, JsonValue};
pub use routes::RouteTable;
pub use serve::serve;
pub use shape::{ErrorShape, Fault, Shaped};
pub use sse::{EventData, Sse, event as sse_event};
pub use swagger::SwaggerUi;
pub use trouble::Trouble;
