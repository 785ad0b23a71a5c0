//! From texts to vectors: all are tokenised first, so that one that is too long costs nobody a run;
//! then each is a job of its own, and between two of them others have their turn.
//!
//! The whole state lives in the future. Dropping it closes the reply channel, and the model's task
//! aborts the run.

use std::{convert::Infallible, sync::Arc};

use rkllama_core::{
    EmbedError, EmbedInput, EmbedRequest, Embedding, Embeddings, EngineError, Model, ModelError,
    PromptTokens,
};
use rkllama_protocol::Pooling;
use rkllama_text::{Codec, Encoded};
use tokio::task::spawn_blocking;

use crate::{
    engine::Inner,
    generation,
    queue::{Reading, Reply},
    reading::{self, Asked, saturated},
    report::Report,
};

/// What a query is where the manifest does not say: the words of Qwen3-Embedding's makers.
const QUERY_INSTRUCTION: &str =
    "Given a web search query, retrieve relevant passages that answer the query";

/// Begins to read texts.
pub(crate) fn start(engine: Arc<Inner>, mut request: EmbedRequest) -> Embeddings {
    Box::pin(async move {
        let model = Arc::clone(&request.model);
        let mut report = Report::new(engine.observer(), Arc::clone(&model));
        let texts = encode_all(&engine, &mut request).await;
        let texts = texts.map_err(|failed| told(&mut report, failed))?;
        let mut embeddings = Vec::with_capacity(texts.len());
        for (input, tokens) in texts.into_iter().enumerate() {
            let read = read(&engine, &request, tokens, &mut report).await;
            let embedding = read.map_err(|error| told(&mut report, EmbedError { input, error }))?;
            embeddings.push(embedding);
            report = Report::new(engine.observer(), Arc::clone(&model));
        }
        // The last one has nothing to tell.
        report.forget();
        Ok(embeddings)
    })
}

fn told(report: &mut Report, failed: EmbedError) -> EmbedError {
    let Err(error) = report.watch(Err::<Infallible, _>(failed.error));
    EmbedError { error, ..failed }
}

/// The tokens of all texts, none of them empty or too long for the model. Takes the texts, of which
/// nothing else has any need: they can be most of a body.
async fn encode_all(
    engine: &Inner,
    request: &mut EmbedRequest,
) -> Result<Vec<Vec<i32>>, EmbedError> {
    let first = |error| EmbedError { input: 0, error };
    let model = &request.model;
    let choice = generation::check(engine, model).map_err(first)?;
    if !choice.hidden_layer {
        let what = "embeddings on this runtime";
        return Err(first(EngineError::Unsupported { model: model.id.clone(), what }));
    }
    let codec = engine.codecs.get(model).await.map_err(first)?;
    let context_tokens_max =
        engine.context_tokens_max(model).min(choice.context_limit_tokens.unwrap_or(u32::MAX));
    let margin_tokens = engine.config().margin_tokens(&choice);
    let room = usize::try_from(context_tokens_max.saturating_sub(margin_tokens));
    let encoder = Encoder {
        codec,
        model: Arc::clone(model),
        room: room.unwrap_or(usize::MAX),
        context_tokens_max,
        margin_tokens,
        truncate: request.truncate,
        are_queries: request.are_queries,
    };
    let Ok(permit) = Arc::clone(&engine.encodings).acquire_owned().await else {
        return Err(first(EngineError::ShuttingDown));
    };
    let inputs = std::mem::take(&mut request.inputs);
    let encoded = spawn_blocking(move || {
        // Given back when the work is over, not when its client has gone.
        let _permit = permit;
        let texts = inputs.into_iter().enumerate();
        texts
            .map(|(input, text)| encoder.encode(text).map_err(|error| EmbedError { input, error }))
            .collect()
    });
    encoded.await.unwrap_or_else(|panic| {
        let reason = format!("tokenizer.json cannot be used: {panic}");
        Err(first(ModelError::Incomplete { model: model.id.clone(), reason }.into()))
    })
}

