//! What RKLLama's scripts send about pictures, and what they get.

use poem_openapi::{Object, types::Example};
use rkllama_http::{JsonObject, read_from_object};
use serde::{Deserialize, Serialize};

use crate::ollama::wire::OllamaKeepAlive;

/// A picture of a screen, and what is to be done on it.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "LegacyGuiActorRequest", example, skip_serializing_if_is_none)]
pub struct GuiActorRequest {
    /// The model's name: one with a pointer head.
    #[oai(nullable)]
    pub model: Option<String>,
    /// What the click is to do.
    #[oai(nullable)]
    pub prompt: Option<String>,
    /// The picture in base64, or a data URL with it.
    #[oai(nullable)]
    pub image: Option<String>,
    /// Whether the picture with the place marked is wanted. Default false.
    #[oai(nullable)]
    pub label: Option<bool>,
    /// Ignored: nothing is generated.
    #[oai(nullable)]
    pub options: Option<JsonObject>,
}

impl Example for GuiActorRequest {
    fn example() -> Self {
        Self {
            model: Some("GUI-Actor-3B".to_owned()),
            prompt: Some("Open the settings.".to_owned()),
            image: Some("iVBORw0KGgo...".to_owned()),
            label: Some(false),
            options: None,
        }
    }
}

/// A picture of something written.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "LegacyOcrRequest", example, skip_serializing_if_is_none)]
pub struct OcrRequest {
    /// The model's name: one that sees.
    #[oai(nullable)]
    pub model: Option<String>,
    /// The picture in base64, or a data URL with it.
    #[oai(nullable)]
    pub image: Option<String>,
    /// What is asked about it. Default: `Extract the text content from this image.`
    #[oai(nullable)]
    pub prompt: Option<String>,
    /// Whether the answer comes in lines. Default true.
    #[oai(nullable)]
    pub stream: Option<bool>,
    /// As in `/api/generate`.
    #[oai(nullable)]
    pub options: Option<JsonObject>,
    /// As in `/api/generate`.
    #[oai(nullable)]
    pub keep_alive: Option<OllamaKeepAlive>,
}

impl Example for OcrRequest {
    fn example() -> Self {
        Self {
            model: Some("dots.ocr".to_owned()),
            image: Some("iVBORw0KGgo...".to_owned()),
            prompt: Some("Extract the text content from this image.".to_owned()),
            stream: Some(false),
            ..Self::default()
        }
    }
}

/// Where to click, in pixels of the picture that was sent.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "LegacyGuiActorResponse")]
pub struct GuiActorAnswer {
    /// The base64 of a JPEG file: the picture with a green cross on the place. Null without `label`.
    #[oai(nullable)]
    pub image: Option<String>,
    /// Pixels from the left edge.
    pub px: u32,
    /// Pixels from the top.
    pub py: u32,
}

read_from_object!(GuiActorRequest);
read_from_object!(OcrRequest);
