//! The operations about responses.

use std::sync::Arc;

use poem::http::StatusCode;
use poem_openapi::{
    ApiResponse, Enum, OpenApi, ResponseContent,
    param::{Path, Query},
};
use rkllama_http::{ApiError, ApiJson, Caller, Intake, Sse};

use super::{ChatStatuses, Tag, named};
use crate::{
    State,
    answer::{self, whole_response},
    convert::{self, check_integer, owner},
    failure::{Failure, Statuses},
    kept::Kept,
    refusal::{echo, invalid},
    wire::{
        CreateResponse, DeletedResponse, ModelListObject, Nullable, PageLen, Response,
        ResponseEvent, ResponseItemList, ResponseObjectName,
    },
};

/// Items of a page where the request does not say: OpenAI's own number.
const PAGE_LEN_DEFAULT: usize = 20;

/// The operations about responses.
pub(crate) struct ResponsesApi {
    pub(crate) state: State,
    pub(crate) intake: Intake,
}

/// The statuses with which a question about a kept response fails.
pub(crate) struct KeptStatuses;

impl Statuses for KeptStatuses {
    type Body = crate::wire::ErrorResponse;
    const STATUSES: &'static [u16] = &[400, 401, 404, 429, 500];
    const NOT_FOUND: &'static str = "There is no such response: it never was, is another key's, was not to be kept, or had to \
         make room.";
}

/// Both forms of one answer.
#[derive(ResponseContent)]
pub(crate) enum ResponseForms {
    Whole(ApiJson<Box<Response>>),
    Events(Sse<ResponseEvent>),
}

