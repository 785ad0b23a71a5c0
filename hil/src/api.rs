//! A client without an SDK's kindness: what is not as the API says is a failure by name.

use std::{
    error::Error,
    fmt,
    time::{Duration, Instant},
};

use reqwest::{Client, Method, Response};
use serde_json::Value;

/// Longest wait for one answer. A large model on a slow board takes minutes to load.
const ANSWER_MAX: Duration = Duration::from_secs(600);

/// Why a scenario did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Something is not as it must be.
    Failed(String),
    /// The target lacks what it takes.
    Skipped(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(why) | Self::Skipped(why)) = self;
        f.write_str(why)
    }
}

impl Error for Problem {}

/// What a scenario comes to.
pub type Checked<T = ()> = Result<T, Problem>;

impl From<reqwest::Error> for Problem {
    fn from(error: reqwest::Error) -> Self {
        Self::Failed(format!("the request failed: {error:?}"))
    }
}

/// Fails with these words.
pub fn failed<T>(why: impl Into<String>) -> Checked<T> {
    Err(Problem::Failed(why.into()))
}

/// Skips with this reason.
pub fn skipped<T>(why: impl Into<String>) -> Checked<T> {
    Err(Problem::Skipped(why.into()))
}

/// Fails unless the condition holds.
pub fn check(condition: bool, why: impl FnOnce() -> String) -> Checked {
    if condition { Ok(()) } else { failed(why()) }
}

/// A string at a JSON pointer.
pub fn text<'a>(value: &'a Value, pointer: &str) -> Checked<&'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .map_or_else(|| failed(format!("no text at {pointer} in {value}")), Ok)
}

/// A count at a JSON pointer.
pub fn count(value: &Value, pointer: &str) -> Checked<u64> {
    value
        .pointer(pointer)
        .and_then(Value::as_u64)
        .map_or_else(|| failed(format!("no count at {pointer} in {value}")), Ok)
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The body; a text where it is not JSON.
    pub body: Value,
}

impl Reply {
    /// The body of a good answer.
    ///
    /// # Errors
    /// It is none.
    pub fn good(self) -> Checked<Value> {
        check(self.status == 200, || format!("status {}: {}", self.status, self.body))?;
        Ok(self.body)
    }
}

/// A server.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    url: String,
    key: Option<String>,
}

impl Api {
    /// The server at this address, without a slash at its end, and the key that it wants.
    ///
    /// # Errors
    /// No client can be made.
    pub fn new(url: &str, key: Option<String>) -> Checked<Self> {
        let client = Client::builder().timeout(ANSWER_MAX).build()?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned(), key })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// What a GET gives.
    ///
    /// # Errors
    /// No answer came.
    pub async fn get(&self, path: &str) -> Checked<Reply> {
        whole(self.request(Method::GET, path, None).send().await?).await
    }

    /// What a POST gives.
    ///
    /// # Errors
    /// No answer came.
    pub async fn post(&self, path: &str, body: &Value) -> Checked<Reply> {
        whole(self.request(Method::POST, path, Some(body)).send().await?).await
    }

    /// What a DELETE gives.
    ///
    /// # Errors
    /// No answer came.
    pub async fn delete(&self, path: &str, body: &Value) -> Checked<Reply> {
        whole(self.request(Method::DELETE, path, Some(body)).send().await?).await
    }

    /// Begins a stream of server-sent events.
    ///
    /// # Errors
    /// The answer is no such stream.
    pub async fn open(&self, path: &str, body: &Value) -> Checked<Events> {
        let (response, began) = self.stream(path, body).await?;
        Ok(Events { response, pending: Vec::new(), began })
    }

    /// Begins a stream of server-sent events that its reader takes apart; with the moment of asking.
    ///
    /// # Errors
    /// The answer is no such stream.
    pub async fn stream(&self, path: &str, body: &Value) -> Checked<(Response, Instant)> {
        let began = Instant::now();
        let response = self.request(Method::POST, path, Some(body)).send().await?;
        let kind = response.headers().get("content-type").and_then(|it| it.to_str().ok());
        let is_stream = kind.is_some_and(|it| it.starts_with("text/event-stream"));
        if response.status() != 200 || !is_stream {
            let status = response.status();
            return failed(format!("no stream but {status}: {}", response.text().await?));
        }
        Ok((response, began))
    }
}

