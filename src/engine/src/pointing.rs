//! From a picture of a screen and a task to the place for a click, as the makers of GUI-Actor do it: the
//! model reads both, and a small network behind it says which parts of the picture its token for a place
//! means.
//!
//! Only how much each part is meant comes from the worker. What follows from it is worked out here.

use std::{convert::Infallible, sync::Arc};

use rkllama_core::{EngineError, Model, ModelError, PointRequest, Pointed, Pointing, PromptTokens};
use rkllama_images::{
    Limits, decode,
    gui::{self, Geometry, JPEG_SIDE_MAX},
};
use rkllama_protocol::{Encoder, Pictured};
use rkllama_text::{Codec, Encoded, TextError};
use tokio::task::spawn_blocking;

use crate::{
    engine::Inner,
    generation,
    pictures::{self, Looked},
    queue::{Reading, Reply},
    reading::{self, Asked, saturated},
    report::Report,
};

/// What stands in front of the picture. The model was trained with these very words.
const BEFORE: &str = "<|im_start|>system\nYou are a GUI agent. Given a screenshot of the current GUI and \
                      a human instruction, your task is to locate the screen element that corresponds \
                      to the instruction. You should output a PyAutoGUI action that performs a click \
                      on the correct position. To indicate the click location, we will use some \
                      special tokens, which is used to refer to a visual patch later. For example, you \
                      can output: pyautogui.click(<your_special_token_here>).<|im_end|>\n\
                      <|im_start|>user\n";
/// What stands behind the task: the beginning of the answer, to the token that points.
const BEHIND: &str = "<|im_end|>\n<|im_start|>assistant<|recipient|>os\n\
                      pyautogui.click(<|pointer_start|><|pointer_pad|>\n";
/// The token that points.
const POINTER: &str = "<|pointer_pad|>";
/// Tokens without which the model would read other words than it was trained with.
const NEEDED: [&str; 5] =
    ["<|im_start|>", "<|im_end|>", "<|recipient|>", "<|pointer_start|>", POINTER];
/// Most tokens of a token's name: of one that is none they are as many as it has letters.
const NAME_TOKENS_MAX: usize = 64;

/// Begins to look for a place.
pub(crate) fn start(engine: Arc<Inner>, request: PointRequest) -> Pointing {
    Box::pin(async move {
        let mut report = Report::new(engine.observer(), Arc::clone(&request.model));
        point(&engine, request, &mut report).await.map_err(|error| {
            let Err(error) = report.watch(Err::<Infallible, _>(error));
            error
        })
    })
}

async fn point(
    engine: &Inner,
    request: PointRequest,
    report: &mut Report,
) -> Result<Pointed, EngineError> {
    let model = &request.model;
    let choice = generation::check(engine, model)?;
    let unsupported = |what| EngineError::Unsupported { model: model.id.clone(), what };
    if model.vision.as_ref().is_none_or(|vision| vision.pointer_head.is_none()) {
        return Err(unsupported("finding places on pictures: it has no pointer head"));
    }
    if !choice.hidden_layer {
        return Err(unsupported("finding places on pictures on this runtime"));
    }
    let codec = engine.codecs.get(model).await?;
    let looked = look(engine, &request).await?;
    let context_tokens_max =
        engine.context_tokens_max(model).min(choice.context_limit_tokens.unwrap_or(u32::MAX));
    let margin_tokens = engine.config().margin_tokens(&choice);
    let room = context_tokens_max.saturating_sub(margin_tokens);
    let Prompt { text, tokens, behind } = match prompt(engine, codec, &request, room).await? {
        Ok(prompt) => prompt,
        Err(tokens) => {
            let prompt_tokens = PromptTokens::AtLeast(tokens);
            return Err(EngineError::ContextExceeded {
                prompt_tokens,
                context_tokens_max,
                margin_tokens,
            });
        }
    };
    let (screen, pictured) = (looked.size, Arc::new(Pictured { text, images: vec![looked.image] }));
    let asked = Asked {
        model,
        reading: Reading::Place { behind },
        pictured: Some(Arc::clone(&pictured)),
        keep_alive: request.keep_alive,
        client: &request.client,
    };
    let texts_tokens = saturated(tokens.len()).saturating_sub(1);
    let (scores, encoder) = match reading::run(engine, asked, tokens, report).await? {
        Reply::Place { scores, encoder } => (scores, encoder),
        other => return Err(reading::unexpected(&other)),
    };
    let (x, y) = pixel(&scores, encoder, screen)?;
    let drawn = match request.draws {
        true => Some(draw(engine, &request, pictured, (x, y)).await?),
        false => None,
    };
    let tokens = texts_tokens.saturating_add(encoder.image_tokens);
    Ok(Pointed { x, y, width: screen.0, height: screen.1, drawn, tokens })
}

/// Refuses a picture that cannot be used before anything waits for it.
async fn look(engine: &Inner, request: &PointRequest) -> Result<Looked, EngineError> {
    let images = std::slice::from_ref(&request.screen);
    let mut looked =
        pictures::look_at(images, &engine.config().pictures, &engine.encodings).await?;
    let looked =
        looked.pop().ok_or_else(|| EngineError::Run { reason: "no picture".to_owned() })?;
    let side = looked.size.0.max(looked.size.1);
    if request.draws && side > JPEG_SIDE_MAX {
        let reason = format!(
            "is {side} pixels long, and the marked picture can have {JPEG_SIDE_MAX} at most"
        );
        return Err(pictures::refused(&request.screen, reason));
    }
    Ok(looked)
}

/// What the model reads.
struct Prompt {
    text: String,
    /// With a placeholder for the picture.
    tokens: Vec<i32>,
    /// How many of them stand behind the one that points.
    behind: u32,
}

