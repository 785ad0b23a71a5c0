//! Plain HTTP to the routes of Ollama's API, and its lines read strictly.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::Server;

/// An answer of Ollama's API, read to its end.
#[derive(Debug)]
pub struct OllamaReply {
    pub status: StatusCode,
    pub content_type: String,
    pub retry_after: Option<String>,
    pub ignored: Option<String>,
    pub text: String,
}

impl OllamaReply {
    /// Sends a body and reads what comes.
    pub async fn post(server: &Server, path: &str, body: Value) -> Self {
        Self::read(request(server, path, &body).send().await.unwrap()).await
    }

    /// Asks and reads what comes.
    pub async fn get(server: &Server, path: &str) -> Self {
        Self::read(reqwest::get(format!("{}{path}", server.url)).await.unwrap()).await
    }

    /// Reads an answer to its end.
    pub async fn read(response: Response) -> Self {
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let (content_type, retry_after) = (header("content-type"), header("retry-after"));
        let (status, ignored) = (response.status(), header("x-rkllama-ignored"));
        let content_type = content_type.unwrap_or_default();
        let text = response.text().await.unwrap();
        Self { status, content_type, retry_after, ignored, text }
    }

    /// A good answer that is one object.
    pub fn object(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        assert!(self.content_type.starts_with("application/json"), "{}", self.content_type);
        assert!(!self.text.ends_with('\n'), "{:?}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    /// The words of an error.
    pub fn error(&self) -> String {
        assert!(self.status.as_u16() >= 400, "{} {}", self.status, self.text);
        assert!(self.content_type.starts_with("application/json"), "{}", self.content_type);
        let body: Value = serde_json::from_str(&self.text).unwrap();
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
        body["error"].as_str().unwrap().to_owned()
    }

    /// The lines of an answer: each is one object, none is blank, and only the last one has `done`
    /// or `error`.
    pub fn lines(&self) -> Vec<Value> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        assert_eq!(self.content_type, "application/x-ndjson");
        let body = self.text.strip_suffix('\n').expect("a line has no end");
        let lines: Vec<Value> = body
            .split('\n')
            .map(|line| {
                let value: Value = serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("{error}: {line:?} in {:?}", self.text));
                assert!(value.is_object() && line.starts_with('{'), "{line:?}");
                value
            })
            .collect();
        let (last, pieces) = lines.split_last().unwrap();
        for piece in pieces {
            assert!(piece["done"] == false && piece["error"].is_null(), "{piece}");
        }
        assert_ne!(last["done"] == true, last["error"].is_string(), "{last}");
        lines
    }
}

/// A request with a body.
pub fn request(server: &Server, path: &str, body: &Value) -> RequestBuilder {
    let client = Client::builder().timeout(Duration::from_secs(120)).build().unwrap();
    client.post(format!("{}{path}", server.url)).json(body)
}

/// The text of lines of `/api/chat`, put together.
pub fn content_of(lines: &[Value]) -> String {
    lines.iter().filter_map(|line| line["message"]["content"].as_str()).collect()
}
