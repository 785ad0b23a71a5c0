//! A streamed answer: read first and understood afterwards, so that its reader costs little beside the
//! server that is measured.

use std::time::{Duration, Instant};

use reqwest::Response;
use serde_json::Value;

use crate::api::{Checked, check, failed, piece};

/// What came over the wire, and when: after how many bytes at which time since the question.
struct Heard {
    bytes: Vec<u8>,
    arrivals: Vec<(usize, Duration)>,
}

/// The answer in it.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) tokens: u64,
    /// Tokens of the prompt, where the server counts them.
    pub(super) prompt_tokens: Option<u64>,
    /// From the question to the first text and to the last.
    pub(super) first: Duration,
    pub(super) last: Duration,
}

impl Answer {
    /// Tokens a second from the first to the last.
    pub(super) fn tokens_per_s(&self) -> Option<f64> {
        let took_s = (self.last - self.first).as_secs_f64();
        (self.tokens > 1 && took_s > 0.0).then(|| (self.tokens - 1) as f64 / took_s)
    }
}

/// Reads to the end.
pub(super) async fn listen((mut response, began): (Response, Instant)) -> Checked<Answer> {
    let mut heard = Heard { bytes: Vec::new(), arrivals: Vec::new() };
    while let Some(chunk) = response.chunk().await? {
        heard.bytes.extend_from_slice(&chunk);
        heard.arrivals.push((heard.bytes.len(), began.elapsed()));
    }
    heard.answer()
}

impl Heard {
    /// When the byte before this place had come.
    fn arrival(&self, end: usize) -> Duration {
        let at = self.arrivals.partition_point(|(len, _)| *len < end);
        self.arrivals.get(at).map(|it| it.1).unwrap_or_default()
    }

    fn answer(&self) -> Checked<Answer> {
        let mut answer = Answer::default();
        let (mut end, mut pieces) = (0, 0);
        for line in self.bytes.split_inclusive(|it| *it == b'\n') {
            end += line.len();
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            let Ok(chunk) = serde_json::from_slice::<Value>(data) else { continue };
            check(chunk["error"].is_null(), || format!("an error in the stream: {chunk}"))?;
            let text = piece(&chunk);
            if !text.is_empty() {
                answer.last = self.arrival(end);
                if pieces == 0 {
                    answer.first = answer.last;
                }
                pieces += 1;
                answer.text += &text;
            }
            if let Some(tokens) = chunk["usage"]["completion_tokens"].as_u64() {
                answer.tokens = tokens;
                answer.prompt_tokens = chunk["usage"]["prompt_tokens"].as_u64();
            }
        }
        if pieces == 0 {
            return failed("the answer has no text");
        }
        if answer.prompt_tokens.is_none() {
            answer.tokens = pieces;
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(parts: &[(&str, u64)]) -> Heard {
        let mut heard = Heard { bytes: Vec::new(), arrivals: Vec::new() };
        for (text, ms) in parts {
            heard.bytes.extend_from_slice(text.as_bytes());
            heard.arrivals.push((heard.bytes.len(), Duration::from_millis(*ms)));
        }
        heard
    }

    const BEGINS: &str =
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";

    #[test]
    fn an_answer_is_timed_by_its_text_alone() {
        let heard = heard(&[
            (BEGINS, 1),
            (": wait\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"one", 10),
            (" \"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"two\"}}]}\n\n", 20),
            (
                "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 7, \"completion_tokens\": 3}}\n\n",
                30,
            ),
            ("data: [DONE]\n\n", 40),
        ]);
        let answer = heard.answer().unwrap_or_default();
        assert_eq!((answer.text.as_str(), answer.tokens), ("one two", 3));
        assert_eq!((answer.first.as_millis(), answer.last.as_millis()), (20, 20));
        assert_eq!((answer.prompt_tokens, answer.tokens_per_s()), (Some(7), None));
    }

    #[test]
    fn a_server_that_does_not_count_has_its_pieces_counted() {
        let piece = "data:{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\r\n\r\n";
        let answer = heard(&[(piece, 100), (piece, 600)]).answer().unwrap_or_default();
        assert_eq!((answer.tokens, answer.tokens_per_s()), (2, Some(2.0)));
        assert!(heard(&[(BEGINS, 1), ("data: [DONE]\n\n", 2)]).answer().is_err());
        let error = heard(&[("data: {\"error\": {\"message\": \"no\"}}\n\n", 1)]).answer();
        assert!(error.is_err_and(|it| format!("{it:?}").contains("no")));
    }
}
