//! How likely the tokens of an answer were. The runtime tells nothing of it while it generates, so
//! prompt and answer are read once more when the answer is complete, by a run of its own.

use std::{ops::Range, sync::Arc};

use rkllama_core::{
    EngineError, Logprobs, LogprobsWanted, Model, Request, TokenLogprob, TokenText,
};
use rkllama_text::{Codec, TextError};

use crate::{
    engine::Inner,
    queue::{Reading, Reply},
    reading::{self, Asked, saturated},
    report::Report,
};

/// What was heard of an answer, and which part of it was its text.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    heard: Vec<Heard>,
    /// Bytes of all that was heard.
    len: usize,
    /// The byte from which it is not thought any more.
    said_from: usize,
    said: String,
}

#[derive(Debug)]
struct Heard {
    /// Negative where it is not known, or where there are several.
    token: i32,
    bytes: Vec<u8>,
}

/// What the reader of an answer took a piece for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thinking {
    pub(crate) before: bool,
    pub(crate) behind: bool,
}

impl Transcript {
    /// Takes a piece as its client sees it.
    pub(crate) fn hear(&mut self, token: i32, bytes: Vec<u8>, thinking: Thinking) {
        let begins_at = self.len;
        self.len += bytes.len();
        match thinking {
            // A single token that ends a thought is its mark, a longer piece can go on with the text.
            Thinking { before: true, behind: false } if token < 0 => self.said_from = begins_at,
            Thinking { before: false, behind: false } => {}
            _ => self.said_from = self.len,
        }
        match self.heard.last_mut() {
            Some(last) if token < 0 && last.token < 0 => last.bytes.extend(bytes),
            _ => self.heard.push(Heard { token, bytes }),
        }
    }

    /// Takes what is the answer's text.
    pub(crate) fn say(&mut self, text: &str) {
        self.said.push_str(text);
    }

    /// All of its tokens, and which of them make up the text.
    fn tokens(&self, codec: &Codec) -> Result<(Vec<TokenText>, Range<usize>), TextError> {
        let mut tokens = Vec::with_capacity(self.heard.len());
        for heard in &self.heard {
            if heard.token >= 0 {
                tokens.push(TokenText { id: heard.token, bytes: heard.bytes.clone() });
                continue;
            }
            let text = String::from_utf8_lossy(&heard.bytes);
            let ids = codec.answer_ids(&text)?;
            tokens.extend(ids.into_iter().map(|id| text_of(codec, id)));
        }
        let range = self.range(&tokens);
        Ok((tokens, range))
    }

    fn range(&self, tokens: &[TokenText]) -> Range<usize> {
        if self.said.is_empty() {
            return 0..0;
        }
        let all: Vec<u8> = tokens.iter().flat_map(|it| &it.bytes).copied().collect();
        let from = self.said_from.min(all.len());
        let (begin, end) = match find(&all[from..], self.said.as_bytes()) {
            Some(at) => (from + at, from + at + self.said.len()),
            // Text between calls, or a character that broke off: all that was not thought.
            None => (from, all.len()),
        };
        let mut at = 0;
        let mut range = tokens.len()..tokens.len();
        for (place, token) in tokens.iter().enumerate() {
            let next = at + token.bytes.len();
            if next > begin && range.start == tokens.len() {
                range.start = place;
            }
            at = next;
            if at >= end {
                range.end = place + 1;
                break;
            }
        }
        range
    }
}

fn find(all: &[u8], wanted: &[u8]) -> Option<usize> {
    all.windows(wanted.len()).position(|window| window == wanted)
}

fn text_of(codec: &Codec, id: i32) -> TokenText {
    TokenText { id, bytes: codec.token_bytes(id).unwrap_or_default() }
}

/// Of which answer to which prompt.
pub(crate) struct Scored<'a> {
    pub(crate) request: &'a Request,
    pub(crate) wanted: LogprobsWanted,
    pub(crate) codec: &'a Codec,
    pub(crate) prompt: &'a [i32],
    pub(crate) transcript: &'a Transcript,
}

