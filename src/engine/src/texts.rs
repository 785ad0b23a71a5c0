//! Answers about texts, without the NPU.

use std::sync::Arc;

use rkllama_core::{
    Chat, Cutting, EngineError, Model, ModelError, ModelTraits, Prompt, Request, Sampling, Texts,
    Working,
};
use rkllama_text::{Codec, Encoded, RenderOptions, TextError};
use tokio::task::spawn_blocking;

use crate::{
    engine::{Inner, NpuEngine},
    generation, presets,
};

/// Most tokens of a text that is tokenized for its own sake: far more than any context here, and
/// little enough memory.
const TOKENIZED_MAX: usize = 1 << 18;

impl Texts for NpuEngine {
    fn traits(&self, model: Arc<Model>) -> Working<Arc<ModelTraits>> {
        let engine = Arc::clone(self.inner());
        Box::pin(async move {
            let traits = engine.codecs.traits(&model).await?;
            // A look at all models of a store must not leave all of their tokenizers behind.
            if !engine.is_resident(&model) {
                engine.codecs.forget(&model);
            }
            Ok(traits)
        })
    }

    fn render(&self, model: Arc<Model>, mut chat: Chat) -> Working<String> {
        presets::put_into(&mut chat, &model.presets);
        self.with_codec(model, move |codec| {
            Ok(codec.render(&chat, &RenderOptions::default())?.text().into_owned())
        })
    }

    fn prompt_tokens(&self, model: Arc<Model>, prompt: Prompt) -> Working<Vec<i32>> {
        let engine = Arc::clone(self.inner());
        let mut request = Request {
            model,
            prompt,
            sampling: Sampling::default(),
            tokens_max: None,
            stop: Vec::new(),
            format: None,
            ignore_eos: false,
            logprobs: None,
            keep_alive: None,
            client: Arc::from(""),
        };
        Box::pin(async move { generation::tokens(&engine, &mut request).await })
    }

    fn count_tokens(&self, mut request: Request) -> Working<u32> {
        let engine = self.clone();
        Box::pin(async move {
            let counted_max = u32::try_from(TOKENIZED_MAX).unwrap_or(u32::MAX);
            let inner = engine.inner();
            let (tokens, images) = generation::counted(inner, &mut request, counted_max).await?;
            if images == 0 {
                return Ok(tokens);
            }
            let Request { model, client, keep_alive, .. } = request;
            if inner.image_tokens(&model).is_none() {
                engine.load_for(&model, keep_alive, client).await?;
            }
            let of_each = inner.image_tokens(&model).ok_or_else(|| EngineError::Unsupported {
                model: model.id.clone(),
                what: "images",
            })?;
            Ok((tokens - images).saturating_add(images.saturating_mul(of_each)))
        })
    }

    fn check_template(&self, source: &str) -> Result<(), String> {
        rkllama_text::check_template(source)
    }

    fn tokenize(&self, model: Arc<Model>, text: String, cutting: Cutting) -> Working<Vec<i32>> {
        let Cutting { add_special, parse_special } = cutting;
        let encoded = self.with_codec(model, move |codec| {
            codec.cut(&text, add_special, parse_special, TOKENIZED_MAX)
        });
        Box::pin(async move {
            match encoded.await? {
                Encoded::Whole(tokens) => Ok(tokens),
                Encoded::TooLong { .. } => Err(EngineError::Prompt {
                    reason: format!("the text has more than {TOKENIZED_MAX} tokens"),
                }),
            }
        })
    }

    fn detokenize(&self, model: Arc<Model>, tokens: Vec<i32>) -> Working<String> {
        self.with_codec(model, move |codec| {
            codec.check_tokens(&tokens)?;
            codec.text_of(&tokens)
        })
    }
}

impl NpuEngine {
    /// Works on a model's texts off the async threads, as one of the few who do at a time.
    fn with_codec<T: Send + 'static>(
        &self,
        model: Arc<Model>,
        work: impl FnOnce(&Codec) -> Result<T, TextError> + Send + 'static,
    ) -> Working<T> {
        let engine = Arc::clone(self.inner());
        Box::pin(async move {
            let codec = engine.codecs.get(&model).await?;
            let Ok(permit) = Arc::clone(&engine.encodings).acquire_owned().await else {
                return Err(EngineError::ShuttingDown);
            };
            let done = spawn_blocking(move || {
                // Given back when the work is over, not when its client has gone.
                let _permit = permit;
                work(&codec)
            });
            match done.await {
                Ok(done) => done.map_err(|error| error.of_model(&model.id)),
                Err(panic) => Err(unusable(&model, &panic)),
            }
        })
    }
}

/// Other people's code over other people's files panicked.
fn unusable(model: &Model, panic: &tokio::task::JoinError) -> EngineError {
    let reason = format!("tokenizer.json or the chat template cannot be used: {panic}");
    ModelError::Incomplete { model: model.id.clone(), reason }.into()
}

impl Inner {
    /// Whether the model is in a worker, or on its way there.
    fn is_resident(&self, model: &Model) -> bool {
        self.doors().get(&model.id).is_some_and(|opened| opened.is_resident())
    }
}
