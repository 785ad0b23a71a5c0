//! What the two sides say.
//!
//! ```text
//! server                       worker
//!   Hello ───────────────────────▶
//!   ◀─────────────────────── Hello
//!   Load ────────────────────────▶     opens the library, loads the model
//!   ◀───────── Loaded | LoadFailed     after LoadFailed the worker exits
//!   Run(Generate{run}) ──────────▶     with orders about the KV cache
//!   ◀─────────────── Piece{run} ...    one per token
//!   Abort{run} ──────────────────▶     at any time; ignored when that run has ended
//!   ◀──────────────────── End{run}     after the runtime's own call has returned
//!   Run(Embed{run}) ─────────────▶
//!   ◀────────────── Embedding{run}     one, where the run comes to its end
//!   ◀──────────────────── End{run}
//!   Run(Score{run}) ─────────────▶
//!   ◀───────────────── Scores{run}     one, where the run comes to its end
//!   ◀──────────────────── End{run}
//!   Run(Point{run}) ─────────────▶
//!   ◀──────────────── Pointed{run}     one, where the run comes to its end
//!   ◀──────────────────── End{run}
//!   Shutdown ────────────────────▶     destroys the handle; the worker closes the socket
//! ```

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Version of the frames: changes with every change of this file.
pub const VERSION: u32 = 10;

/// From the server to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The server's [`VERSION`].
    Hello(u32),
    /// Open the runtime and load the model. Once, before anything else.
    Load(Load),
    /// Run the model. Only after the previous run's `End`.
    Run(Order),
    /// Stop the run of this number.
    Abort(u64),
    /// Free the model and end.
    Shutdown,
}

/// From a worker to the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The worker's [`VERSION`].
    Hello(u32),
    /// The model can be used.
    Loaded(Loaded),
    /// The model cannot be used; the reason is what this side saw, the runtime's words are on its
    /// standard output.
    LoadFailed(String),
    /// One token.
    Piece(Piece),
    /// What an [`Embed`] asked for.
    Embedding(Embedding),
    /// What a [`Score`] asked for.
    Scores(Scores),
    /// What a [`Point`] asked for.
    Pointed(Pointed),
    /// A run is over and the runtime is idle again.
    End(End),
}

/// What to load and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// The vendor's library.
    pub runtime: PathBuf,
    /// The `.rkllm` file.
    pub model: PathBuf,
    /// Context, in tokens.
    pub context_tokens_max: u32,
    /// Sampling where a run does not give its own, or cannot.
    pub sampling: RunSampling,
    /// Whether the runtime must not look for the end of sequence itself, because it would read the
    /// wrong ids from this model.
    pub ignore_eos: bool,
    /// The first of the NPU's address domains to use, 0 to 15. A model takes as many as it needs
    /// from there on.
    pub base_domain: u8,
    /// How the model sees, if it does.
    pub vision: Option<Vision>,
    /// The adapter that every run is made with, if the model has one.
    pub adapter: Option<Adapter>,
}

/// A LoRA adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// Its file.
    pub file: PathBuf,
    /// What its weights are multiplied with.
    pub scale: f32,
}

/// A network that makes vectors of images for the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vision {
    /// The `.rknn` file.
    pub encoder: PathBuf,
    /// Name of the token in front of an image; may be empty.
    pub start: String,
    /// Name of the token behind an image; may be empty.
    pub end: String,
    /// Name of the token that stands for each of an image's vectors; may be empty.
    pub content: String,
    /// What an image that is no square is filled up with, 0 to 255.
    pub fill: u8,
    /// What the encoder takes instead of bytes, where it does not normalise by itself.
    pub normalise: Option<Normalise>,
    /// Whether the runtime can be asked how wide the model is, to compare the encoder with it: vectors of
    /// another width end the process.
    pub ask_width: bool,
    /// Largest image, in pixels.
    pub pixels_max: u64,
    /// The `.rknn` file of a network that finds a place on an image, of a model that has one. Its
    /// images are put into the encoder's input as they are, and not into a square.
    pub pointer_head: Option<PathBuf>,
}

/// What is taken off each colour (as a part of 1), and what it is divided by then.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Normalise {
    /// Red, green and blue.
    pub mean: [f32; 3],
    /// Red, green and blue.
    pub std: [f32; 3],
}

