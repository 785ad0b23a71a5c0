//! The tokenizer and the template of one model: conversations in, token ids out.

use std::{borrow::Cow, collections::HashMap, fmt};

use rkllama_core::{
    Chat, Event, IMAGE_MARK, ImageTags, Infill, Message, Role, TextFiles, ToolChoice,
};
use tokenizers::Tokenizer;

use crate::{
    AnswerParser, Capabilities, Formats, RenderOptions, TextError,
    bound::Bound,
    config::{TOKENIZER, TextConfig},
    eos,
    guard::{Guard, is_control, unguard},
    history,
    infill::InfillMarks,
    template::ChatTemplate,
    token_bytes::TokenBytes,
};

/// Everything about text that belongs to one model. Immutable; share it by `Arc`.
pub struct Codec {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    guard: Guard,
    bound: Bound,
    token_bytes: TokenBytes,
    eos_ids: Vec<i32>,
    capabilities: Capabilities,
    special_texts: HashMap<i32, String>,
    /// The names of control tokens.
    control: HashMap<i32, String>,
    text_end: TextEnd,
    /// How it is asked to fill in, if it can.
    infill: Option<InfillMarks>,
    image_tags: Option<ImageTags>,
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
    thinking: bool,
}

impl Rendered {
    /// Whether the prompt has begun a thought, which the answer goes on with.
    pub const fn is_thinking(&self) -> bool {
        self.thinking
    }

    /// The text as a person would read it. Not for tokenizing: see [`Codec::encode`].
    pub fn text(&self) -> Cow<'_, str> {
        match unguard(&self.guarded) {
            text if text.contains(IMAGE_MARK) => text.replace(IMAGE_MARK, "<image>").into(),
            text => text,
        }
    }

    pub(crate) fn guarded(&self) -> &str {
        &self.guarded
    }
}

