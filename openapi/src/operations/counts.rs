//! The operations that count the tokens of what a model would be asked.

use poem_openapi::{ApiResponse, OpenApi};
use rkllama_http::{ApiError, ApiJson, Caller};

use super::{ChatStatuses, Tag};
use crate::{
    State,
    convert::{self, Checked},
    failure::{self, Failure},
    wire::{ChatCompletionRequest, CreateResponse, InputTokens, InputTokensObject},
};

/// The operations about tokens.
pub(crate) struct CountsApi {
    pub(crate) state: State,
}

#[derive(ApiResponse)]
pub(crate) enum CountReply {
    /// The count.
    #[oai(status = 200)]
    Ok(ApiJson<InputTokens>),
}

#[OpenApi(prefix_path = "/v1")]
impl CountsApi {
    /// Count the tokens of a response's input
    ///
    /// Takes the request as `POST /v1/responses` does, with all that it goes on from, and tells how many
    /// tokens its model would be given, tools and images among them, whether or not they fit. Asks the model
    /// nothing and keeps nothing; where only the encoder of images can tell how many tokens they have, the
    /// model is loaded.
    #[oai(
        path = "/responses/input_tokens",
        method = "post",
        operation_id = "countResponseInputTokens",
        tag = "Tag::Responses"
    )]
    async fn count_response(
        &self,
        caller: Caller,
        body: ApiJson<CreateResponse>,
    ) -> Result<CountReply, Failure<ChatStatuses>> {
        let (checked, _) = convert::response(body.0, caller, &self.state)?;
        Ok(self.count(checked).await?)
    }

    /// Count the tokens of a chat
    ///
    /// As llama-server has it: takes the request as `POST /v1/chat/completions` does, and counts as
    /// `POST /v1/responses/input_tokens`.
    #[oai(
        path = "/chat/completions/input_tokens",
        method = "post",
        operation_id = "countChatInputTokens",
        tag = "Tag::Chat"
    )]
    async fn count_chat(
        &self,
        caller: Caller,
        body: ApiJson<ChatCompletionRequest>,
    ) -> Result<CountReply, Failure<ChatStatuses>> {
        let checked = convert::chat(body.0, caller, &self.state)?;
        Ok(self.count(checked).await?)
    }
}

impl CountsApi {
    async fn count(&self, checked: Checked) -> Result<CountReply, ApiError> {
        let Checked { requests, view, .. } = checked;
        let mut input_tokens = 0_u32;
        for request in requests {
            let counted = self.state.texts.count_tokens(request).await;
            let counted = counted.map_err(|error| failure::engine(error, view.blame))?;
            input_tokens = input_tokens.saturating_add(counted);
        }
        let object = InputTokensObject::InputTokens;
        Ok(CountReply::Ok(ApiJson(InputTokens { object, input_tokens })))
    }
}