/// Reads once more; `None` where that is too long to be read so.
pub(crate) async fn tell(
    engine: &Inner,
    scored: Scored<'_>,
) -> Result<Option<Logprobs>, EngineError> {
    let Scored { request, wanted, codec, prompt, transcript } = scored;
    let model = &request.model;
    let (answer, said) = transcript.tokens(codec).map_err(|error| error.of_model(&model.id))?;
    let mut tokens: Vec<TokenText> = prompt.iter().map(|id| text_of(codec, *id)).collect();
    let said = tokens.len() + said.start..tokens.len() + said.end;
    let end = said.end.max(tokens.len());
    tokens.extend(answer);
    tokens.truncate(end);
    let first = if wanted.of_prompt { 1 } else { said.start };
    let last = tokens.len().saturating_sub(first);
    if !wanted.of_prompt && said.is_empty() {
        return Ok(Some(Logprobs::default()));
    }
    if saturated(tokens.len()) > engine.config().logprobs_tokens_max {
        return Ok(None);
    }
    let mut scores = if last == 0 {
        Vec::new()
    } else {
        let goes_on = request.tokens_max != Some(0);
        let reading = Reading::Logprobs { last: saturated(last), top: wanted.top, goes_on };
        let ids = tokens.iter().map(|it| it.id).collect();
        read(engine, request, reading, ids).await?
    };
    // What comes before the first one that is told of.
    let mut told: Vec<Option<rkllama_protocol::TokenScore>> = vec![None; tokens.len() - last];
    told.extend(scores.drain(..).map(Some));
    if told.len() != tokens.len() {
        let reason = "the worker weighed another number of tokens".to_owned();
        return Err(EngineError::Run { reason });
    }
    let mut all = tokens.into_iter().zip(told).map(|(token, score)| {
        let (logprob, top) = score.map_or((None, Vec::new()), |it| (Some(it.logprob), it.top));
        let top = top.into_iter().map(|(id, logprob)| (text_of(codec, id), logprob)).collect();
        TokenLogprob { token, logprob, top }
    });
    let prompt_len = prompt.len();
    let of_prompt: Vec<_> = all.by_ref().take(prompt_len).collect();
    let answer = all.skip(said.start - prompt_len).take(said.len()).collect();
    Ok(Some(Logprobs { prompt: if wanted.of_prompt { of_prompt } else { Vec::new() }, answer }))
}

async fn read(
    engine: &Inner,
    request: &Request,
    reading: Reading,
    tokens: Vec<i32>,
) -> Result<Vec<rkllama_protocol::TokenScore>, EngineError> {
    let model: &Arc<Model> = &request.model;
    let mut report = Report::new(engine.observer(), Arc::clone(model));
    let asked = Asked {
        model,
        reading,
        pictured: None,
        keep_alive: request.keep_alive,
        client: &request.client,
    };
    let found = reading::run(engine, asked, tokens, &mut report).await;
    match report.watch(found)? {
        Reply::Scores { tokens, .. } => Ok(tokens),
        other => Err(reading::unexpected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAYING: Thinking = Thinking { before: false, behind: false };

    fn told(pieces: &[(i32, &str, Thinking)], said: &str) -> String {
        let mut transcript = Transcript::default();
        for (token, text, thinking) in pieces {
            transcript.hear(*token, text.as_bytes().to_vec(), *thinking);
        }
        transcript.say(said);
        let tokens: Vec<_> = transcript
            .heard
            .iter()
            .map(|it| TokenText { id: it.token, bytes: it.bytes.clone() })
            .collect();
        let range = transcript.range(&tokens);
        tokens[range].iter().map(TokenText::text).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn the_tokens_of_the_text_are_found() {
        let said = SAYING;
        assert_eq!(told(&[(1, "Hel", said), (2, "lo", said)], "Hello"), "Hel|lo");
        // What a stop text cut off, and the token in which it began.
        assert_eq!(told(&[(1, "go", said), (2, " E", said), (3, "ND", said)], "go "), "go| E");
        assert_eq!(told(&[(1, "a", said)], ""), "");
    }

    #[test]
    fn thoughts_and_their_marks_are_not_text() {
        let begins = Thinking { before: false, behind: true };
        let thinks = Thinking { before: true, behind: true };
        let ends = Thinking { before: true, behind: false };
        let pieces = [
            (1, "<think>", begins),
            (2, "th", thinks),
            (3, "</think>", ends),
            (4, "\n\n", SAYING),
            (5, "th", SAYING),
            (6, "e", SAYING),
        ];
        assert_eq!(told(&pieces, "the"), "th|e");
        let pieces = [(1, "<think>", begins), (-1, "no</think>yes", ends)];
        assert_eq!(told(&pieces, "yes"), "no</think>yes");
    }

    #[test]
    fn what_cannot_be_found_is_all_that_was_not_thought() {
        let pieces = [(1, "a", SAYING), (2, "<call>", SAYING), (3, "b", SAYING)];
        assert_eq!(told(&pieces, "ab"), "a|<call>|b");
    }
}