/// A conversation ready to be answered.
#[derive(Debug)]
pub struct ChatPrompt {
    /// Its tokens.
    pub encoded: Encoded,
    /// The reader of the answer.
    pub answer: AnswerParser,
    /// What a prefix of the answer has begun: the answer's first events.
    pub begun: Vec<Event>,
    /// The prompt as a text with `<image>` for each image, where it has some. In the tokens
    /// [`crate::image_placeholder`]s stand for them.
    pub pictured: Option<String>,
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
        Self::with_formats(files, Formats::named(files)?)
    }

    /// As [`Codec::new`], with formats that are known better than the template tells.
    ///
    /// # Errors
    /// As [`Codec::new`].
    pub fn with_formats(files: &TextFiles, formats: Formats) -> Result<Self, TextError> {
        let config = TextConfig::parse(files)?;
        let mut tokenizer = parse_tokenizer(&files.tokenizer)?;
        let bound = Bound::of(&tokenizer);
        let token_bytes = TokenBytes::of(&tokenizer);
        let guard = Guard::install(&mut tokenizer)?;
        let has_token = |token: &str| tokenizer.token_to_id(token).is_some();
        let has_chatml_tokens = has_token("<|im_start|>") && has_token("<|im_end|>");
        let tokens = config.named_tokens.clone();
        let (source, tool_source) = (config.template.clone(), config.tool_template.clone());
        let template = ChatTemplate::compile(source, tool_source, has_chatml_tokens, tokens)?;
        let capabilities = Capabilities::of(&template, has_token, formats);

        let options = RenderOptions { add_generation_prompt: false, ..RenderOptions::default() };
        let form = capabilities.tool_format.form();
        let render =
            |turns: &[Message]| template.render(&Chat::new(turns.to_vec()), &options, &form);
        // A template that refuses even this has other ways to tell its end of turn.
        let eos_ids = eos::eos_ids(&tokenizer, &config, |turns| render(turns).ok());
        let mut warnings = Vec::new();
        if let Err(err @ TextError::Render { .. }) = render(&eos::probe()) {
            warnings.push(err.to_string());
        }
        if eos_ids.is_empty() {
            warnings.push(NO_EOS.to_owned());
        }
        let text_end = TextEnd::of(&tokenizer, &config)?;
        let infill = InfillMarks::of(&tokenizer);
        let special_texts = special_texts(&tokenizer, &capabilities, &eos_ids);
        let control = tokenizer.get_added_tokens_decoder().into_iter();
        let control = control
            .filter(|(_, token)| is_control(token))
            .filter_map(|(id, token)| Some((i32::try_from(id).ok()?, token.content)))
            .collect();
        Ok(Self {
            tokenizer,
            template,
            guard,
            bound,
            token_bytes,
            eos_ids,
            capabilities,
            special_texts,
            control,
            text_end,
            infill,
            image_tags: files.image_tags.clone(),
            warnings,
        })
    }

    /// Renders a conversation with the model's own template. One that goes on with its last
    /// message ends with that message's words.
    ///
    /// # Errors
    /// [`TextError::Template`] in the template's own words, [`TextError::Render`] where it fails.
    pub fn render(&self, chat: &Chat, options: &RenderOptions) -> Result<Rendered, TextError> {
        let chat = history::guarded(chat, |text| self.guard.guard(text).into_owned());
        let form = self.capabilities.tool_format.form();
        let last = chat.messages.last().filter(|last| {
            chat.continue_last && last.role == Role::Assistant && !last.content.trim().is_empty()
        });
        let reasoning = self.capabilities.reasoning_format;
        let Some(last) = last else {
            let guarded = self.template.render(&chat, options, &form)?;
            let thinking = options.add_generation_prompt && reasoning.is_opened_by(&guarded);
            return Ok(Rendered { guarded, thinking });
        };
        let options = RenderOptions { add_generation_prompt: false, ..options.clone() };
        let whole = self.template.render(&chat, &options, &form)?;
        let cut = history::continued(&whole, &last.content).ok_or_else(|| TextError::Template {
            reason: "the template leaves out the message that the answer is to go on with"
                .to_owned(),
        })?;
        let thinking = reasoning.is_open_in(&last.content);
        Ok(Rendered { guarded: cut.into_owned(), thinking })
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
    pub fn encode_chat(&self, chat: &Chat) -> Result<Vec<i32>, TextError> {
        self.encode(&self.render(chat, &RenderOptions::default())?)
    }

    /// The token ids of a conversation that is to be answered now, with little work for one that
    /// has certainly more than `tokens_max`.
    ///
    /// # Errors
    /// As [`Codec::encode_chat`].
    pub fn encode_chat_within(&self, chat: &Chat, tokens_max: usize) -> Result<Encoded, TextError> {
        self.prompt(chat, None, tokens_max).map(|prompt| prompt.encoded)
    }

    /// A conversation that is to be answered now, with the reader of its answer. With a `prefix`
    /// the answer begins with that text, which the model goes on from: a thought that the prompt
    /// begins is ended before it, and where a request can switch thinking off, it is off.
    ///
    /// # Errors
    /// As [`Codec::encode_chat`].
    pub fn prompt(
        &self,
        chat: &Chat,
        prefix: Option<&str>,
        tokens_max: usize,
    ) -> Result<ChatPrompt, TextError> {
        let mut answer = self.answer(chat, false);
        if let Some(tokens_min) = self.tokens_min(chat).filter(|min| *min > tokens_max) {
            let encoded = Encoded::TooLong { tokens_min };
            return Ok(ChatPrompt { encoded, answer, begun: Vec::new(), pictured: None });
        }
        let Some(prefix) = prefix else {
            let rendered = self.render(chat, &RenderOptions::default())?;
            answer = self.answer(chat, rendered.thinking);
            let (pictured, encoded) = match chat.messages.iter().all(|it| it.images.is_empty()) {
                true => (None, self.encode_within(&rendered, tokens_max)?),
                false => {
                    let (text, encoded) = self.pictured(&rendered, chat, tokens_max)?;
                    (Some(text), encoded)
                }
            };
            return Ok(ChatPrompt { encoded, answer, begun: Vec::new(), pictured });
        };
        let chat = Chat { thinking: Some(false), ..chat.clone() };
        let mut rendered = self.render(&chat, &RenderOptions::default())?;
        if rendered.thinking {
            rendered.guarded.push_str(&self.capabilities.reasoning_format.ended());
        }
        rendered.guarded.push_str(prefix);
        let begun = answer.push(prefix);
        let encoded = self.encode_within(&rendered, tokens_max)?;
        Ok(ChatPrompt { encoded, answer, begun, pictured: None })
    }

    /// The reader of an answer to this conversation, which begins inside a thought or not.
    pub fn answer(&self, chat: &Chat, thinking: bool) -> AnswerParser {
        AnswerParser::new(&self.capabilities, chat, thinking)
    }

    /// The text that begins a call as the conversation's `tool_choice` demands it, in the form of
    /// [`crate::ToolFormat::form`]: to be given to [`Codec::prompt`]. `None` where no call is
    /// demanded, or where the form has nothing before a name that is left to the model.
    ///
    /// It does not end with a blank, even where the form has one before the arguments: models write
    /// it together with the brace.
    pub fn forced_prefix(&self, chat: &Chat) -> Option<String> {
        let form = self.capabilities.tool_format.form();
        let prefix = match (&chat.tool_choice, chat.tools.as_slice()) {
            (ToolChoice::None | ToolChoice::Auto, _) => return None,
            (ToolChoice::Named(name), _) => form.begin(name),
            (ToolChoice::Required, [tool]) => form.begin(&tool.name),
            (ToolChoice::Required, _) => form.begin_any(),
        };
        let prefix = prefix.trim_end_matches(' ');
        (!prefix.is_empty()).then(|| prefix.to_owned())
    }

    /// A prompt of this conversation has at least so many tokens.
    fn tokens_min(&self, chat: &Chat) -> Option<usize> {
        // Templates write something for each message, and all of what the user said last.
        let said_last = chat.messages.iter().rfind(|message| message.role == Role::User);
        let said_last = said_last.map(|message| self.bound.tokens_min(&message.content));
        said_last.into_iter().chain([chat.messages.len()]).max()
    }

    /// The token ids of a text that is not part of a conversation, with little work for one that has
    /// certainly more than `tokens_max`. Names of control tokens in it are control tokens, and what
    /// the tokenizer's makers put around a text (a beginning of sequence) is put there.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn encode_text_within(&self, text: &str, tokens_max: usize) -> Result<Encoded, TextError> {
        self.within(text, tokens_max, |text| self.marked_ids(text))
    }

    /// The token ids of a text that is to be read and not to be continued, with little work for one that
    /// has certainly more than `tokens_max`. Names of control tokens in it are text; what the
    /// tokenizer's makers put around a text is put there, and with `with_end` their end of text if that
    /// is nothing: the only id of `generation_config.json`, else `eos_token`.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn encode_document(
        &self,
        text: &str,
        with_end: bool,
        tokens_max: usize,
    ) -> Result<Encoded, TextError> {
        let guarded = self.guard.guard(text);
        let mut encoded = self.encode_text_within(&guarded, tokens_max)?;
        if let (true, Encoded::Whole(ids)) = (with_end, &mut encoded) {
            ids.extend(self.text_end.own);
        }
        Ok(encoded)
    }

    /// As [`Codec::encode_document`], of so much of a text as makes at most `tokens_max` tokens, its end
    /// mark among them. Costs little however long the text is.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn encode_document_beginning(
        &self,
        text: &str,
        with_end: bool,
        tokens_max: usize,
    ) -> Result<Vec<i32>, TextError> {
        let TextEnd { put, own } = &self.text_end;
        let end = [put.as_slice(), own.filter(|_| with_end).as_slice()].concat();
        let room = tokens_max.saturating_sub(end.len());
        // A guarded text is longer, and only its beginning has to be guarded.
        let mut len = tokens_max.saturating_mul(FIRST_LOOK_BYTES_PER_TOKEN);
        let mut ids = loop {
            let is_whole = len >= text.len();
            let beginning = &text[..text.floor_char_boundary(len)];
            let mut ids = self.marked_ids(&self.guard.guard(beginning))?;
            ids.truncate(ids.len().saturating_sub(put.len()));
            if is_whole {
                break ids;
            }
            ids.truncate(ids.len().saturating_sub(CUT_TOKENS_MAX));
            if ids.len() >= room {
                break ids;
            }
            len = len.saturating_mul(2).max(1);
        };
        ids.truncate(room);
        ids.extend(end);
        Ok(ids)
    }

    /// The token ids that ask for what stands between two texts, with little work for texts that have
    /// certainly more than `tokens_max`. Names of control tokens in the texts are text.
    ///
    /// # Errors
    /// [`TextError::NoInfill`] where the vocabulary has no marks for it; else as [`Codec::encode`].
    pub fn encode_infill(&self, infill: &Infill, tokens_max: usize) -> Result<Encoded, TextError> {
        let marks = self.infill.as_ref().ok_or(TextError::NoInfill)?;
        let Infill { before, after } = infill;
        // What the tokenizer's makers put in front of every text; an end would end the answer.
        let begin = match self.encode_text_within("", 0)? {
            Encoded::Whole(ids) => ids,
            Encoded::TooLong { .. } => Vec::new(),
        };
        let begin: Vec<i32> = begin.into_iter().filter(|id| !self.eos_ids.contains(id)).collect();
        let guarded = (self.guard.guard(before), self.guard.guard(after));
        let ids = |text: &str, tokens_max| self.within(text, tokens_max, |text| self.ids(text));
        let before = match ids(&guarded.0, tokens_max)? {
            Encoded::Whole(ids) => ids,
            too_long @ Encoded::TooLong { .. } => return Ok(too_long),
        };
        match ids(&guarded.1, tokens_max.saturating_sub(before.len()))? {
            Encoded::Whole(after) => Ok(Encoded::Whole(marks.prompt(&begin, &before, &after))),
            Encoded::TooLong { tokens_min } => {
                Ok(Encoded::TooLong { tokens_min: tokens_min + before.len() })
            }
        }
    }

    /// The tokens around images, where the model sees.
    pub const fn image_tags(&self) -> Option<&ImageTags> {
        self.image_tags.as_ref()
    }

    /// The ids of a text as it is, with little work for one that has certainly more than `tokens_max`.
    pub(crate) fn encode_part(&self, text: &str, tokens_max: usize) -> Result<Encoded, TextError> {
        self.within(text, tokens_max, |text| self.ids(text))
    }

    /// Whether the model can be asked for what stands between two texts.
    pub const fn can_infill(&self) -> bool {
        self.infill.is_some()
    }

    /// The token ids that end what is filled in, besides [`Codec::eos_ids`].
    pub fn infill_end_ids(&self) -> &[i32] {
        self.infill.as_ref().map_or(&[], |marks| &marks.end_ids)
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
        self.within(&rendered.guarded, tokens_max, |text| self.ids(text))
    }

    /// What `ids` makes of a text, with little work for one that has certainly more than `tokens_max`.
    fn within(
        &self,
        text: &str,
        tokens_max: usize,
        ids: impl Fn(&str) -> Result<Vec<i32>, TextError>,
    ) -> Result<Encoded, TextError> {
        let tokens_min = self.bound.tokens_min(text);
        if tokens_min > tokens_max {
            return Ok(Encoded::TooLong { tokens_min });
        }
        let mut len = tokens_max.saturating_mul(FIRST_LOOK_BYTES_PER_TOKEN);
        while len < text.len() {
            let beginning = &text[..text.floor_char_boundary(len)];
            let tokens_min = ids(beginning)?.len().saturating_sub(CUT_TOKENS_MAX);
            if tokens_min > tokens_max {
                return Ok(Encoded::TooLong { tokens_min });
            }
            // Doubling: all looks together cost no more than twice the last.
            len = len.saturating_mul(2).max(1);
        }
        ids(text).map(Encoded::Whole)
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

    /// What the model can do besides talking.
    pub const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Whether the runtime must not leave special tokens out of its text, because calls or thoughts
    /// are marked with some. The others are then to be taken out: see [`Codec::special_text`].
    pub fn needs_special_tokens(&self) -> bool {
        self.special_texts.values().any(|text| !text.is_empty())
    }

    /// What a special token is in an answer: its own text where that marks a call or a thought,
    /// otherwise nothing. `None` for ordinary tokens, whose text the runtime knows.
    pub fn special_text(&self, id: i32) -> Option<&str> {
        self.special_texts.get(&id).map(String::as_str)
    }

    /// What ends a thought that is under way: its text and its tokens.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn thought_end(&self) -> Result<(String, Vec<i32>), TextError> {
        let text = self.capabilities.reasoning_format.ended();
        let tokens = self.ids_of_parts_alone(&[(false, &text)])?;
        Ok((text, tokens))
    }

    /// What is wrong with the model's files although they can be used, for the operator.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The name of a control token: `None` for all others.
    pub(crate) fn control_token(&self, id: i32) -> Option<&str> {
        self.control.get(&id).map(String::as_str)
    }

    /// The ids of the beginning of an answer, in which names of control tokens are control tokens.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn answer_ids(&self, text: &str) -> Result<Vec<i32>, TextError> {
        self.ids_of_parts_alone(&[(false, text)])
    }

    /// The ids of a text that stands for itself: with what the tokenizer's makers put around a text or
    /// without, and with names of control tokens as control tokens or as text. Little work
    /// for one that has certainly more than `tokens_max`.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn cut(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
        tokens_max: usize,
    ) -> Result<Encoded, TextError> {
        let guarded = self.guarded(&[(!parse_special, text)]);
        self.within(&guarded, tokens_max, |text| match add_special {
            true => self.marked_ids(text),
            false => self.ids(text),
        })
    }

    /// The token that `tokenizer_config.json` calls so, such as `bos_token`.
    pub fn named_token(&self, name: &str) -> Option<&str> {
        self.template.named_token(name)
    }

    /// The text of token ids, with the names of control tokens in it.
    ///
    /// # Errors
    /// [`TextError::Tokenize`] where the tokenizer's decoder fails.
    pub fn text_of(&self, tokens: &[i32]) -> Result<String, TextError> {
        let ids: Vec<u32> = tokens.iter().map(|id| id.cast_unsigned()).collect();
        let failed = |error: tokenizers::Error| TextError::Tokenize { reason: error.to_string() };
        self.tokenizer.decode(&ids, false).map_err(failed)
    }

    /// The bytes that a token stands for; `None` where there is no such token. A control token stands
    /// for its name.
    pub fn token_bytes(&self, id: i32) -> Option<Vec<u8>> {
        let entry = self.tokenizer.id_to_token(u32::try_from(id).ok()?)?;
        Some(self.token_bytes.read(&entry))
    }

    /// The source of the chat template.
    pub fn template_source(&self) -> &str {
        self.template.source()
    }

    /// The ids of a text in parts, each of which names control tokens (`false`) or holds their
    /// names as mere text (`true`).
    pub(crate) fn ids_of_parts(&self, parts: &[(bool, &str)]) -> Result<Vec<i32>, TextError> {
        self.ids(&self.guarded(parts))
    }

    /// The same for parts of a text whose beginning is not there: without the blank that some
    /// tokenizers put before every text.
    pub(crate) fn ids_of_parts_alone(&self, parts: &[(bool, &str)]) -> Result<Vec<i32>, TextError> {
        let text = self.guarded(parts);
        let ids = self.ids(&text)?;
        let first = ids.first().and_then(|id| self.tokenizer.id_to_token(id.cast_unsigned()));
        let blank_added = first.is_some_and(|token| token.starts_with(['▁', 'Ġ']));
        if !blank_added || text.starts_with([' ', '▁', 'Ġ']) {
            return Ok(ids);
        }
        for anchor in ["\n", ".", "x", "0"] {
            let before = self.ids(anchor)?;
            let both = self.ids(&format!("{anchor}{text}"))?;
            if both.starts_with(&before) {
                return Ok(both[before.len()..].to_vec());
            }
        }
        Ok(ids)
    }

    pub(crate) fn guarded(&self, parts: &[(bool, &str)]) -> String {
        let guard = |(guarded, text): &(bool, &str)| match guarded {
            true => self.guard.guard(text).into_owned(),
            false => (*text).to_owned(),
        };
        parts.iter().map(guard).collect()
    }

    fn ids(&self, guarded: &str) -> Result<Vec<i32>, TextError> {
        ids_by(&self.tokenizer, guarded, false)
    }

    /// With what the tokenizer's makers put around a text.
    fn marked_ids(&self, guarded: &str) -> Result<Vec<i32>, TextError> {
        ids_by(&self.tokenizer, guarded, true)
    }
}

