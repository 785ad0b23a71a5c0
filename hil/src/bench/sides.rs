//! The sides and one round with each: the same questions, in the same order.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::{
    bare::{BareLoop, Ran, Running},
    figures::{Kind, Notes},
    heard::{Answer, listen},
    processes::processes,
    questions::{Effort, Questions, SHORT_TOKENS, TURN_TOKENS, second_turn},
};
use crate::{
    api::{Api, Checked, check},
    machine::Machine,
};

/// What the model said, to be compared between the loop and the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) tokens: u64,
    /// The token ids, where they are told.
    pub(super) ids: Vec<i32>,
    /// Tokens of the prompt, where they are told.
    pub(super) prompt_tokens: Option<u64>,
}

impl From<Answer> for Said {
    fn from(answer: Answer) -> Self {
        let Answer { text, tokens, prompt_tokens, .. } = answer;
        Self { text, tokens, ids: Vec::new(), prompt_tokens }
    }
}

/// A server.
pub(super) struct Served {
    pub(super) api: Api,
    pub(super) model: String,
    /// The machine at whose shell we are, whose server is ours to load and unload.
    pub(super) machine: Option<Machine>,
}

const CHAT: &str = "/v1/chat/completions";
/// How long a worker may take to leave, in tenths of a second.
const LEAVING_LOOKS_MAX: u32 = 300;
const ROUND_TRIPS: u32 = 5;

impl Served {
    /// A round with it.
    pub(super) async fn round(
        &self,
        questions: &Questions,
        effort: Effort,
        notes: &mut Notes,
    ) -> anyhow::Result<Vec<Said>> {
        self.load(questions, notes).await?;
        let mut said = self.streams(questions, effort, notes).await?;
        for number in 0..effort.firsts {
            let answer = self.stream(&questions.first(number), SHORT_TOKENS).await?;
            notes.add(Kind::FirstTokenMs, ms(answer.first));
            said.push(answer.into());
        }
        for number in 0..effort.conversations {
            let first = questions.long(number);
            let answer = self.stream(&first, TURN_TOKENS).await?;
            notes.add(Kind::LongFirstTokenMs, ms(answer.first));
            let second = second_turn(&first, &answer.text);
            said.push(answer.into());
            let answer = self.stream(&second, TURN_TOKENS).await?;
            notes.add(Kind::SecondTurnMs, ms(answer.first));
            said.push(answer.into());
        }
        for (clients, kind) in [(1, Kind::OneClientPerS), (4, Kind::FourClientsPerS)] {
            notes.add(kind, self.requests_per_s(questions, effort, clients).await?);
        }
        for _ in 0..ROUND_TRIPS {
            let began = Instant::now();
            self.api.get("/health").await?;
            notes.add(Kind::RoundTripMs, ms(began.elapsed()));
        }
        self.unload().await?;
        Ok(said)
    }

    /// Streamed answers, and what they cost where that can be seen.
    async fn streams(
        &self,
        questions: &Questions,
        effort: Effort,
        notes: &mut Notes,
    ) -> anyhow::Result<Vec<Said>> {
        let (mut said, mut tokens) = (Vec::new(), 0);
        let cpu_before_s = self.cpu_s().await?;
        for number in 0..effort.streams {
            let answer = self.stream(&questions.stream(number), effort.stream_tokens).await?;
            notes.add(Kind::TokensPerS, answer.tokens_per_s());
            tokens += answer.tokens;
            said.push(answer.into());
        }
        if let (Some(machine), Some(before_s)) = (&self.machine, cpu_before_s) {
            let processes = processes(machine).await?;
            let cpu_s: f64 = processes.iter().map(|it| it.cpu_s).sum();
            notes.add(Kind::CpuUsPerToken, (cpu_s - before_s) * 1e6 / tokens as f64);
            let (server, workers) = processes.split_first().context("no server")?;
            notes.add(Kind::ServerRssMb, server.rss_mb);
            notes.add(Kind::WorkerRssMb, workers.iter().map(|it| it.rss_mb).sum::<f64>());
            notes.add(Kind::WorkerPssMb, workers.iter().map(|it| it.pss_mb).sum::<f64>());
        }
        Ok(said)
    }

    async fn cpu_s(&self) -> anyhow::Result<Option<f64>> {
        let Some(machine) = &self.machine else { return Ok(None) };
        Ok(Some(processes(machine).await?.iter().map(|it| it.cpu_s).sum()))
    }

    fn body(&self, messages: &Value, tokens_max: u32) -> Value {
        json!({
            "model": self.model, "messages": messages, "temperature": 0, "max_tokens": tokens_max,
        })
    }

    async fn stream(&self, messages: &Value, tokens_max: u32) -> Checked<Answer> {
        let mut body = self.body(messages, tokens_max);
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        listen(self.api.stream(CHAT, &body).await?).await
    }

    async fn requests_per_s(
        &self,
        questions: &Questions,
        effort: Effort,
        clients: u32,
    ) -> Checked<f64> {
        let client = |client: u32| async move {
            for number in (client..effort.requests).step_by(clients as usize) {
                let messages = questions.short(number + clients * effort.requests);
                let body = self.body(&messages, SHORT_TOKENS);
                let answer = self.api.post(CHAT, &body).await?.good()?;
                check(answer["choices"][0]["finish_reason"].is_string(), || {
                    format!("no answer: {answer}")
                })?;
            }
            Checked::Ok(())
        };
        let began = Instant::now();
        try_join_all((0..clients).map(client)).await?;
        Ok(f64::from(effort.requests) / began.elapsed().as_secs_f64())
    }

