//! Anthropic's Messages API.

mod answer;
mod convert;
mod failure;
pub mod wire;

use poem_openapi::{ApiResponse, OpenApi, ResponseContent, Tags};
use rkllama_http::{ApiJson, Caller, Failure, Sse, Statuses};

use self::wire::{ErrorBody, Message, MessagesRequest, StreamEvent, TokenCount};
use crate::{State, run::named};

pub use failure::AnthropicShape;

#[derive(Tags)]
enum Tag {
    /// Anthropic's API.
    Anthropic,
}

/// Anthropic's operations.
pub struct AnthropicApi {
    state: State,
}

/// The statuses with which an answer fails.
struct AnswerStatuses;

impl Statuses for AnswerStatuses {
    type Body = ErrorBody;
    const STATUSES: &'static [u16] = &[400, 401, 404, 408, 413, 429, 500, 503];
}

/// An answer, whole or as events.
#[derive(ResponseContent)]
enum MessageContent {
    Whole(ApiJson<Box<Message>>),
    Events(Sse<StreamEvent>),
}

#[derive(ApiResponse)]
enum MessageReply {
    /// The answer; with `stream` as server-sent events. An error after the first event comes as an event
    /// `error`, and ends them.
    #[oai(status = 200)]
    Ok(
        MessageContent,
        /// Fields of the request that had no effect, separated by commas. For a streamed answer: as far as
        /// they are known when it begins.
        #[oai(header = "x-rkllama-ignored")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
enum CountReply {
    /// The count.
    #[oai(status = 200)]
    Ok(ApiJson<TokenCount>),
}

impl AnthropicApi {
    /// The operations at work.
    pub(crate) const fn new(state: State) -> Self {
        Self { state }
    }
}

#[OpenApi(prefix_path = "/v1")]
impl AnthropicApi {
    /// Create a message
    ///
    /// Answers a conversation. A closed connection cancels the answer.
    #[oai(
        path = "/messages",
        method = "post",
        operation_id = "anthropicMessage",
        tag = "Tag::Anthropic"
    )]
    async fn create_message(
        &self,
        caller: Caller,
        body: ApiJson<MessagesRequest>,
    ) -> Result<MessageReply, Failure<AnswerStatuses>> {
        let checked = convert::message(body.0, caller.0, &self.state)?;
        let (content, ignored) = if checked.stream {
            let (events, ignored) = answer::events(&self.state, checked).await?;
            let heartbeat = self.state.intake.limits().heartbeat;
            (MessageContent::Events(Sse::new(events, heartbeat)), ignored)
        } else {
            let (message, ignored) = answer::whole(&self.state, checked).await?;
            (MessageContent::Whole(ApiJson(Box::new(message))), ignored)
        };
        Ok(MessageReply::Ok(content, named(&ignored)))
    }

    /// Count the tokens of a conversation
    ///
    /// As its model would be given it, tools and images among them, whether or not it fits. Asks the model
    /// nothing; where only the encoder of images can tell how many tokens they have, the model is loaded.
    #[oai(
        path = "/messages/count_tokens",
        method = "post",
        operation_id = "anthropicCountTokens",
        tag = "Tag::Anthropic"
    )]
    async fn count_tokens(
        &self,
        caller: Caller,
        body: ApiJson<MessagesRequest>,
    ) -> Result<CountReply, Failure<AnswerStatuses>> {
        let request = convert::counted(body.0, caller.0, &self.state)?;
        let counted = self.state.texts.count_tokens(request).await;
        let input_tokens = counted.map_err(failure::engine)?;
        Ok(CountReply::Ok(ApiJson(TokenCount { input_tokens })))
    }
}
