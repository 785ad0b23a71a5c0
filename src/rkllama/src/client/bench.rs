//! `bench`: how fast a model reads and writes.

use std::{
    collections::BTreeSet,
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Client, block_on};
use crate::cli::{self, BenchArgs};

/// Words for prompts, many more than prompts are measured: each prompt begins with another.
const WORDS: &str = "river stone light garden window paper mountain winter music letter bridge \
    morning silver forest table island summer candle market copper harbour meadow engine mirror \
    thunder village orange pencil castle ladder desert signal feather kitchen planet story ocean \
    basket shadow farmer valley cotton hammer number yellow circle button ticket velvet marble \
    doctor singer tunnel anchor barrel curtain dragon eagle finger giant hunter insect jacket";

/// What is measured in one run.
#[derive(Debug, Deserialize)]
struct Timings {
    prompt_n: f64,
    prompt_ms: f64,
    predicted_n: f64,
    predicted_ms: f64,
}

#[derive(Debug, Deserialize)]
struct Completion {
    timings: Timings,
}

#[derive(Debug, Deserialize)]
struct Tokens {
    tokens: Vec<u32>,
}

/// What came of all runs of one length. Absent where nothing can be said: one token has no pace.
#[derive(Debug, Serialize)]
struct Row {
    prompt_tokens: usize,
    runs: u32,
    prefill_tokens_per_second: Option<Spread>,
    decode_tokens_per_second: Option<Spread>,
    first_token_ms: Option<Spread>,
}

/// Mean and range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Spread {
    mean: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let (min, max) = values.iter().fold(None, |range: Option<(f64, f64)>, value| {
            let (min, max) = range.unwrap_or((*value, *value));
            Some((min.min(*value), max.max(*value)))
        })?;
        // So few runs that no precision is lost.
        #[expect(clippy::cast_precision_loss, reason = "a count of runs")]
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Some(Self { mean, min, max })
    }
}

impl Row {
    fn of(prompt_tokens: usize, runs: u32, measured: &[Timings]) -> Self {
        let all = |value: fn(&Timings) -> Option<f64>| {
            Spread::of(&measured.iter().filter_map(value).collect::<Vec<_>>())
        };
        Self {
            prompt_tokens,
            runs,
            prefill_tokens_per_second: all(|it| pace_of(it.prompt_n, it.prompt_ms)),
            // The first token ends the reading.
            decode_tokens_per_second: all(|it| pace_of(it.predicted_n - 1.0, it.predicted_ms)),
            first_token_ms: all(|it| Some(it.prompt_ms)),
        }
    }
}

/// Tokens in a second, where there is anything to tell.
fn pace_of(tokens: f64, ms: f64) -> Option<f64> {
    (tokens > 0.0 && ms > 0.0).then(|| tokens / ms * 1e3)
}

/// Prompts, no two of which begin alike as long as there are words enough.
struct Prompts {
    tokens: Vec<u32>,
    count: usize,
    random: u64,
}

impl Prompts {
    fn new(tokens: &[u32], seed: u64) -> anyhow::Result<Self> {
        let tokens: BTreeSet<u32> = tokens.iter().copied().collect();
        ensure!(!tokens.is_empty(), "the model's tokenizer makes no tokens of words");
        let (tokens, random) = (Vec::from_iter(tokens), seed | 1);
        // Where the last run of this command began, the next one hardly does.
        let count = usize::try_from(seed >> 32).unwrap_or_default();
        Ok(Self { tokens, count, random })
    }

    fn next(&mut self, len: usize) -> Vec<u32> {
        self.count = self.count.wrapping_add(1);
        let mut at = self.count % self.tokens.len();
        let mut prompt = Vec::with_capacity(len);
        for _ in 0..len {
            prompt.extend(self.tokens.get(at));
            // Xorshift: any order will do.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            at = usize::try_from(self.random % self.tokens.len() as u64).unwrap_or_default();
        }
        prompt
    }
}

