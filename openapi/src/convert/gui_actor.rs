//! A request for a place on a picture of a screen.

use std::sync::Arc;

use rkllama_core::{Image, PointRequest};
use rkllama_http::{ApiError, Caller, image_of_text};

use super::{common::CommonFields, model::resolve_for_pointing};
use crate::{
    State,
    refusal::{invalid, invalid_image},
    wire::GuiActorRequest,
};

/// Checks a request and translates it; the model's name for the answer is the client's own word.
pub(crate) fn gui_actor(
    wire: GuiActorRequest,
    caller: Caller,
    state: &State,
) -> Result<(PointRequest, String), ApiError> {
    let keep_alive =
        CommonFields { keep_alive: wire.keep_alive, ..CommonFields::default() }.keep_alive()?;
    if wire.prompt.trim().is_empty() {
        let words = "Invalid 'prompt': it is empty, and has to say what the click is to do.";
        return Err(invalid(words).code("invalid_value").param("prompt"));
    }
    let source = image_of_text(&wire.image).map_err(|reason| invalid_image("image", &reason))?;
    let (model, name) = resolve_for_pointing(wire.model, state)?;
    let request = PointRequest {
        model,
        task: wire.prompt,
        screen: Image { field: "image".to_owned(), source },
        draws: wire.label.unwrap_or(false),
        keep_alive,
        client: Arc::clone(&caller.0),
    };
    Ok((request, name))
}
