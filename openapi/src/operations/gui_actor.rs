//! The operation about places on pictures of screens.

use poem_openapi::{ApiResponse, OpenApi};
use rkllama_http::{ApiJson, Caller};

use super::{ChatStatuses, Tag};
use crate::{
    State, answer, convert,
    failure::{self, Blame, Failure},
    wire::{GuiActorPoint, GuiActorRequest},
};

/// The operation about places on pictures of screens.
pub(crate) struct GuiActorApi {
    pub(crate) state: State,
}

#[derive(ApiResponse)]
pub(crate) enum GuiActorReply {
    /// The place.
    #[oai(status = 200)]
    Ok(ApiJson<GuiActorPoint>),
}

#[OpenApi(prefix_path = "/v1")]
impl GuiActorApi {
    /// Find where to click
    ///
    /// On a picture of a screen, for what is to be done there: an extension to OpenAI's API, for
    /// models of GUI-Actor's kind. A closed connection cancels.
    #[oai(
        path = "/gui_actor",
        method = "post",
        operation_id = "createGuiActorPoint",
        tag = "Tag::GuiActor"
    )]
    async fn create_gui_actor_point(
        &self,
        caller: Caller,
        body: ApiJson<GuiActorRequest>,
    ) -> Result<GuiActorReply, Failure<ChatStatuses>> {
        let (request, model) = convert::gui_actor(body.0, caller, &self.state)?;
        let pointed = self.state.engine.point(request).await;
        let blame = Blame { prompt: "prompt", format: "prompt" };
        let pointed = pointed.map_err(|error| failure::engine(error, blame))?;
        Ok(GuiActorReply::Ok(ApiJson(answer::gui_actor(pointed, model))))
    }
}
