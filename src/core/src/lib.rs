//! The domain of rkllama: requests, events, models, errors, and the ports between rooms.
//!
//! Every API is a translation onto these types, so they carry no wire format, no status code and
//! no I/O. Whoever adds a type here adds it for all APIs at once.
#![forbid(unsafe_code)]

mod embedding;
mod engine;
mod error;
mod event;
mod file_name;
mod image;
mod keep_alive;
mod logprobs;
mod message;
mod model;
mod observer;
mod pointing;
mod presets;
mod request;
mod rerank;
mod sampling;
mod store;
mod texts;
mod tool;

pub use embedding::{EmbedError, EmbedInput, EmbedRequest, Embedding, Pooling};
pub use engine::{
    Embeddings, Engine, Generation, LoadState, ModelRuntime, Pointing, Problem, Relevances,
    Resident,
};
pub use error::{EngineError, ModelError, PromptTokens};
pub use event::{Event, Finish, Finished, Started, Timings, ToolCallPiece, Usage};
pub use file_name::{chip_in_name, toolkit_in_name};
pub use image::{
    Fetching, IMAGE_MARK, Image, ImageFetch, ImageSource, ImageTags, Normalise, PointerHead, Vision,
};
pub use keep_alive::{InvalidKeepAlive, KeepAlive};
pub use logprobs::{Logprobs, LogprobsWanted, TokenLogprob, TokenText};
pub use message::{Message, Role};
pub use model::{Adapter, Model, ModelState, Models, TextFiles};
pub use observer::{Account, Happened, Observer, Outcome, RunAccount};
pub use pointing::{PointRequest, Pointed};
pub use presets::{Presets, Source, is_jinja};
pub use request::{Chat, Format, Infill, Prompt, Request};
pub use rerank::{Relevance, RerankFrame, RerankRequest};
pub use sampling::Sampling;
pub use store::{
    Creation, Digest, InvalidDigest, ModelStore, Pull, Step, Steps, StoreError, Storing, Upload,
};
pub use texts::{Cutting, ModelTraits, Texts, Working};
pub use tool::{Tool, ToolCall, ToolChoice};
