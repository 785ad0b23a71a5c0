//! Documents compared with a query: each is put into the frame that the model was trained with, and the
//! answer's probability of yes is its score. All are tokenised first, so that what cannot be read costs
//! nobody a run; then each is a job of its own, and between two of them others have their turn.

use std::{convert::Infallible, sync::Arc};

use rkllama_core::{
    EngineError, Model, ModelError, Relevance, Relevances, RerankFrame, RerankRequest,
};
use rkllama_text::{Codec, Encoded, TextError};
use tokio::task::spawn_blocking;

use crate::{
    engine::Inner,
    generation,
    queue::{Reading, Reply},
    reading::{self, Asked, saturated},
    report::Report,
};

/// What stands around query and document, in the words of Qwen3-Reranker's makers.
const BEFORE: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the \
                      Query and the Instruct provided. Note that the answer can only be \"yes\" or \
                      \"no\".<|im_end|>\n<|im_start|>user\n";
const BEHIND: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
/// What it means to answer a query, where nobody says it.
const INSTRUCTION: &str =
    "Given a web search query, retrieve relevant passages that answer the query";
/// Blanks before query and document in the bare frame.
const BARE_INDENT: &str = "        ";
/// The two answers.
const YES: &str = "yes";
const NO: &str = "no";
/// Most tokens of a frame and of an answer.
const SHORT_TOKENS_MAX: usize = 1024;

/// Begins to compare.
pub(crate) fn start(engine: Arc<Inner>, mut request: RerankRequest) -> Relevances {
    Box::pin(async move {
        let model = Arc::clone(&request.model);
        let mut report = Report::new(engine.observer(), Arc::clone(&model));
        let texts = encode_all(&engine, &mut request).await;
        let Texts { answers, prompts } = texts.map_err(|error| told(&mut report, error))?;
        let mut relevances = Vec::with_capacity(prompts.len());
        for tokens in prompts {
            let count = saturated(tokens.len());
            let asked = Asked {
                model: &model,
                reading: Reading::Scores(Arc::clone(&answers)),
                pictured: None,
                keep_alive: request.keep_alive,
                client: &request.client,
            };
            let found = reading::run(&engine, asked, tokens, &mut report).await;
            let score = found.and_then(|found| probability_of_yes(&found));
            let score = score.map_err(|error| told(&mut report, error))?;
            relevances.push(Relevance { score, tokens: count });
            report = Report::new(engine.observer(), Arc::clone(&model));
        }
        // The last one has nothing to tell.
        report.forget();
        Ok(relevances)
    })
}

fn told(report: &mut Report, error: EngineError) -> EngineError {
    let Err(error) = report.watch(Err::<Infallible, _>(error));
    error
}

/// The share of yes, of the two.
fn probability_of_yes(found: &Reply) -> Result<f64, EngineError> {
    match found {
        Reply::Scores { candidates, .. } if candidates.len() == 2 => {
            let (yes, no) = (f64::from(candidates[0]), f64::from(candidates[1]));
            Ok(1.0 / (1.0 + (no - yes).exp()))
        }
        other => Err(reading::unexpected(other)),
    }
}

/// What is to be read, and the two tokens whose probabilities count.
struct Texts {
    answers: Arc<[i32]>,
    prompts: Vec<Vec<i32>>,
}

/// Takes query and documents out of the request: they can be most of a body.
async fn encode_all(engine: &Inner, request: &mut RerankRequest) -> Result<Texts, EngineError> {
    let model = Arc::clone(&request.model);
    let choice = generation::check(engine, &model)?;
    if !choice.logits {
        let what = "reranking on this runtime";
        return Err(EngineError::Unsupported { model: model.id.clone(), what });
    }
    let codec = engine.codecs.get(&model).await?;
    let context_tokens_max =
        engine.context_tokens_max(&model).min(choice.context_limit_tokens.unwrap_or(u32::MAX));
    let margin_tokens = engine.config().margin_tokens(&choice);
    let room = context_tokens_max.saturating_sub(margin_tokens);
    let Ok(permit) = Arc::clone(&engine.encodings).acquire_owned().await else {
        return Err(EngineError::ShuttingDown);
    };
    let query = std::mem::take(&mut request.query);
    let documents = std::mem::take(&mut request.documents);
    let instruction = request.instruction.take();
    let of = Arc::clone(&model);
    let encoded = spawn_blocking(move || {
        // Given back when the work is over, not when its client has gone.
        let _permit = permit;
        let kind = of.reranks.unwrap_or_default();
        let frame = Frame::of(&codec, &of, kind)?;
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let head = head(kind, instruction.as_deref().unwrap_or(INSTRUCTION), &query);
        let head_tokens = codec.encode_document_beginning(&head, false, room);
        let head_tokens = head_tokens.map_err(|error| error.of_model(&of.id))?.len();
        let room = room.saturating_sub(frame.before.len() + frame.behind.len());
        if head_tokens >= room {
            return Err(EngineError::ContextExceeded {
                prompt_tokens: rkllama_core::PromptTokens::AtLeast(saturated(
                    head_tokens + frame.before.len() + frame.behind.len(),
                )),
                context_tokens_max,
                margin_tokens,
            });
        }
        let prompt = |document: String| {
            let document = document_in(kind, document);
            let body = codec.encode_document_beginning(&[&*head, &document].concat(), false, room);
            let body = body.map_err(|error| error.of_model(&of.id))?;
            Ok([&*frame.before, &*body, &*frame.behind].concat())
        };
        let prompts = documents.into_iter().map(prompt).collect::<Result<_, EngineError>>()?;
        Ok(Texts { answers: frame.answers, prompts })
    });
    encoded.await.unwrap_or_else(|panic| {
        let reason = format!("tokenizer.json cannot be used: {panic}");
        Err(ModelError::Incomplete { model: model.id.clone(), reason }.into())
    })
}