async fn whole(response: Response) -> Checked<Reply> {
    let status = response.status().as_u16();
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Reply { status, body })
}

/// A stream that is being read. Dropping it is how a client leaves.
#[derive(Debug)]
pub struct Events {
    response: Response,
    pending: Vec<u8>,
    began: Instant,
}

impl Events {
    /// The next event's data; nothing at the end of the stream.
    ///
    /// # Errors
    /// The connection broke, or what came is no event.
    pub async fn next(&mut self) -> Checked<Option<String>> {
        loop {
            if let Some(end) = self.pending.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.pending.drain(..end + 2).collect();
                let block = String::from_utf8_lossy(&block[..end]).into_owned();
                if block.starts_with(':') {
                    continue;
                }
                let Some(data) = block.strip_prefix("data: ") else {
                    return failed(format!("no event: {block:?}"));
                };
                return Ok(Some(data.to_owned()));
            }
            match self.response.chunk().await? {
                Some(bytes) => self.pending.extend_from_slice(&bytes),
                None if self.pending.is_empty() => return Ok(None),
                None => return failed("the stream ends inside an event"),
            }
        }
    }

    /// Reads a chat to its end mark.
    ///
    /// # Errors
    /// It does not end in exactly one way.
    pub async fn chat(mut self) -> Checked<Streamed> {
        let mut streamed = Streamed::default();
        while let Some(data) = self.next().await? {
            check(!streamed.done, || format!("{data} behind the end mark"))?;
            if data == "[DONE]" {
                streamed.done = true;
                continue;
            }
            let Ok(chunk) = serde_json::from_str::<Value>(&data) else {
                return failed(format!("no JSON: {data}"));
            };
            streamed.take(&chunk, self.began.elapsed())?;
        }
        check(streamed.done, || "the stream has no end mark".to_owned())?;
        check(streamed.finish.is_some(), || "no chunk says why the answer ended".to_owned())?;
        Ok(streamed)
    }

    /// Reads until the first piece of the answer.
    ///
    /// # Errors
    /// The answer ended before.
    pub async fn first_piece(&mut self) -> Checked {
        while let Some(data) = self.next().await? {
            let chunk: Value = serde_json::from_str(&data).unwrap_or_default();
            if !piece(&chunk).is_empty() {
                return Ok(());
            }
        }
        failed("the answer ended before its first piece")
    }
}

/// The text that a chunk brings, thoughts too.
pub fn piece(chunk: &Value) -> String {
    let delta = &chunk["choices"][0]["delta"];
    let words = |field: &str| delta[field].as_str().unwrap_or_default().to_owned();
    words("reasoning_content") + &words("content")
}

/// A stream that was read to its end.
#[derive(Debug, Default)]
pub struct Streamed {
    /// The content of all chunks.
    pub content: String,
    /// Chunks that brought something.
    pub pieces: usize,
    /// Why the answer ended.
    pub finish: Option<String>,
    /// The usage chunk.
    pub usage: Value,
    /// From the request to the first piece.
    pub first: Option<Duration>,
    /// From the request to the last piece.
    pub last: Option<Duration>,
    done: bool,
}

impl Streamed {
    fn take(&mut self, chunk: &Value, at: Duration) -> Checked {
        check(chunk["error"].is_null(), || format!("an error in the stream: {chunk}"))?;
        if !piece(chunk).is_empty() {
            self.content.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or(""));
            self.pieces += 1;
            self.first.get_or_insert(at);
            self.last = Some(at);
        }
        if let Some(finish) = chunk["choices"][0]["finish_reason"].as_str() {
            check(self.finish.is_none(), || "the answer ends twice".to_owned())?;
            self.finish = Some(finish.to_owned());
        }
        if chunk["usage"].is_object() {
            self.usage = chunk["usage"].clone();
        }
        Ok(())
    }
}
