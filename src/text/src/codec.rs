//! The tokenizer and the template of one model: conversations in, token ids out.

use std::{borrow::Cow, fmt};

use rkllama_core::{Message, Role, TextFiles};
use tokenizers::Tokenizer;

use crate::{
    RenderOptions, TextError,
    bound::Bound,
    config::{TOKENIZER, TextConfig},
    eos,
    guard::{Guard, unguard},
    template::ChatTemplate,
};

/// Everything about text that belongs to one model. Immutable; share it by `Arc`.
pub struct Codec {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    guard: Guard,
    bound: Bound,
    eos_ids: Vec<i32>,
    warnings: Vec<String>,
}

const NO_EOS: &str = "no token is known that ends an answer: put the `eos_token_id` of the \
                      model's makers into generation_config.json; until then answers go on to \
                      their token limit";

/// Bytes of text for each token that would fit which are tokenized at first: four times what
/// tokens have in most languages. A longer text is looked at beginning by beginning.
const FIRST_LOOK_BYTES_PER_TOKEN: usize = 16;
/// How many tokens the beginning of a text may have more than the whole: it may end inside a
/// control token or a word, which then falls apart.
const CUT_TOKENS_MAX: usize = 64;

/// The tokens of a text that was to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoded {
    /// All of them, which may still be too many.
    Whole(Vec<i32>),
    /// It is certain that there are too many.
    TooLong {
        /// There are at least so many.
        tokens_min: usize,
    },
}

/// A rendered conversation: one string in which the template's control tokens can still be told
/// from the same characters in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    guarded: String,
}

impl Rendered {
    /// The text as a person would read it. Not for tokenizing: see [`Codec::encode`].
    pub fn text(&self) -> Cow<'_, str> {
        unguard(&self.guarded)
    }
}

impl Codec {
    /// Parses a model's files.
    ///
    /// Measured optimised on a 2.5 GHz x86-64 (`tests/text/measure.rs`): 0.25 s and 65 to 110 MB
    /// for the 128,000 and 151,000 entries of Llama 3 and Qwen 3, 0.9 s and 250 MB for Gemma 3's
    /// 262,000. A board's cores take several times that, so do it once per model and share it.
    ///
    /// # Errors
    /// [`TextError::File`] or [`TextError::Key`], naming the file and the key.
    pub fn new(files: &TextFiles) -> Result<Self, TextError> {
        let config = TextConfig::parse(files)?;
        let mut tokenizer = parse_tokenizer(&files.tokenizer)?;
        let bound = Bound::of(&tokenizer);
        let guard = Guard::install(&mut tokenizer)?;
        let has_chatml_tokens = tokenizer.token_to_id("<|im_start|>").is_some()
            && tokenizer.token_to_id("<|im_end|>").is_some();
        let tokens = config.named_tokens.clone();
        let template = ChatTemplate::compile(config.template.clone(), has_chatml_tokens, tokens)?;

        let options = RenderOptions { add_generation_prompt: false, ..RenderOptions::default() };
        // A template that refuses even this has other ways to tell its end of turn.
        let render = |turns: &[Message]| template.render(turns, &options).ok();
        let eos_ids = eos::eos_ids(&tokenizer, &config, render);
        let mut warnings = Vec::new();
        if let Err(err @ TextError::Render { .. }) = template.render(&eos::probe(), &options) {
            warnings.push(err.to_string());
        }
        if eos_ids.is_empty() {
            warnings.push(NO_EOS.to_owned());
        }
        Ok(Self { tokenizer, template, guard, bound, eos_ids, warnings })
    }

