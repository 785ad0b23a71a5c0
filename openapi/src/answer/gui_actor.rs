//! A place as clients want it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rkllama_core::Pointed;

use crate::wire::{GuiActorObject, GuiActorPoint, GuiActorUsage};

/// The answer to a request for a place.
pub(crate) fn gui_actor(pointed: Pointed, model: String) -> GuiActorPoint {
    let Pointed { x, y, width, height, drawn, tokens } = pointed;
    GuiActorPoint {
        object: GuiActorObject::Point,
        model,
        x,
        y,
        width,
        height,
        image: drawn.map(|file| BASE64_STANDARD.encode(file)),
        usage: GuiActorUsage { prompt_tokens: tokens, total_tokens: tokens },
    }
}
