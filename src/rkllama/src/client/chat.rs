//! A conversation with a model: what is sent, and the stream that comes back.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Client, Reason, is_absent};

/// What goes with every question.
#[derive(Debug, Clone, Default)]
pub(super) struct Conversation {
    pub(super) model: String,
    pub(super) system: Option<String>,
    /// Questions and answers in turns.
    pub(super) messages: Vec<Value>,
    /// `temperature` and the like, as the API names them.
    pub(super) parameters: Map<String, Value>,
    pub(super) format: Option<Value>,
    pub(super) think: Option<Think>,
    pub(super) keep_alive: Option<String>,
}

/// Whether the model thinks, or how hard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Think {
    Switch(bool),
    Level(String),
}

impl std::str::FromStr for Think {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(Self::Switch(true)),
            "false" => Ok(Self::Switch(false)),
            "low" | "medium" | "high" => Ok(Self::Level(text.to_owned())),
            _ => Err("use true, false, low, medium or high".to_owned()),
        }
    }
}

/// A piece of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Thought(String),
    Text(String),
}

/// How an answer ended.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) finish: Option<String>,
    pub(super) usage: Option<Usage>,
    pub(super) timings: Option<Timings>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Usage {
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    #[serde(default)]
    pub(super) prompt_tokens_details: Details,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Details {
    #[serde(default)]
    pub(super) cached_tokens: u64,
}

/// Times in milliseconds, speeds in tokens per second.
#[derive(Debug, Deserialize)]
pub(super) struct Timings {
    #[serde(default)]
    pub(super) queued_ms: f64,
    pub(super) prompt_ms: f64,
    pub(super) prompt_per_second: f64,
    pub(super) predicted_ms: f64,
    pub(super) predicted_per_second: f64,
}

impl Timings {
    pub(super) fn total(&self) -> Duration {
        let ms = self.queued_ms + self.prompt_ms + self.predicted_ms;
        Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default()
    }
}

#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    timings: Option<Timings>,
    /// Of an answer that breaks off.
    error: Option<Reason>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
}

impl Conversation {
    /// The request that asks for the next answer.
    fn request(&self) -> Value {
        let system = self.system.iter().map(|text| json!({"role": "system", "content": text}));
        let messages: Vec<Value> = system.chain(self.messages.iter().cloned()).collect();
        let mut request = self.parameters.clone();
        request.insert("model".to_owned(), self.model.clone().into());
        request.insert("messages".to_owned(), messages.into());
        request.insert("stream".to_owned(), true.into());
        request.insert("stream_options".to_owned(), json!({"include_usage": true}));
        if let Some(format) = &self.format {
            request.insert("response_format".to_owned(), format.clone());
        }
        if let Some(keep_alive) = &self.keep_alive {
            request.insert("keep_alive".to_owned(), keep_alive.clone().into());
        }
        match &self.think {
            None => {}
            Some(Think::Switch(on)) => {
                request.insert("enable_thinking".to_owned(), (*on).into());
            }
            Some(Think::Level(level)) => {
                request.insert("reasoning_effort".to_owned(), level.clone().into());
            }
        }
        request.into()
    }
}

impl Client {
    /// Asks for the next answer; `hear` gets it as it comes.
    pub(super) async fn ask(
        &self,
        conversation: &Conversation,
        hear: &mut dyn FnMut(Heard) -> anyhow::Result<()>,
    ) -> anyhow::Result<Done> {
        let request = self.post("/v1/chat/completions").json(&conversation.request());
        let answer = self.send(request).await.map_err(|error| match is_absent(&error) {
            true => anyhow!("{error} `rkllama pull {}` fetches it.", conversation.model),
            false => error,
        });
        let mut events = answer?.bytes_stream().eventsource();
        let mut done = Done::default();
        while let Some(event) = events.next().await {
            let event = event.context("the answer broke off")?;
            if event.data == "[DONE]" {
                return Ok(done);
            }
            let chunk: Chunk = serde_json::from_str(&event.data)
                .with_context(|| format!("the server said {:?}", event.data))?;
            if let Some(error) = chunk.error {
                bail!("{}", error.message);
            }
            done.usage = chunk.usage.or(done.usage);
            done.timings = chunk.timings.or(done.timings);
            let Some(Choice { delta, finish_reason }) = chunk.choices.into_iter().next() else {
                continue;
            };
            done.finish = finish_reason.or(done.finish);
            let Delta { content, reasoning_content } = delta;
            let thought = reasoning_content.filter(|text| !text.is_empty()).map(Heard::Thought);
            let text = content.filter(|text| !text.is_empty()).map(Heard::Text);
            for heard in thought.into_iter().chain(text) {
                hear(heard)?;
            }
        }
        bail!("the answer broke off: the server went away")
    }
}

/// The form of an answer: `json`, or the path of a file with a JSON Schema.
pub(super) fn format(text: &str) -> anyhow::Result<Value> {
    if text == "json" {
        return Ok(json!({"type": "json_object"}));
    }
    let schema = std::fs::read_to_string(text)
        .with_context(|| format!("--format is `json` or a file with a JSON Schema; {text}"))?;
    let schema: Value =
        serde_json::from_str(&schema).with_context(|| format!("{text} is no JSON Schema"))?;
    Ok(json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}))
}