/// What is known of the encoder of a loaded model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoder {
    /// Vectors of each image, which are as many tokens.
    pub image_tokens: u32,
    /// Width of an image as it sees it, in pixels.
    pub width: u32,
    /// Its height.
    pub height: u32,
}

/// Sampling with every value settled; `top_k: None` leaves the runtime's own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RunSampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// 0 to 1.
    pub top_p: f32,
    /// Candidates to choose from.
    pub top_k: Option<u32>,
    /// 1 is off.
    pub repeat_penalty: f32,
    /// 0 is off.
    pub frequency_penalty: f32,
    /// 0 is off.
    pub presence_penalty: f32,
}

/// A loaded model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// The runtime's release, such as `1.3.0`.
    pub runtime_version: String,
    /// Whether a run may bring its own sampling; before 1.3.0 it is fixed at load.
    pub sampling_per_run: bool,
    /// Time from the call of init to its return, in milliseconds.
    pub load_ms: u64,
    /// The encoder of a model that sees.
    pub encoder: Option<Encoder>,
    /// The release of the library that runs it, and the form in which the encoder takes an image: for the
    /// log.
    pub encoder_notes: Option<String>,
}

/// What to run the model for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// For an answer.
    Generate(Generate),
    /// For a vector that stands for a text.
    Embed(Embed),
    /// For what is likely in a text and behind it.
    Score(Score),
    /// For a place on an image.
    Point(Point),
}

impl Order {
    /// Number of the run.
    pub const fn run(&self) -> u64 {
        match self {
            Self::Generate(generate) => generate.run,
            Self::Embed(embed) => embed.run,
            Self::Score(score) => score.run,
            Self::Point(point) => point.run,
        }
    }

    /// Tokens that the runtime is given to read.
    pub fn tokens(&self) -> usize {
        match self {
            Self::Generate(generate) => generate.tokens.len(),
            Self::Embed(embed) => embed.tokens.len(),
            Self::Score(score) => score.tokens.len(),
            Self::Point(point) => usize::try_from(point.tokens).unwrap_or(usize::MAX),
        }
    }
}

/// A text to read, of which one vector is wanted. The KV cache is emptied first: what it holds would
/// not be read again, and there would be no vectors of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embed {
    /// As [`Generate::run`].
    pub run: u64,
    /// The text: at least one token, fewer than the context holds.
    pub tokens: Vec<i32>,
    /// Which of its tokens' vectors to take.
    pub pooling: Pooling,
}

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pooling {
    /// The last token's: it has read all others.
    Last,
    /// The mean of all.
    Mean,
    /// The first token's.
    Cls,
}

/// The vector of a text, of length 1. The matrix it is taken from stays in the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// The run it belongs to.
    pub run: u64,
    /// As many numbers as the model is wide.
    pub vector: Vec<f32>,
}

/// A text to read, of whose tokens the probabilities are wanted. The KV cache is emptied first, as for
/// [`Embed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// As [`Generate::run`].
    pub run: u64,
    /// The text: at least one token, fewer than the context holds.
    pub tokens: Vec<i32>,
    /// Tokens that may come behind it, of which the probabilities are wanted.
    pub candidates: Vec<i32>,
    /// How many of the text's last tokens are to be weighed, each as the one behind those before it:
    /// fewer than there are tokens.
    pub last: u32,
    /// How many of the likeliest tokens are wanted in each of their places.
    pub top: u32,
}

/// The probabilities of tokens, as natural logarithms. The rows they are taken from stay in the
/// worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The run they belong to.
    pub run: u64,
    /// Of [`Score::candidates`], in their order.
    pub candidates: Vec<f32>,
    /// Of the text's last tokens, in their order.
    pub tokens: Vec<TokenScore>,
}

/// How likely a token is in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenScore {
    /// The logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens in its place, the likeliest first.
    pub top: Vec<(i32, f32)>,
}

/// A text with one image, on which a place is wanted. The KV cache is emptied first, as for [`Embed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// As [`Generate::run`].
    pub run: u64,
    /// The text and its image.
    pub pictured: Pictured,
    /// Tokens of all of it, the image's among them.
    pub tokens: u32,
    /// How many tokens stand behind the one that points.
    pub behind: u32,
}