/// What stands before the document.
fn head(frame: RerankFrame, instruction: &str, query: &str) -> String {
    let indent = match frame {
        RerankFrame::Qwen3 => "",
        RerankFrame::Bare => BARE_INDENT,
    };
    format!("<Instruct>: {instruction}\n{indent}<Query>: {query}\n{indent}<Document>: ")
}

/// The document as it is; without blanks in lines that have nothing else where old servers took them out.
fn document_in(frame: RerankFrame, document: String) -> String {
    match frame {
        RerankFrame::Qwen3 => document,
        RerankFrame::Bare => {
            let line = |line: &str| if line.trim().is_empty() { "" } else { line }.to_owned();
            document.split('\n').map(line).collect::<Vec<_>>().join("\n")
        }
    }
}

/// The tokens around query and document, and those of the two answers.
struct Frame {
    before: Vec<i32>,
    behind: Vec<i32>,
    answers: Arc<[i32]>,
}

impl Frame {
    fn of(codec: &Codec, model: &Model, frame: RerankFrame) -> Result<Self, EngineError> {
        let cut = |text: &str| -> Result<Vec<i32>, TextError> {
            match codec.cut(text, false, true, SHORT_TOKENS_MAX)? {
                Encoded::Whole(tokens) => Ok(tokens),
                // A tokenizer that makes a thousand tokens of a few words knows none of them.
                Encoded::TooLong { .. } => Ok(Vec::new()),
            }
        };
        let failed = |error: TextError| error.of_model(&model.id);
        let single = |text: &str| match cut(text).map_err(failed)?.as_slice() {
            [token] => Ok(*token),
            _ => {
                let what = "reranking: its tokenizer lacks a token that rerankers need";
                Err(EngineError::Unsupported { model: model.id.clone(), what })
            }
        };
        let answers = Arc::new([single(YES)?, single(NO)?]);
        if frame == RerankFrame::Bare {
            return Ok(Self { before: Vec::new(), behind: Vec::new(), answers });
        }
        // Text where a control token was meant would be another frame.
        single("<|im_start|>")?;
        single("<|im_end|>")?;
        Ok(Self {
            before: cut(BEFORE).map_err(failed)?,
            behind: cut(BEHIND).map_err(failed)?,
            answers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_frame_is_what_old_servers_gave() {
        let head = head(RerankFrame::Bare, "Find", "why");
        assert_eq!(head, "<Instruct>: Find\n        <Query>: why\n        <Document>: ");
        let document = document_in(RerankFrame::Bare, "a\n  \n b \n".to_owned());
        assert_eq!(document, "a\n\n b \n");
        assert_eq!(document_in(RerankFrame::Qwen3, " \n".to_owned()), " \n");
    }

    #[test]
    fn the_score_is_the_share_of_yes() {
        let scores = |candidates| Reply::Scores { candidates, tokens: Vec::new() };
        let of = |yes: f32, no: f32| probability_of_yes(&scores(vec![yes, no])).unwrap();
        assert!((of(0.9f32.ln(), 0.1f32.ln()) - 0.9).abs() < 1e-6);
        // However unlikely the two are together.
        assert!((of(-50.0 + 0.75f32.ln(), -50.0 + 0.25f32.ln()) - 0.75).abs() < 1e-5);
        assert!(of(-1e6, 0.0) >= 0.0 && of(0.0, -1e6) <= 1.0);
        assert!(probability_of_yes(&scores(vec![0.0])).is_err());
    }
}