/// Measures each length in turn.
pub(crate) fn bench(args: &BenchArgs) -> anyhow::Result<()> {
    block_on(async {
        let client = Client::new(&args.server)?;
        let body = json!({ "model": args.model, "content": WORDS });
        let tokens = client.send(client.post("/tokenize").json(&body)).await?;
        let tokens: Tokens = tokens.json().await.context("the server's tokens cannot be read")?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = since.as_secs() << 32 | u64::from(since.subsec_nanos());
        let mut prompts = Prompts::new(&tokens.tokens, seed)?;
        // Loads the model, which is not measured.
        client.measure(&args.model, &prompts.next(1), 1).await?;
        if !args.json {
            cli::print(&head())?;
        }
        let mut rows = Vec::new();
        for len in &args.prompt {
            let mut measured = Vec::new();
            for _ in 0..args.runs.get() {
                let prompt = prompts.next(len.get());
                measured.push(client.measure(&args.model, &prompt, args.tokens.get()).await?);
            }
            let row = Row::of(len.get(), args.runs.get(), &measured);
            if !args.json {
                cli::print(&line(&row))?;
            }
            rows.push(row);
        }
        if args.json { cli::print(&serde_json::to_string_pretty(&rows)?) } else { Ok(()) }
    })
}

impl Client {
    async fn measure(&self, model: &str, prompt: &[u32], tokens: u32) -> anyhow::Result<Timings> {
        let body = json!({
            "model": model,
            "prompt": prompt,
            "n_predict": tokens,
            "ignore_eos": true,
            "cache_prompt": false,
            "stream": false,
        });
        let answer = self.send(self.post("/completion").json(&body)).await?;
        let answer: Completion = answer.json().await.context("the answer cannot be read")?;
        Ok(answer.timings)
    }
}

fn head() -> String {
    format!(
        "{:>6}  {:28}  {:28}  FIRST TOKEN, ms",
        "PROMPT", "PREFILL, tokens/s", "DECODE, tokens/s"
    )
}

fn line(row: &Row) -> String {
    let cell = |spread: Option<Spread>| match spread {
        Some(Spread { mean, min, max }) => format!("{mean:.1} ({min:.1}..{max:.1})"),
        None => "-".to_owned(),
    };
    let mut line = format!("{:>6}", row.prompt_tokens);
    let speeds = [row.prefill_tokens_per_second, row.decode_tokens_per_second];
    for spread in speeds {
        // Writing to a string does not fail.
        let _ = write!(line, "  {:28}", cell(spread));
    }
    let _ = write!(line, "  {}", cell(row.first_token_ms));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_prompts_in_a_row_begin_alike() {
        let tokens: Vec<u32> = (10..60).collect();
        let mut prompts = Prompts::new(&tokens, 7 << 32).unwrap();
        let all: Vec<Vec<u32>> = (0..50).map(|_| prompts.next(100)).collect();
        let begins: BTreeSet<u32> = all.iter().map(|prompt| prompt[0]).collect();
        assert_eq!(begins.len(), 50);
        assert!(all.iter().flatten().all(|token| tokens.contains(token)));
        assert!(all.iter().all(|prompt| prompt.len() == 100));
        let mut later = Prompts::new(&tokens, 8 << 32).unwrap();
        assert_ne!(later.next(100)[0], all[0][0]);
        assert!(Prompts::new(&[], 1).is_err());
    }

    #[test]
    fn a_row_has_mean_and_range() {
        let run = |prompt_ms, predicted_n| Timings {
            prompt_n: 100.0,
            prompt_ms,
            predicted_n,
            predicted_ms: 100.0,
        };
        let row = Row::of(100, 2, &[run(1000.0, 11.0), run(500.0, 21.0)]);
        let spread = |mean, min, max| Some(Spread { mean, min, max });
        assert_eq!(row.prefill_tokens_per_second, spread(150.0, 100.0, 200.0));
        assert_eq!(row.decode_tokens_per_second, spread(150.0, 100.0, 200.0));
        assert_eq!(row.first_token_ms, spread(750.0, 500.0, 1000.0));
        let one = Row::of(100, 1, &[run(1000.0, 1.0)]);
        assert_eq!(one.decode_tokens_per_second, None);
        assert!(line(&one).contains("  -  "), "{}", line(&one));
    }
}
