//! The operation about embeddings.

use poem_openapi::{ApiResponse, OpenApi};
use rkllama_core::EmbedError;
use rkllama_http::{ApiError, ApiJson, Caller};

use super::{ChatStatuses, Tag, named};
use crate::{
    State, answer, convert,
    convert::CheckedEmbedding,
    failure::{self, Blame, Failure},
    wire::{EmbeddingList, EmbeddingRequest},
};

/// The field with what is to be read.
const INPUT: &str = "input";

/// The operation about embeddings.
pub(crate) struct EmbeddingsApi {
    pub(crate) state: State,
}

#[derive(ApiResponse)]
pub(crate) enum EmbeddingsReply {
    /// The vectors.
    #[oai(status = 200)]
    Ok(
        ApiJson<EmbeddingList>,
        /// Fields of the request that had no effect, separated by commas.
        #[oai(header = "x-rkllama-ignored")]
        Option<String>,
    ),
}

#[OpenApi(prefix_path = "/v1")]
impl EmbeddingsApi {
    /// Create embeddings
    ///
    /// Reads texts into vectors, one after the other. A closed connection cancels the rest.
    #[oai(
        path = "/embeddings",
        method = "post",
        operation_id = "createEmbedding",
        tag = "Tag::Embeddings"
    )]
    async fn create_embedding(
        &self,
        caller: Caller,
        body: ApiJson<EmbeddingRequest>,
    ) -> Result<EmbeddingsReply, Failure<ChatStatuses>> {
        let checked = convert::embedding(body.0, caller, &self.state)?;
        let CheckedEmbedding { request, model, encoding, dimensions, ignored } = checked;
        let count = request.inputs.len();
        let embeddings = self.state.engine.embed(request).await;
        let embeddings = embeddings.map_err(|error| failed(error, count))?;
        let list = answer::embeddings(embeddings, model, encoding, dimensions)?;
        Ok(EmbeddingsReply::Ok(ApiJson(list), named(&ignored)))
    }
}

/// Names the input that is at fault where there are several.
fn failed(EmbedError { input, error }: EmbedError, count: usize) -> ApiError {
    let error = failure::engine(error, Blame { prompt: INPUT, format: INPUT });
    if count > 1 && error.param.as_deref() == Some(INPUT) {
        return error.param(format!("{INPUT}[{input}]"));
    }
    error
}
