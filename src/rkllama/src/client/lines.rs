//! An answer that comes in lines of JSON, as Ollama's routes about the store give it.

use anyhow::{Context, bail};
use reqwest::Response;
use serde::Deserialize;

/// Longest line, in bytes: they are a few hundred long, and errors quote no more than names.
const LINE_LEN_MAX: usize = 1 << 20;

/// A line.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Line {
    #[serde(default)]
    pub(super) status: String,
    /// The file that is on its way.
    pub(super) file: Option<String>,
    /// The file, where a server gives no name.
    pub(super) digest: Option<String>,
    /// Its size, in bytes.
    pub(super) total: Option<u64>,
    /// Bytes of it that are there; absent while there are none.
    #[serde(default)]
    pub(super) completed: u64,
    pub(super) error: Option<String>,
}

/// The lines of an answer, as they come.
pub(super) struct Lines {
    response: Response,
    /// What has come and has not been read.
    buffer: Vec<u8>,
}

impl Lines {
    pub(super) const fn of(response: Response) -> Self {
        Self { response, buffer: Vec::new() }
    }

    /// The next one, with its text; `None` at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<(Line, String)>> {
        loop {
            let text = match self.buffer.iter().position(|byte| *byte == b'\n') {
                Some(len) => self.buffer.drain(..=len).collect(),
                None => match self.response.chunk().await.context("the answer broke off")? {
                    Some(bytes) => {
                        self.buffer.extend_from_slice(&bytes);
                        if self.buffer.len() > LINE_LEN_MAX {
                            bail!("the server sends a line that is too long");
                        }
                        continue;
                    }
                    None if self.buffer.is_empty() => return Ok(None),
                    None => std::mem::take(&mut self.buffer),
                },
            };
            let text = String::from_utf8_lossy(&text).trim().to_owned();
            if text.is_empty() {
                continue;
            }
            let line = serde_json::from_str(&text);
            return Ok(Some((line.with_context(|| format!("the server said {text:?}"))?, text)));
        }
    }
}
