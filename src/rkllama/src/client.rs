//! The client's side of the command line: it talks HTTP to a running server and starts none.

mod address;
mod bench;
mod chat;
mod create;
mod interactive;
mod lines;
mod models;
mod pictures;
mod printer;
mod progress;
mod pull;
mod run;
mod show;
mod store;

pub(crate) use bench::bench;
pub(crate) use chat::Think;
pub(crate) use create::create;
pub(crate) use models::{list, ps};
pub(crate) use pull::pull;
pub(crate) use run::run;
pub(crate) use show::show;
pub(crate) use store::{cp, rm, stop};

use std::{env, fmt, time::Duration};

use anyhow::{Context, anyhow, bail};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;

use crate::cli::ServerArgs;

/// Time to reach a server. An answer may take any time: models load first.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server.
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    key: Option<String>,
}

/// What servers answer when they refuse.
#[derive(Debug, Deserialize)]
struct Refusal {
    error: Words,
}

/// As OpenAI's API has it, and as Ollama's.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Words {
    Reason(Reason),
    Text(String),
}

#[derive(Debug, Deserialize)]
pub(crate) struct Reason {
    pub(crate) message: String,
}

/// A server's no, in its own words.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    words: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Refused {}

/// Whether the server says that there is no such thing.
fn is_absent(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|no| no.status == StatusCode::NOT_FOUND)
}

impl Client {
    /// The server that arguments and environment name. It is not asked for yet.
    pub(crate) fn new(args: &ServerArgs) -> anyhow::Result<Self> {
        let url = address::url(args.host.as_deref(), |name| env::var(name).ok())?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("rkllama/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot begin to speak HTTP")?;
        Ok(Self { http, url, key: args.api_key.clone() })
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.url))
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.url))
    }

    fn head(&self, path: &str) -> RequestBuilder {
        self.http.head(format!("{}{path}", self.url))
    }

    fn delete(&self, path: &str) -> RequestBuilder {
        self.http.delete(format!("{}{path}", self.url))
    }

    /// Sends a request; a refusal is an error in the server's own words, [`Refused`].
    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let request = match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => {
                bail!(
                    "no server answers at {}: start one with `rkllama serve`, or name another with --host",
                    self.url
                )
            }
            Err(error) => return Err(anyhow!(error).context(format!("cannot ask {}", self.url))),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.text().await.unwrap_or_default();
        let words = match serde_json::from_str::<Refusal>(&body) {
            Ok(Refusal { error: Words::Reason(Reason { message }) }) => message,
            Ok(Refusal { error: Words::Text(words) }) => words,
            Err(_) => format!("{} answered {status} and no reason", self.url),
        };
        Err(Refused { status, words }.into())
    }
}

/// What a command does that waits for a server.
fn block_on<F: Future<Output = anyhow::Result<()>>>(future: F) -> anyhow::Result<()> {
    runtime()?.block_on(future)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    // A thread of its own: a connection that is let go of has to be closed while a person types.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start threads")
}
