//! What is measured, and what came of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::Spread;

/// A figure, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "`caption` says what each is")]
pub enum Kind {
    TokensPerS,
    CpuUsPerToken,
    FirstTokenMs,
    LongFirstTokenMs,
    SecondTurnMs,
    OneClientPerS,
    FourClientsPerS,
    LoadMs,
    StartMs,
    IdleRssMb,
    ServerRssMb,
    WorkerRssMb,
    WorkerPssMb,
    RoundTripMs,
}

/// How a side stands beside the bare loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    /// As a share: more is better.
    Share,
    /// By what is added.
    Difference,
}

impl Kind {
    /// What it is, with its unit.
    pub fn caption(self) -> &'static str {
        match self {
            Self::TokensPerS => "streamed answer, tokens/s",
            Self::CpuUsPerToken => "CPU per token, server and worker together, µs",
            Self::FirstTokenMs => "time to first token, short prompt, ms",
            Self::LongFirstTokenMs => "time to first token, long prompt, ms",
            Self::SecondTurnMs => "time to first token, second turn, ms",
            Self::OneClientPerS => "short answers, one client, requests/s",
            Self::FourClientsPerS => "short answers, four clients, requests/s",
            Self::LoadMs => "loading the model, ms",
            Self::StartMs => "start of the server, ms",
            Self::IdleRssMb => "server's memory before its first model, resident, MB",
            Self::ServerRssMb => "server's memory after answers, with a tokenizer, resident, MB",
            Self::WorkerRssMb => "worker's memory, resident, MB",
            Self::WorkerPssMb => "worker's memory, shared pages by shares, MB",
            Self::RoundTripMs => "round trip to the server, a part of its times, ms",
        }
    }

    pub(super) fn compared(self) -> Compared {
        match self {
            Self::TokensPerS | Self::OneClientPerS | Self::FourClientsPerS => Compared::Share,
            Self::CpuUsPerToken
            | Self::FirstTokenMs
            | Self::LongFirstTokenMs
            | Self::SecondTurnMs
            | Self::LoadMs
            | Self::StartMs
            | Self::IdleRssMb
            | Self::ServerRssMb
            | Self::WorkerRssMb
            | Self::WorkerPssMb
            | Self::RoundTripMs => Compared::Difference,
        }
    }
}

/// Values as they are measured.
#[derive(Debug, Default)]
pub(super) struct Notes(BTreeMap<Kind, Vec<f64>>);

impl Notes {
    pub(super) fn add(&mut self, kind: Kind, value: impl Into<Option<f64>>) {
        self.0.entry(kind).or_default().extend(value.into());
    }

    fn spreads(&self) -> BTreeMap<Kind, Spread> {
        self.0.iter().filter_map(|(kind, values)| Some((*kind, Spread::of(values)?))).collect()
    }
}

/// One of those that were asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// What it is called.
    pub name: String,
    /// What was measured. What cannot be known of it is absent.
    pub figures: BTreeMap<Kind, Spread>,
}

impl Side {
    pub(super) fn new(name: &str, notes: &Notes) -> Self {
        Self { name: name.to_owned(), figures: notes.spreads() }
    }
}

/// Measurements that can be set beside each other: the same questions in the same minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// What the target was set to.
    pub name: String,
    /// The bare loop where there is one, our server, its peers.
    pub sides: Vec<Side>,
    /// What was asked, and what else there is to know.
    pub notes: Vec<String>,
}

/// Everything of one run of the command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// The target, as it was named.
    pub target: String,
    /// The server's version.
    pub version: String,
    /// The machine that it ran on, and the day: a line each.
    pub machine: Vec<String>,
    /// Rounds.
    pub runs: u32,
    /// What was measured.
    pub parts: Vec<Part>,
}

/// What the bare loop is called.
pub(super) const BARE: &str = "bare C loop";