/// The inner error is the least number of tokens of a prompt that is too long.
async fn prompt(
    engine: &Inner,
    codec: Arc<Codec>,
    request: &PointRequest,
    room: u32,
) -> Result<Result<Prompt, u32>, EngineError> {
    let (model, task) = (Arc::clone(&request.model), request.task.clone());
    if task.trim().is_empty() {
        return Err(EngineError::Prompt { reason: "the text is empty".to_owned() });
    }
    let Ok(permit) = Arc::clone(&engine.encodings).acquire_owned().await else {
        return Err(EngineError::ShuttingDown);
    };
    let of = Arc::clone(&model);
    let encoded = spawn_blocking(move || {
        // Given back when the work is over, not when its client has gone.
        let _permit = permit;
        encode(&codec, &of, &task, room)
    });
    encoded.await.unwrap_or_else(|panic| {
        let reason = format!("tokenizer.json cannot be used: {panic}");
        Err(ModelError::Incomplete { model: model.id.clone(), reason }.into())
    })
}

fn encode(
    codec: &Codec,
    model: &Model,
    task: &str,
    room: u32,
) -> Result<Result<Prompt, u32>, EngineError> {
    let failed = |error: TextError| error.of_model(&model.id);
    let mut pointer = None;
    for name in NEEDED {
        match codec.cut(name, false, true, NAME_TOKENS_MAX).map_err(failed)? {
            Encoded::Whole(ids) if ids.len() == 1 => pointer = ids.first().copied(),
            _ => {
                let what = "finding places on pictures: its tokenizer lacks a token for it";
                return Err(EngineError::Unsupported { model: model.id.clone(), what });
            }
        }
    }
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let (text, encoded) = codec.around_image(BEFORE, task, BEHIND, room).map_err(failed)?;
    match encoded {
        Encoded::TooLong { tokens_min } => Ok(Err(saturated(tokens_min))),
        Encoded::Whole(tokens) if tokens.len() > room => Ok(Err(saturated(tokens.len()))),
        Encoded::Whole(tokens) => {
            let behind = tokens.iter().rev().position(|token| Some(*token) == pointer);
            let behind = behind.map(saturated).ok_or_else(|| EngineError::Prompt {
                reason: "the token that points got lost in the prompt".to_owned(),
            })?;
            Ok(Ok(Prompt { text, tokens, behind }))
        }
    }
}

/// The screen's pixel that is meant.
fn pixel(scores: &[f32], encoder: Encoder, screen: (u32, u32)) -> Result<(u32, u32), EngineError> {
    let failed = |reason: &str| EngineError::Run { reason: reason.to_owned() };
    let Encoder { image_tokens, width, height } = encoder;
    let (columns, rows) = gui::grid((width, height), image_tokens)
        .ok_or_else(|| failed("the encoder's vectors are no patches of the picture"))?;
    if saturated(scores.len()) != image_tokens {
        return Err(failed("the pointer head gave another number of scores than of patches"));
    }
    if scores.iter().any(|score| !score.is_finite()) {
        return Err(failed("the pointer head gave scores that are no numbers"));
    }
    let point = gui::point(scores, columns, rows);
    Ok(Geometry::new(screen, (width, height)).to_pixel(point))
}

/// The picture with a cross on the place, as a file.
async fn draw(
    engine: &Inner,
    request: &PointRequest,
    pictured: Arc<Pictured>,
    place: (u32, u32),
) -> Result<Vec<u8>, EngineError> {
    let pictures = &engine.config().pictures;
    let limits = Limits { bytes_max: pictures.bytes_max, pixels_max: pictures.pixels_max };
    let Ok(permit) = Arc::clone(&engine.encodings).acquire_owned().await else {
        return Err(EngineError::ShuttingDown);
    };
    let drawn = spawn_blocking(move || {
        let _permit = permit;
        let file = pictured.images.first().map(|image| image.bytes.as_slice()).unwrap_or_default();
        let mut picture = decode(file, &limits)?;
        gui::draw_cross(&mut picture, place);
        gui::encode_jpeg(&picture)
    });
    let drawn = drawn.await.map_err(|_| EngineError::Run {
        reason: "the picture with the place could not be drawn".to_owned(),
    })?;
    drawn.map_err(|error| pictures::refused(&request.screen, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCODER: Encoder = Encoder { image_tokens: 1312, width: 1148, height: 896 };

    /// The numbers are those of `gui.py` beside the tests of `rkllama-images`.
    #[test]
    fn scores_become_a_pixel_of_the_screen() {
        let one = |index: usize| {
            let mut scores = vec![0.0; 1312];
            scores[index] = 0.7;
            scores
        };
        assert_eq!(pixel(&one(0), ENCODER, (1920, 1080)).unwrap(), (23, 0));
        assert_eq!(pixel(&one(16 * 41 + 20), ENCODER, (1920, 1080)).unwrap(), (960, 563));
        assert_eq!(pixel(&one(1311), ENCODER, (1920, 1080)).unwrap(), (1896, 1079));
        // Nothing stands out: the middle.
        assert_eq!(pixel(&vec![0.0; 1312], ENCODER, (1000, 1000)).unwrap(), (500, 500));
    }

    #[test]
    fn scores_that_are_none_are_refused() {
        let mut scores = vec![0.1; 1312];
        assert!(pixel(&scores[1..], ENCODER, (9, 9)).is_err());
        for broken in [f32::NAN, f32::INFINITY] {
            scores[77] = broken;
            let error = pixel(&scores, ENCODER, (9, 9)).unwrap_err();
            assert!(error.to_string().contains("no numbers"), "{error}");
        }
    }
}
