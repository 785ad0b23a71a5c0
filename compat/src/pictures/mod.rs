//! RKLLama's routes about pictures: where to click on a screen, and what stands written there.

pub mod wire;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use poem_openapi::{ApiResponse, OpenApi, Tags};
use rkllama_core::{Image, PointRequest};
use rkllama_http::{ApiError, ApiJson, Caller, Failure, Statuses, image_of_text};

use self::wire::{GuiActorAnswer, GuiActorRequest, OcrRequest};
use crate::{
    State,
    ollama::{self, AboutPicture, GenerateReply, OllamaApi, wire::ErrorBody},
};

/// What is asked where a request says nothing: RKLLama's words.
const READ_IT: &str = "Extract the text content from this image.";

#[derive(Tags)]
enum Tag {
    /// Pictures: where to click on them, what stands on them.
    Pictures,
}

/// The operations.
pub struct PicturesApi {
    state: State,
}

/// The statuses with which they fail.
struct PictureStatuses;

impl Statuses for PictureStatuses {
    type Body = ErrorBody;
    const STATUSES: &'static [u16] = &[400, 401, 404, 408, 413, 429, 500, 503];
}

#[derive(ApiResponse)]
enum GuiActorReply {
    /// The place.
    #[oai(status = 200)]
    Ok(ApiJson<GuiActorAnswer>),
}

impl PicturesApi {
    /// The operations at work.
    pub(crate) const fn new(state: State) -> Self {
        Self { state }
    }
}

#[OpenApi(prefix_path = "/api")]
impl PicturesApi {
    /// Find where to click
    ///
    /// For RKLLama's scripts; `/v1/gui_actor` tells more. A closed connection cancels.
    #[oai(
        path = "/gui_actor",
        method = "post",
        operation_id = "legacyGuiActor",
        tag = "Tag::Pictures"
    )]
    async fn gui_actor(
        &self,
        caller: Caller,
        body: ApiJson<GuiActorRequest>,
    ) -> Result<GuiActorReply, Failure<PictureStatuses>> {
        let GuiActorRequest { model, prompt, image, label, .. } = body.0;
        let asked = model.clone().unwrap_or_default();
        let absent = |_: &str| format!("Model '{asked}' not found");
        let model = ollama::model_called(&self.state, model, absent)?;
        let request = PointRequest {
            model,
            task: given(prompt, "prompt")?,
            screen: picture(image)?,
            draws: label.unwrap_or(false),
            keep_alive: None,
            client: caller.0,
        };
        let found = self.state.engine.point(request).await.map_err(ollama::engine)?;
        Ok(GuiActorReply::Ok(ApiJson(GuiActorAnswer {
            image: found.drawn.map(|file| BASE64_STANDARD.encode(file)),
            px: found.x,
            py: found.y,
        })))
    }

    /// Read what stands on a picture
    ///
    /// For RKLLama's scripts; any model that sees answers, and those made for it best: dots.ocr,
    /// DeepSeek-OCR. The answer is that of `/api/generate`. A closed connection cancels it.
    #[oai(path = "/ocr", method = "post", operation_id = "legacyOcr", tag = "Tag::Pictures")]
    async fn ocr(
        &self,
        caller: Caller,
        body: ApiJson<OcrRequest>,
    ) -> Result<GenerateReply, Failure<PictureStatuses>> {
        let OcrRequest { model, prompt, image, stream, options, keep_alive } = body.0;
        let asked = AboutPicture {
            model: given(model, "model")?,
            prompt: prompt
                .filter(|prompt| !prompt.trim().is_empty())
                .unwrap_or_else(|| READ_IT.to_owned()),
            image: picture(image)?,
            stream: stream.unwrap_or(true),
            options,
            keep_alive,
        };
        let ollama = OllamaApi::new(self.state.clone());
        Ok(ollama.about(asked, caller.0, absent).await?)
    }
}

/// The words of RKLLama for a model that nobody has.
fn absent(name: &str) -> String {
    format!("Model '{name}' not found")
}

/// A text that has to be there.
fn given(text: Option<String>, field: &str) -> Result<String, ApiError> {
    let text = text.filter(|text| !text.trim().is_empty());
    text.ok_or_else(|| ollama::bad(format!("{field} is required")))
}

fn picture(image: Option<String>) -> Result<Image, ApiError> {
    let field = "image";
    let source = image_of_text(&given(image, field)?);
    let source = source.map_err(|reason| ollama::bad(format!("{field} {reason}")))?;
    Ok(Image { field: field.to_owned(), source })
}