    /// Renders a conversation with the model's own template.
    ///
    /// # Errors
    /// [`TextError::Template`] in the template's own words, [`TextError::Render`] where it fails.
    pub fn render(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<Rendered, TextError> {
        let guarded = |message: &Message| Message {
            role: message.role,
            content: self.guard.guard(&message.content).into_owned(),
            name: message.name.as_deref().map(|name| self.guard.guard(name).into_owned()),
            ..message.clone()
        };
        let messages: Vec<Message> = messages.iter().map(guarded).collect();
        Ok(Rendered { guarded: self.template.render(&messages, options)? })
    }

    /// The token ids of a rendered conversation. Nothing is added: what belongs at the beginning
    /// the template has written, as with `transformers`' `apply_chat_template`.
    ///
    /// # Errors
    /// [`TextError::Tokenize`], from a vocabulary that lacks its own unknown token.
    pub fn encode(&self, rendered: &Rendered) -> Result<Vec<i32>, TextError> {
        self.ids(&rendered.guarded)
    }

    /// The token ids of a conversation that is to be answered now.
    ///
    /// # Errors
    /// As [`Codec::render`] and [`Codec::encode`].
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Vec<i32>, TextError> {
        self.encode(&self.render(messages, &RenderOptions::default())?)
    }

    /// The token ids of a conversation that is to be answered now, with little work for one that
    /// has certainly more than `tokens_max`.
    ///
    /// # Errors
    /// As [`Codec::encode_chat`].
    pub fn encode_chat_within(
        &self,
        messages: &[Message],
        tokens_max: usize,
    ) -> Result<Encoded, TextError> {
        // Templates write something for each message, and all of what the user said last.
        let said_last = messages.iter().rfind(|message| message.role == Role::User);
        let said_last = said_last.map_or(0, |message| self.bound.tokens_min(&message.content));
        let tokens_min = said_last.max(messages.len());
        if tokens_min > tokens_max {
            return Ok(Encoded::TooLong { tokens_min });
        }
        let rendered = self.render(messages, &RenderOptions::default())?;
        self.encode_within(&rendered, tokens_max)
    }

    /// The token ids of a text that is not part of a conversation, with little work for one that has
    /// certainly more than `tokens_max`. Names of control tokens in it are control tokens, and what
    /// the tokenizer's makers put around a text (a beginning of sequence) is put there.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn encode_text_within(&self, text: &str, tokens_max: usize) -> Result<Encoded, TextError> {
        let tokens_min = self.bound.tokens_min(text);
        if tokens_min > tokens_max {
            return Ok(Encoded::TooLong { tokens_min });
        }
        let encoding = self.tokenizer.encode_fast(text, true);
        let failed = |reason: String| TextError::Tokenize { reason };
        let encoding = encoding.map_err(|err| failed(err.to_string()))?;
        ids_of(encoding.get_ids()).map(Encoded::Whole)
    }

    /// Token ids that a client chose, if the vocabulary has them all.
    ///
    /// # Errors
    /// [`TextError::UnknownToken`], naming the first that it has not.
    pub fn check_tokens(&self, tokens: &[i32]) -> Result<Encoded, TextError> {
        let known =
            |id: &i32| u32::try_from(*id).is_ok_and(|id| self.tokenizer.id_to_token(id).is_some());
        match tokens.iter().find(|id| !known(id)) {
            None => Ok(Encoded::Whole(tokens.to_vec())),
            Some(id) => Err(TextError::UnknownToken { id: *id }),
        }
    }

    /// The token ids of a rendered conversation, with little work for one that has certainly more
    /// than `tokens_max`.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn encode_within(
        &self,
        rendered: &Rendered,
        tokens_max: usize,
    ) -> Result<Encoded, TextError> {
        let text = rendered.guarded.as_str();
        let tokens_min = self.bound.tokens_min(text);
        if tokens_min > tokens_max {
            return Ok(Encoded::TooLong { tokens_min });
        }
        let mut len = tokens_max.saturating_mul(FIRST_LOOK_BYTES_PER_TOKEN);
        while len < text.len() {
            let beginning = &text[..text.floor_char_boundary(len)];
            let tokens_min = self.ids(beginning)?.len().saturating_sub(CUT_TOKENS_MAX);
            if tokens_min > tokens_max {
                return Ok(Encoded::TooLong { tokens_min });
            }
            // Doubling: all looks together cost no more than twice the last.
            len = len.saturating_mul(2).max(1);
        }
        self.ids(text).map(Encoded::Whole)
    }

    /// How many tokens a text has as part of a message.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn count(&self, text: &str) -> Result<usize, TextError> {
        Ok(self.ids(&self.guard.guard(text))?.len())
    }

    /// The ids that end an answer: sorted, each once.
    pub fn eos_ids(&self) -> &[i32] {
        &self.eos_ids
    }

    /// What is wrong with the model's files although they can be used, for the operator.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn ids(&self, guarded: &str) -> Result<Vec<i32>, TextError> {
        let failed = |reason: String| TextError::Tokenize { reason };
        let encoding = self.tokenizer.encode_fast(guarded, false);
        let encoding = encoding.map_err(|err| failed(err.to_string()))?;
        ids_of(encoding.get_ids())
    }
}

/// The tokenizer's ids as the runtime takes them.
fn ids_of(ids: &[u32]) -> Result<Vec<i32>, TextError> {
    let too_large = |id: &u32| TextError::Tokenize { reason: format!("id {id} is too large") };
    ids.iter().map(|id| i32::try_from(*id).map_err(|_| too_large(id))).collect()
}

impl fmt::Debug for Codec {
    /// Without the vocabulary, which is megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").field("eos_ids", &self.eos_ids).finish_non_exhaustive()
    }
}

fn parse_tokenizer(bytes: &[u8]) -> Result<Tokenizer, TextError> {
    let failed = |reason: String| TextError::File { file: TOKENIZER, reason };
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|err| failed(err.to_string()))?;
    // Left over from training in some files; a prompt is cut or padded by nobody but its sender.
    tokenizer.with_truncation(None).map_err(|err| failed(err.to_string()))?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}