/// The tokenizer's ids as the runtime takes them.
fn ids_by(tokenizer: &Tokenizer, text: &str, marked: bool) -> Result<Vec<i32>, TextError> {
    let failed = |reason: String| TextError::Tokenize { reason };
    let encoding = tokenizer.encode_fast(text, marked).map_err(|err| failed(err.to_string()))?;
    ids_of(encoding.get_ids())
}

fn ids_of(ids: &[u32]) -> Result<Vec<i32>, TextError> {
    let too_large = |id: &u32| TextError::Tokenize { reason: format!("id {id} is too large") };
    ids.iter().map(|id| i32::try_from(*id).map_err(|_| too_large(id))).collect()
}

/// What stands behind a text that is to be read.
///
/// Models for embeddings name in `eos_token` what ends their turns in chats, and have another token
/// put behind texts by the tokenizer itself, or named by `generation_config.json`.
struct TextEnd {
    /// What the tokenizer puts there by itself.
    put: Vec<i32>,
    /// What has to be put there where that is nothing.
    own: Option<i32>,
}

impl TextEnd {
    fn of(tokenizer: &Tokenizer, config: &TextConfig) -> Result<Self, TextError> {
        // A text of which no mark is made.
        let plain = ids_by(tokenizer, "a", false)?;
        let marked = ids_by(tokenizer, "a", true)?;
        let place = marked.windows(plain.len().max(1)).position(|window| window == plain);
        let put = place.and_then(|at| marked.get(at + plain.len()..)).unwrap_or_default().to_vec();
        let named = || config.named_token("eos_token").and_then(|name| tokenizer.token_to_id(name));
        let own = match config.eos_ids.as_slice() {
            _ if !put.is_empty() => None,
            [only] => Some(*only),
            _ => named().and_then(|id| i32::try_from(id).ok()),
        };
        Ok(Self { put, own })
    }
}

/// The text of each special token in an answer. Those that end an answer are no part of it.
fn special_texts(
    tokenizer: &Tokenizer,
    capabilities: &Capabilities,
    eos_ids: &[i32],
) -> HashMap<i32, String> {
    let mut marks = capabilities.reasoning_format.special_marks();
    marks.extend(capabilities.tool_format.marks());
    let added = tokenizer.get_added_tokens_decoder().into_iter();
    let special = added.filter(|(_, token)| token.special);
    let with_text = special.filter_map(|(id, token)| {
        let id = i32::try_from(id).ok()?;
        let shown = !eos_ids.contains(&id) && marks.iter().any(|m| m.contains(&token.content));
        Some((id, if shown { token.content } else { String::new() }))
    });
    with_text.collect()
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
