//! What experiments have a model read: prompts in its own tokens.

use std::{fs, io, path::Path};

use rkllama_core::{Chat, Message, Role, TextFiles};
use rkllama_text::{Codec, RenderOptions};
use serde::{Deserialize, Serialize};

/// Prompts whose right answers are short and have commas, or none.
const QUESTIONS: [&str; 3] = [
    "Name the days of the week in one line, separated by commas.",
    "Is snow white, grey or black? Answer with one word.",
    "Write one sentence about the sea, the wind and the sky.",
];
/// A text to have something long to read.
const TEXT: &str = "The lighthouse stood on the last rock before the open sea. Every evening its keeper \
    climbed the stairs, counted them, and wrote the number into a book: there were 217, and never one \
    more. In autumn the storms came from the north, and with them the birds that rested on the rail. \
    One of them, grey and small, stayed for the winter. The keeper gave it bread and called it Ada. ";
/// What a conversation goes on with.
const FOLLOW_UP: &str = "And in other words, please: what does the keeper count, and what comes in \
    autumn? Say it in one sentence.";
/// An answer by which what follows it is found.
const ANSWER: &str = "Certainly.";
/// A question with the mark of an image.
const PICTURE: &str = "<image>What is to be seen?";
/// Names of tokens around images, of families that have them.
const IMAGE_TAGS: [[&str; 3]; 2] = [
    ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>"],
    ["<start_of_image>", "<end_of_image>", "<image_soft_token>"],
];

/// A model's material.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Material {
    /// Whole prompts: short questions.
    pub(crate) questions: Vec<Vec<i32>>,
    /// A whole prompt with a long text before its question.
    pub(crate) long: Vec<i32>,
    /// What goes on behind an answer: its end, another question, the beginning of its answer.
    pub(crate) follow_up: Vec<i32>,
    /// A text's tokens, to be repeated where a length is wanted.
    pub(crate) text: Vec<i32>,
    /// At which tokens an answer ends.
    pub(crate) eos_ids: Vec<i32>,
    /// Tokens with a comma at their beginning.
    pub(crate) commas: Vec<i32>,
    /// The name of the first token at which an answer ends.
    pub(crate) eos_name: Option<String>,
    /// A whole prompt with an image, as text.
    pub(crate) picture: String,
    /// Start, end and content of images, where the vocabulary has such tokens.
    pub(crate) image_tags: Option<[String; 3]>,
}

impl Material {
    /// Reads the tokenizer that lies beside a model.
    ///
    /// # Errors
    /// A line that says what is missing or wrong.
    pub(crate) fn beside(model: &Path) -> Result<Self, String> {
        let folder = model.parent().filter(|it| !it.as_os_str().is_empty());
        let files = files(folder.unwrap_or_else(|| Path::new(".")))?;
        let codec = Codec::new(&files).map_err(|error| error.to_string())?;
        let failed = |error: rkllama_text::TextError| error.to_string();
        let chat = |text: &str| {
            codec.encode_chat(&Chat::new(vec![Message::new(Role::User, text)])).map_err(failed)
        };
        let rendered = |turns: Vec<Message>| {
            let rendered = codec.render(&Chat::new(turns), &RenderOptions::default());
            rendered.map(|it| it.text().into_owned()).map_err(failed)
        };
        let user = |text: &str| Message::new(Role::User, text);
        let turns = vec![user("Now?"), Message::new(Role::Assistant, ANSWER), user(FOLLOW_UP)];
        let conversation = rendered(turns)?;
        let follow_up = conversation.rsplit_once(ANSWER).map_or(FOLLOW_UP, |(_, rest)| rest);
        let questions = QUESTIONS.into_iter().map(chat).collect::<Result<_, _>>()?;
        let has = |name: &str| {
            let ids = codec.answer_ids(name).ok()?;
            (ids.len() == 1).then_some(())
        };
        let tags = IMAGE_TAGS.iter().find(|tags| tags.iter().all(|name| has(name).is_some()));
        let eos_ids = codec.eos_ids().to_vec();
        let eos_name = eos_ids.first().and_then(|id| codec.text_of(&[*id]).ok());
        Ok(Self {
            questions,
            long: chat(&format!("{}\n\nWhat is the bird called?", TEXT.repeat(2)))?,
            follow_up: codec.answer_ids(follow_up).map_err(failed)?,
            picture: rendered(vec![user(PICTURE)])?,
            text: codec.answer_ids(TEXT).map_err(failed)?,
            commas: commas(&codec)?,
            eos_name: eos_name.filter(|name| !name.is_empty()),
            eos_ids,
            image_tags: tags.map(|tags| tags.map(str::to_owned)),
        })
    }

    /// So many tokens of text, at least 1.
    pub(crate) fn of_len(&self, len: usize) -> Vec<i32> {
        self.text.iter().cycle().take(len.max(1)).copied().collect()
    }
}

/// A comma alone and in a list.
fn commas(codec: &Codec) -> Result<Vec<i32>, String> {
    let ids = codec.answer_ids("one, two,three ,").map_err(|error| error.to_string())?;
    let begins = |id: &i32| codec.token_bytes(*id).is_some_and(|text| text.starts_with(b","));
    let mut commas: Vec<i32> = ids.into_iter().filter(begins).collect();
    commas.sort_unstable();
    commas.dedup();
    Ok(commas)
}

fn files(folder: &Path) -> Result<TextFiles, String> {
    let read = |name: &str| {
        let file = folder.join(name);
        match fs::read(&file) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", file.display())),
        }
    };
    let template = read("chat_template.jinja")?;
    Ok(TextFiles {
        tokenizer: read("tokenizer.json")?
            .ok_or_else(|| format!("no tokenizer.json in {}", folder.display()))?,
        tokenizer_config: read("tokenizer_config.json")?,
        generation_config: read("generation_config.json")?,
        config: read("config.json")?,
        chat_template: template.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        ..TextFiles::default()
    })
}
