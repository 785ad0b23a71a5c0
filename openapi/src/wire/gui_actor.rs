//! The request for a place on a picture of a screen, and its answer.

use poem_openapi::{Enum, Object, types::Example};
use rkllama_http::read_from_object;
use serde::{Deserialize, Serialize};

use super::{KeepAlive, Nullable};

/// A picture of a screen, and what is to be done on it.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(example, skip_serializing_if_is_none)]
pub struct GuiActorRequest {
    /// The model, by its id in `GET /v1/models`: one with a pointer head. Where absent: the only one
    /// that has.
    #[oai(nullable)]
    pub model: Option<String>,
    /// What the click is to do. Names of control tokens in it are text.
    pub prompt: String,
    /// The picture: a data URL, base64 alone, or an address of http or https where the server is
    /// configured to fetch them. JPEG, PNG, WebP, GIF (the first frame) or BMP.
    pub image: String,
    /// Whether the picture with the place marked is wanted. Default false.
    #[oai(nullable)]
    pub label: Option<bool>,
    /// How long the model stays loaded afterwards: seconds, or a text such as `"5m"`; 0 unloads it
    /// at once, a negative number keeps it.
    pub keep_alive: Option<Nullable<KeepAlive>>,
}

impl Example for GuiActorRequest {
    fn example() -> Self {
        Self {
            model: Some("GUI-Actor-3B".to_owned()),
            prompt: "Open the settings.".to_owned(),
            image: "data:image/png;base64,iVBORw0KGgo=".to_owned(),
            label: Some(true),
            keep_alive: None,
        }
    }
}

/// Always `gui_actor.point`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
pub enum GuiActorObject {
    /// The only value.
    #[oai(rename = "gui_actor.point")]
    #[serde(rename = "gui_actor.point")]
    Point,
}

/// Where to click.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example)]
pub struct GuiActorPoint {
    /// Always `gui_actor.point`.
    pub object: GuiActorObject,
    /// The model's name as the request gave it.
    pub model: String,
    /// Pixels from the picture's left edge, from 0 to `width` - 1. A picture whose EXIF data says so
    /// is turned upright first.
    pub x: u32,
    /// Pixels from its top, from 0 to `height` - 1.
    pub y: u32,
    /// The picture's width, in pixels.
    pub width: u32,
    /// Its height, in pixels.
    pub height: u32,
    /// The base64 of a JPEG file: the picture with a green cross on the place. Null without `label`.
    #[oai(nullable)]
    pub image: Option<String>,
    /// Token counts.
    pub usage: GuiActorUsage,
}

/// Token counts.
#[derive(Debug, Clone, Copy, Object, Serialize)]
pub struct GuiActorUsage {
    /// Tokens that were read, those of the picture and of the model's own frame among them.
    pub prompt_tokens: u32,
    /// The same: nothing is generated.
    pub total_tokens: u32,
}

impl Example for GuiActorPoint {
    fn example() -> Self {
        Self {
            object: GuiActorObject::Point,
            model: "GUI-Actor-3B".to_owned(),
            x: 1893,
            y: 24,
            width: 1920,
            height: 1080,
            image: None,
            usage: GuiActorUsage { prompt_tokens: 1428, total_tokens: 1428 },
        }
    }
}

read_from_object!(GuiActorRequest);