    /// Has the model loaded. Only a server of ours was without it before.
    pub(super) async fn load(&self, questions: &Questions, notes: &mut Notes) -> Checked {
        let began = Instant::now();
        if self.machine.is_none() {
            self.stream(&questions.first(u32::MAX), 1).await?;
            return Ok(());
        }
        self.api.post("/api/generate", &json!({"model": self.model})).await?.good()?;
        notes.add(Kind::LoadMs, ms(began.elapsed()));
        Ok(())
    }

    /// Has a model of ours leave the NPU, for which the next may want all of it.
    pub(super) async fn unload(&self) -> anyhow::Result<()> {
        let Some(machine) = &self.machine else { return Ok(()) };
        let body = json!({"model": self.model, "keep_alive": 0});
        self.api.post("/api/generate", &body).await?.good()?;
        for _ in 0..LEAVING_LOOKS_MAX {
            if processes(machine).await?.len() == 1 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("the worker does not leave")
    }

    /// The prompt of a conversation as token ids.
    pub(super) async fn tokenize(&self, messages: &Value) -> Checked<Vec<i32>> {
        let body = json!({"model": self.model, "messages": messages});
        self.ids("/tokenize", &body).await
    }

    /// Tokens of a text.
    pub(super) async fn count(&self, text: &str) -> Checked<usize> {
        let body = json!({"model": self.model, "content": text});
        Ok(self.ids("/tokenize", &body).await?.len())
    }

    async fn ids(&self, path: &str, body: &Value) -> Checked<Vec<i32>> {
        let mut answer = self.api.post(path, body).await?.good()?;
        let ids = serde_json::from_value(answer["tokens"].take()).unwrap_or_default();
        check(!Vec::is_empty(&ids), || format!("{path} gives no tokens: {answer}"))?;
        Ok(ids)
    }

    /// The text of token ids.
    pub(super) async fn detokenize(&self, ids: &[i32]) -> Checked<String> {
        let body = json!({"model": self.model, "tokens": ids});
        let answer = self.api.post("/detokenize", &body).await?.good()?;
        Ok(answer["content"].as_str().unwrap_or_default().to_owned())
    }
}

impl BareLoop {
    /// A round with it. Prompts become tokens as the server makes them, before they are timed.
    pub(super) async fn round(
        &self,
        questions: &Questions,
        effort: Effort,
        server: &Served,
        notes: &mut Notes,
    ) -> anyhow::Result<Vec<Said>> {
        let mut running = self.start().await?;
        notes.add(Kind::LoadMs, running.load_ms);
        match Self::asked(&mut running, questions, effort, server, notes).await {
            Ok(said) => running.end().await.map(|()| said),
            Err(why) => Err(self.complaint(why).await),
        }
    }

    async fn asked(
        running: &mut Running,
        questions: &Questions,
        effort: Effort,
        server: &Served,
        notes: &mut Notes,
    ) -> anyhow::Result<Vec<Said>> {
        let mut said = Vec::new();
        let (mut cpu_us, mut tokens) = (0.0, 0);
        for number in 0..effort.streams {
            let prompt = server.tokenize(&questions.stream(number)).await?;
            let ran = running.run(&prompt, effort.stream_tokens).await?;
            notes.add(Kind::TokensPerS, ran.tokens_per_s());
            cpu_us += ran.cpu_us;
            tokens += ran.tokens;
            if number + 1 == effort.streams {
                notes.add(Kind::CpuUsPerToken, cpu_us / tokens as f64);
                notes.add(Kind::WorkerRssMb, ran.rss_kib * 1024.0 / 1e6);
                notes.add(Kind::WorkerPssMb, ran.pss_kib * 1024.0 / 1e6);
            }
            said.push(ran.said(&prompt));
        }
        for number in 0..effort.firsts {
            let prompt = server.tokenize(&questions.first(number)).await?;
            let ran = running.run(&prompt, SHORT_TOKENS).await?;
            notes.add(Kind::FirstTokenMs, ran.first_ms);
            said.push(ran.said(&prompt));
        }
        for number in 0..effort.conversations {
            let first = questions.long(number);
            let prompt = server.tokenize(&first).await?;
            let ran = running.run(&prompt, TURN_TOKENS).await?;
            notes.add(Kind::LongFirstTokenMs, ran.first_ms);
            let second = second_turn(&first, &ran.text);
            said.push(ran.said(&prompt));
            let prompt = server.tokenize(&second).await?;
            let ran = running.run(&prompt, TURN_TOKENS).await?;
            notes.add(Kind::SecondTurnMs, ran.first_ms);
            said.push(ran.said(&prompt));
        }
        let mut took_ms = 0.0;
        for number in 0..effort.requests {
            let prompt = server.tokenize(&questions.short(number + effort.requests)).await?;
            took_ms += running.run(&prompt, SHORT_TOKENS).await?.took_ms;
        }
        notes.add(Kind::OneClientPerS, f64::from(effort.requests) * 1e3 / took_ms);
        Ok(said)
    }
}

impl Ran {
    fn tokens_per_s(&self) -> Option<f64> {
        let took_ms = self.last_ms - self.first_ms;
        (self.tokens > 1 && took_ms > 0.0).then(|| (self.tokens - 1) as f64 * 1e3 / took_ms)
    }

    fn said(self, prompt: &[i32]) -> Said {
        let prompt_tokens = Some(prompt.len() as u64);
        Said { text: self.text, tokens: self.tokens, ids: self.ids, prompt_tokens }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
