//! What a model brings into every conversation.

use crate::{KeepAlive, Message};

/// Whether a template is written in Jinja, and not in Go's language: it has tags of its own, and speaks
/// of `messages` where Go speaks of `.Messages`.
pub fn is_jinja(template: &str) -> bool {
    template.contains("{%") || template.contains("messages")
}

/// What was said about a model when it was made, beyond its numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Presets {
    /// What it is told before everything else, where a conversation has no instructions.
    pub system: Option<String>,
    /// Turns that stand between the instructions and the first turn of every conversation.
    pub messages: Vec<Message>,
    /// Texts that end an answer where the request names none.
    pub stop: Vec<String>,
    /// How long it stays loaded where nobody says so; `None` leaves it to the server.
    pub keep_alive: Option<KeepAlive>,
    /// A prompt's template in Go's language, as Ollama's models have them.
    pub go_template: Option<String>,
    /// The texts or names of its licences.
    pub licenses: Vec<String>,
    /// The model it was made from.
    pub parent: Option<String>,
    /// Parameters for which there is no knob here, with their values as JSON text: kept to be shown.
    pub parameters: Vec<(String, String)>,
    /// Where it was pulled from.
    pub source: Option<Source>,
    /// Its other names.
    pub aliases: Vec<String>,
    /// What is said about it, by Ollama's names and the manifest's keys, each with the file that says so.
    pub origins: Vec<(String, String)>,
}

/// Where a model was pulled from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The repository on the hub, such as `org/name`.
    pub repository: String,
    /// The commit.
    pub revision: String,
    /// The weights' path in it.
    pub file: String,
}