/// How much each part of an image is meant. The vectors that this is taken from stay in the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pointed {
    /// The run it belongs to.
    pub run: u64,
    /// One number for each of an image's vectors, row after row: as many as [`Encoder::image_tokens`].
    pub scores: Vec<f32>,
}

/// A prompt to answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    /// Number of the run: increasing, chosen by the server.
    pub run: u64,
    /// The prompt, or what is new of it: see [`KvOrders::held_tokens`]. Empty to have the orders
    /// about the KV cache followed and no more: the run ends at once.
    pub tokens: Vec<i32>,
    /// The same prompt as a text with images, where it has some: the runtime is then given that, and of
    /// the tokens the number counts.
    pub pictured: Option<Pictured>,
    /// What to do with the KV cache before, during and after the run.
    pub kv: KvOrders,
    /// Sampling for this run; ignored where the runtime cannot.
    pub sampling: RunSampling,
    /// Tokens after which the worker ends the run; at least 1.
    pub tokens_max: u32,
    /// Token ids that end the answer.
    pub stop_tokens: Vec<i32>,
}

/// A text with images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pictured {
    /// The text, with `<image>` in the place of each image and nowhere else. Names of control tokens in
    /// it are control tokens.
    pub text: String,
    /// The images in their order; at least one.
    pub images: Vec<Image>,
}

/// An image as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Says whether two images are the same: the SHA-256 of the file.
    pub digest: [u8; 32],
    /// The file.
    #[serde(with = "bytes_as_one")]
    pub bytes: Vec<u8>,
}

/// What to do with the runtime's KV cache. Orders are followed from the first field to the last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvOrders {
    /// Empty it. A run that was to begin with an empty cache fails where the runtime cannot.
    pub clear: bool,
    /// Fill it from this file, which an earlier run saved. What was loaded is let go with
    /// the next order to empty the cache.
    pub load: Option<PathBuf>,
    /// Append the tokens to what it holds, instead of letting the runtime look how much of them it
    /// holds already.
    pub append: bool,
    /// Tokens of the context that it holds already in front of [`Generate::tokens`]; 0 unless
    /// `append` is set.
    pub held_tokens: u32,
    /// Save what it holds at the end of the run to this file.
    pub save: Option<PathBuf>,
}

/// One token as the runtime reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The run it belongs to.
    pub run: u64,
    /// Its id; the runtime may not give one inside an unfinished character.
    pub token: i32,
    /// Its text: empty inside an unfinished character. Bytes, because nothing promises whole ones.
    #[serde(with = "bytes_as_one")]
    pub text: Vec<u8>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum End {
    /// A stop token was generated, or the runtime ended by itself before its limits.
    Stop(Stats),
    /// `tokens_max` or the context's end was reached.
    Length(Stats),
    /// `Abort` was obeyed.
    Aborted(Stats),
    /// The runtime reported an error.
    Failed {
        /// The run.
        run: u64,
        /// What this side saw.
        reason: String,
    },
}

/// Counts of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The run.
    pub run: u64,
    /// Tokens generated, a stop token included.
    pub tokens: u32,
    /// Ids of tokens that the runtime generated and that were not sent as [`Piece`]s: the stop
    /// token, and what came behind an abort.
    pub unsent: Vec<i32>,
    /// Whether the run was broken off: by an [`ToWorker::Abort`], or by the worker where the runtime
    /// does not end a run by itself.
    pub aborted: bool,
    /// Tokens that the KV cache holds after the run, as the runtime counts them.
    pub kv_tokens: Option<u32>,
    /// Prompt tokens that were computed, as the runtime counts them. Whether it leaves out those
    /// from the KV cache is an open question of hardware: for the log only.
    pub computed_tokens: Option<u32>,
}

impl End {
    /// The run that ended.
    pub const fn run(&self) -> u64 {
        match self {
            Self::Stop(stats) | Self::Length(stats) | Self::Aborted(stats) => stats.run,
            Self::Failed { run, .. } => *run,
        }
    }
}

/// Serde writes `Vec<u8>` element by element; this writes it in one piece.
mod bytes_as_one {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(de: D) -> Result<Vec<u8>, D::Error> {
        <&[u8]>::deserialize(de).map(<[u8]>::to_vec)
    }
}
