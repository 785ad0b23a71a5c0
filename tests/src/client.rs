//! Plain HTTP, without an SDK's kindness.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::Server;

/// A chat request in the making.
#[derive(Clone)]
pub struct Chat(pub Value);

impl Chat {
    /// One user message to the model `demo`, greedy.
    pub fn user(text: &str) -> Self {
        Self(json!({
            "model": "demo",
            "temperature": 0,
            "messages": [{"role": "user", "content": text}],
        }))
    }

    /// Sets a field.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0[field] = value.into();
        self
    }

    /// Asks for a stream.
    #[must_use]
    pub fn stream(self) -> Self {
        self.with("stream", true)
    }

    /// Sends it.
    pub async fn send(&self, server: &Server) -> Response {
        self.send_to(&server.url).await
    }

    /// Sends it to the server at this URL.
    pub async fn send_to(&self, url: &str) -> Response {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(120)).build().unwrap();
        client.post(format!("{url}/v1/chat/completions")).json(&self.0).send().await.unwrap()
    }

    /// Sends it and reads a whole answer.
    pub async fn ask(&self, server: &Server) -> Answer {
        let response = self.send(server).await;
        let status = response.status();
        let ignored = response
            .headers()
            .get("x-rkllama-ignored")
            .map(|value| value.to_str().unwrap().to_owned());
        let retry_after =
            response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or_else(|err| panic!("{err}: {text}"));
        Answer { status, ignored, retry_after, body }
    }

    /// Sends it and keeps the stream open.
    pub async fn open(&self, server: &Server) -> Stream {
        let response = self.clone().stream().send(server).await;
        assert_eq!(response.status(), StatusCode::OK);
        Stream { bytes: Box::pin(response.bytes_stream()), text: String::new() }
    }

    /// Sends it and reads the answer to its end, whichever form was asked for.
    pub async fn ending(&self, server: &Server) -> Ending {
        Ending::read(self.send(server).await).await
    }

    /// Sends it and reads the stream to its end.
    pub async fn events(&self, server: &Server) -> Vec<Sse> {
        let response = self.clone().stream().send(server).await;
        let status = response.status();
        assert_eq!(status, StatusCode::OK, "{}", response.text().await.unwrap());
        Sse::parse(&response.text().await.unwrap())
    }
}

/// Everything that a server counts.
pub async fn metrics(server: &Server) -> String {
    let response = reqwest::get(format!("{}/metrics", server.url)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.text().await.unwrap()
}

/// The value of one series, by its name with its labels.
pub fn metric(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub ignored: Option<String>,
    pub retry_after: Option<String>,
    pub body: Value,
}

impl Answer {
    /// The text of the first choice of a good answer.
    pub fn content(&self) -> &str {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body["choices"][0]["message"]["content"].as_str().unwrap()
    }

    /// Why the first choice ended.
    pub fn finish(&self) -> &str {
        self.body["choices"][0]["finish_reason"].as_str().unwrap()
    }

    /// The error's message, of an answer that is one.
    pub fn error(&self) -> &str {
        assert!(self.status.is_client_error() || self.status.is_server_error(), "{}", self.body);
        self.body["error"]["message"].as_str().unwrap()
    }
}

/// How an answer ended, whole or streamed: in exactly one way.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    pub status: StatusCode,
    /// The text of the answer, or what came of it.
    pub text: String,
    /// Why the answer is complete, or what went wrong.
    pub end: Result<String, String>,
    /// The error's code, of one that has a code.
    pub code: Option<String>,
}