#[derive(ApiResponse)]
pub(crate) enum ResponseReply {
    /// The response; with `stream` as server-sent events. An error after the first event comes as
    /// the event `error`, and then `response.failed`.
    #[oai(status = 200)]
    Ok(
        ResponseForms,
        /// Fields of the request that had no effect, separated by commas. For a streamed answer:
        /// as far as they are known when it begins.
        #[oai(header = "x-rkllama-ignored")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
pub(crate) enum KeptReply {
    /// The response.
    #[oai(status = 200)]
    Ok(ApiJson<Response>),
}

#[derive(ApiResponse)]
pub(crate) enum DeletedReply {
    /// It is kept no more. Responses that went on from it still have its items.
    #[oai(status = 200)]
    Ok(ApiJson<DeletedResponse>),
}

#[derive(ApiResponse)]
pub(crate) enum ItemsReply {
    /// A page of the items.
    #[oai(status = 200)]
    Ok(ApiJson<ResponseItemList>),
}

/// In which order items come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub(crate) enum ItemOrder {
    /// Oldest first.
    Asc,
    /// Newest first.
    Desc,
}

#[OpenApi(prefix_path = "/v1")]
impl ResponsesApi {
    /// Create a response
    ///
    /// Answers a text or a conversation, or goes on from a kept response. A closed connection
    /// cancels the answer.
    #[oai(
        path = "/responses",
        method = "post",
        operation_id = "createResponse",
        tag = "Tag::Responses"
    )]
    async fn create_response(
        &self,
        caller: Caller,
        body: ApiJson<CreateResponse>,
    ) -> Result<ResponseReply, Failure<ChatStatuses>> {
        let (mut checked, composer) = convert::response(body.0, caller, &self.state)?;
        let mut ignored = std::mem::take(&mut checked.ignored);
        let is_streamed = checked.stream;
        let steps = answer::in_turn(Arc::clone(&self.state.engine), checked);
        let content = if is_streamed {
            let heartbeat = self.intake.limits().heartbeat;
            let opened = answer::open(steps, heartbeat).await?;
            ignored.extend(&opened.ignored);
            ResponseForms::Events(Sse::new(answer::chunks(opened, composer), heartbeat))
        } else {
            let (response, ignored_by_runtime) = whole_response(steps, composer).await?;
            ignored.extend(&ignored_by_runtime);
            ResponseForms::Whole(ApiJson(Box::new(response)))
        };
        Ok(ResponseReply::Ok(content, named(&ignored)))
    }

    /// Retrieve a response
    #[oai(
        path = "/responses/:response_id",
        method = "get",
        operation_id = "getResponse",
        tag = "Tag::Responses"
    )]
    async fn get_response(
        &self,
        caller: Caller,
        /// The response's id.
        response_id: Path<String>,
        /// True is refused with 400: only responses made in the background could be streamed again.
        stream: Query<Option<bool>>,
    ) -> Result<KeptReply, Failure<KeptStatuses>> {
        let kept = self.kept(caller, &response_id.0)?;
        if stream.0 == Some(true) {
            return Err(invalid(
                "This response cannot be streamed because it was not created with background=true.",
            )
            .code("invalid_request_error")
            .param("stream")
            .into());
        }
        Ok(KeptReply::Ok(ApiJson(kept.response.clone())))
    }

    /// Delete a response
    #[oai(
        path = "/responses/:response_id",
        method = "delete",
        operation_id = "deleteResponse",
        tag = "Tag::Responses"
    )]
    async fn delete_response(
        &self,
        caller: Caller,
        /// The response's id.
        response_id: Path<String>,
    ) -> Result<DeletedReply, Failure<KeptStatuses>> {
        if !self.state.responses.forget(&owner(caller, &self.state), &response_id.0) {
            return Err(not_found(&response_id.0).into());
        }
        let object = ResponseObjectName::Response;
        let deleted = DeletedResponse { id: response_id.0, object, deleted: true };
        Ok(DeletedReply::Ok(ApiJson(deleted)))
    }

    /// Cancel a response
    ///
    /// Always an error: only responses made in the background can be cancelled, and there are none.
    /// To cancel one that is being made, close its connection.
    #[oai(
        path = "/responses/:response_id/cancel",
        method = "post",
        operation_id = "cancelResponse",
        tag = "Tag::Responses"
    )]
    async fn cancel_response(
        &self,
        caller: Caller,
        /// The response's id.
        response_id: Path<String>,
    ) -> Result<KeptReply, Failure<KeptStatuses>> {
        self.kept(caller, &response_id.0)?;
        Err(invalid("Cannot cancel a synchronous response.").into())
    }

    /// List the input items of a response
    ///
    /// All that the model was given, the items of earlier turns included; not the instructions.
    #[oai(
        path = "/responses/:response_id/input_items",
        method = "get",
        operation_id = "listInputItems",
        tag = "Tag::Responses"
    )]
    async fn list_input_items(
        &self,
        caller: Caller,
        /// The response's id.
        response_id: Path<String>,
        /// Most items of the page, 1 to 100. Default 20.
        limit: Query<Option<PageLen>>,
        /// Default `desc`.
        order: Query<Option<ItemOrder>>,
        /// The id of the item behind which the page begins.
        after: Query<Option<String>>,
    ) -> Result<ItemsReply, Failure<KeptStatuses>> {
        let limit = limit.0.map(|PageLen(len)| len);
        check_integer("limit", limit, 1, PageLen::MAX)?;
        let kept = self.kept(caller, &response_id.0)?;
        let len = limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(PAGE_LEN_DEFAULT);
        let order = order.0.unwrap_or(ItemOrder::Desc);
        Ok(ItemsReply::Ok(ApiJson(page(&kept, order, after.0.as_deref(), len)?)))
    }
}

impl ResponsesApi {
    fn kept(&self, caller: Caller, id: &str) -> Result<Arc<Kept>, ApiError> {
        let kept = self.state.responses.get(&owner(caller, &self.state), id);
        kept.ok_or_else(|| not_found(id))
    }
}

/// In OpenAI's words.
fn not_found(id: &str) -> ApiError {
    let words = format!("Response with id '{}' not found.", echo(id));
    ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", words)
}

fn page(
    kept: &Kept,
    order: ItemOrder,
    after: Option<&str>,
    len: usize,
) -> Result<ResponseItemList, ApiError> {
    let mut items = kept.context.clone();
    if order == ItemOrder::Desc {
        items.reverse();
    }
    let begin = match after {
        None => 0,
        Some(id) => {
            let place = items.iter().position(|item| item.id == id).ok_or_else(|| {
                invalid(format!("Invalid 'after': there is no item '{}'.", echo(id)))
                    .code("invalid_value")
                    .param("after")
            })?;
            place + 1
        }
    };
    let has_more = items.len() > begin + len;
    let data: Vec<_> = items.into_iter().skip(begin).take(len).collect();
    Ok(ResponseItemList {
        object: ModelListObject::List,
        first_id: Nullable(data.first().map(|item| item.id.clone())),
        last_id: Nullable(data.last().map(|item| item.id.clone())),
        data,
        has_more,
    })
}