struct Encoder {
    codec: Arc<Codec>,
    model: Arc<Model>,
    room: usize,
    context_tokens_max: u32,
    margin_tokens: u32,
    truncate: bool,
    are_queries: bool,
}

impl Encoder {
    fn encode(&self, input: EmbedInput) -> Result<Vec<i32>, EngineError> {
        // Models that are made for it were trained with an end behind each text.
        let with_end = self.model.pooling == Some(rkllama_core::Pooling::Last);
        let encoded = match input {
            EmbedInput::Text(text) if text.is_empty() => Encoded::Whole(Vec::new()),
            EmbedInput::Text(text) => {
                let text = if self.are_queries { self.query(&text) } else { text };
                self.encode_text(&text, with_end)?
            }
            EmbedInput::Tokens(tokens) => {
                let checked = self.codec.check_tokens(&tokens);
                checked.map_err(|err| err.of_model(&self.model.id))?
            }
        };
        match encoded {
            Encoded::Whole(tokens) if tokens.is_empty() => {
                Err(EngineError::Prompt { reason: "the text is empty".to_owned() })
            }
            Encoded::Whole(mut tokens) if tokens.len() > self.room && self.cuts() => {
                let end = tokens.pop().filter(|_| with_end);
                tokens.truncate(self.room - usize::from(end.is_some()));
                tokens.extend(end);
                Ok(tokens)
            }
            Encoded::Whole(tokens) if tokens.len() > self.room => {
                Err(self.exceeded(PromptTokens::Exactly(saturated(tokens.len()))))
            }
            Encoded::Whole(tokens) => Ok(tokens),
            Encoded::TooLong { tokens_min } => {
                Err(self.exceeded(PromptTokens::AtLeast(saturated(tokens_min))))
            }
        }
    }

    /// Whether what is too long is cut. A context that holds nothing is no length to cut to.
    const fn cuts(&self) -> bool {
        self.truncate && self.room > 0
    }

    fn encode_text(&self, text: &str, with_end: bool) -> Result<Encoded, EngineError> {
        let encoded = match self.cuts() {
            true => {
                let beginning = self.codec.encode_document_beginning(text, with_end, self.room);
                beginning.map(Encoded::Whole)
            }
            false => self.codec.encode_document(text, with_end, self.room),
        };
        encoded.map_err(|err| err.of_model(&self.model.id))
    }

    /// As the makers of Qwen3-Embedding write queries: no space stands behind the last colon.
    fn query(&self, text: &str) -> String {
        let instruction = self.model.query_instruction.as_deref().unwrap_or(QUERY_INSTRUCTION);
        format!("Instruct: {instruction}\nQuery:{text}")
    }

    fn exceeded(&self, prompt_tokens: PromptTokens) -> EngineError {
        EngineError::ContextExceeded {
            prompt_tokens,
            context_tokens_max: self.context_tokens_max,
            margin_tokens: self.margin_tokens,
        }
    }
}

/// Has one text read.
async fn read(
    engine: &Inner,
    request: &EmbedRequest,
    tokens: Vec<i32>,
    report: &mut Report,
) -> Result<Embedding, EngineError> {
    let pooling = match request.model.pooling.unwrap_or_default() {
        rkllama_core::Pooling::Last => Pooling::Last,
        rkllama_core::Pooling::Mean => Pooling::Mean,
        rkllama_core::Pooling::Cls => Pooling::Cls,
    };
    let count = saturated(tokens.len());
    let asked = Asked {
        model: &request.model,
        reading: Reading::Vector(pooling),
        pictured: None,
        keep_alive: request.keep_alive,
        client: &request.client,
    };
    match reading::run(engine, asked, tokens, report).await? {
        Reply::Embedding(vector) => Ok(Embedding { vector, tokens: count }),
        other => Err(reading::unexpected(&other)),
    }
}