impl Ending {
    /// Reads an answer to its end. Fails where it does not end as the API says: a whole answer with
    /// a choice or an error in its shape, a stream with one of both and the end mark behind it.
    pub async fn read(response: Response) -> Self {
        let status = response.status();
        let streamed = response
            .headers()
            .get("content-type")
            .is_some_and(|kind| kind.to_str().unwrap().starts_with("text/event-stream"));
        let body = response.text().await.unwrap();
        if streamed {
            assert_eq!(status, StatusCode::OK, "{body}");
            return Self::of_stream(&body);
        }
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|err| panic!("{err}: {body}"));
        let choice = &body["choices"][0];
        let text = choice["message"]["content"].as_str().unwrap_or_default().to_owned();
        assert_eq!(status == StatusCode::OK, choice.is_object(), "{status} {body}");
        Self::with(status, text, &body["error"], &choice["finish_reason"])
    }

    /// The end of a stream with these events.
    pub fn of_stream(body: &str) -> Self {
        let events = Sse::parse(body);
        let [chunks @ .., Sse::Done] = events.as_slice() else { panic!("no end mark: {body}") };
        let chunk = |event: &Sse| match event {
            Sse::Data(chunk) => Some(chunk.clone()),
            Sse::Comment => None,
            Sse::Done => panic!("an end mark in the middle: {body}"),
        };
        let ends = |chunk: &Value| {
            !chunk["error"].is_null() || !chunk["choices"][0]["finish_reason"].is_null()
        };
        let mut ending = chunks.iter().filter_map(chunk).skip_while(|chunk| !ends(chunk));
        let last = ending.next().unwrap_or_else(|| panic!("no end: {body}"));
        for behind in ending {
            assert!(behind["usage"].is_object() && !ends(&behind), "behind the end: {body}");
        }
        let reason = &last["choices"][0]["finish_reason"];
        Self::with(StatusCode::OK, Sse::content(&events), &last["error"], reason)
    }

    fn with(status: StatusCode, text: String, error: &Value, finish: &Value) -> Self {
        let words = |value: &Value| value.as_str().unwrap().to_owned();
        assert_ne!(error.is_null(), finish.is_null(), "one of both: {error} {finish}");
        let end = if error.is_null() { Ok(words(finish)) } else { Err(words(&error["message"])) };
        Self { status, text, end, code: error["code"].as_str().map(str::to_owned) }
    }
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub enum Sse {
    Data(Value),
    Done,
    Comment,
}

impl Sse {
    /// A whole stream; anything that is not an event fails.
    pub fn parse(text: &str) -> Vec<Self> {
        text.split("\n\n").filter(|block| !block.is_empty()).map(Self::one).collect()
    }

    fn one(block: &str) -> Self {
        if block.starts_with(':') {
            return Self::Comment;
        }
        let data = block.strip_prefix("data: ").unwrap_or_else(|| panic!("no event: {block:?}"));
        if data == "[DONE]" {
            return Self::Done;
        }
        Self::Data(serde_json::from_str(data).unwrap_or_else(|err| panic!("{err}: {data}")))
    }

    /// The content of all deltas together.
    pub fn content(events: &[Self]) -> String {
        events
            .iter()
            .filter_map(|event| match event {
                Self::Data(chunk) => chunk["choices"][0]["delta"]["content"].as_str(),
                Self::Done | Self::Comment => None,
            })
            .collect()
    }
}

/// A stream that is being read.
pub struct Stream {
    bytes: Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<Bytes>> + Send>>,
    text: String,
}

impl Stream {
    /// Reads until the content so far contains `words`.
    pub async fn until(&mut self, words: &str) {
        while !Sse::content(&Sse::parse(self.whole_blocks())).contains(words) {
            let bytes = self.bytes.next().await;
            let bytes = bytes.unwrap_or_else(|| panic!("no {words:?} in {}", self.text)).unwrap();
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    fn whole_blocks(&self) -> &str {
        self.text.rfind("\n\n").map_or("", |end| &self.text[..end])
    }

    /// Reads to the end; everything that ever came.
    pub async fn rest(mut self) -> Vec<Sse> {
        while let Some(bytes) = self.bytes.next().await {
            self.text.push_str(&String::from_utf8_lossy(&bytes.unwrap()));
        }
        Sse::parse(&self.text)
    }
}
