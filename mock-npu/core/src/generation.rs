//! An answer in the making: what to say next, and what is left to say.

use std::collections::VecDeque;

use crate::circumstances::Circumstances;
use crate::conversation::Conversation;
use crate::faults::Faults;
use crate::input::{EMBEDDED, embed};
use crate::language_model::Reader;
use crate::latency::Latency;
use crate::lora::Adapter;
use crate::request::Request;
use crate::rng::{self, Stream};
use crate::run::Run;
use crate::sampler::Sampler;
use crate::script::Rule;
use crate::text_pieces::TextPieces;
use crate::vocabulary::Vocabulary;

/// What comes when the planned tokens are out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    End,
    Model,
    /// The planned tokens again, for ever.
    Again,
}

/// An answer in the making; outlives a run when the callback pauses it.
pub(crate) struct Generation {
    pub(crate) reader: Reader,
    pub(crate) sampler: Sampler,
    pub(crate) chance: Stream,
    plan: Vec<u32>,
    pub(crate) planned: VecDeque<u32>,
    pub(crate) then: Then,
    pub(crate) no_eos: bool,
    pub(crate) produced: u32,
    pub(crate) max_new_tokens: Option<u32>,
    pub(crate) pieces: TextPieces,
    /// The last token: sampled, not yet in the cache.
    pub(crate) pending: Option<u32>,
    pub(crate) latency: Latency,
    pub(crate) faults: Faults,
}

impl Generation {
    /// Plans what a rule says.
    pub(crate) fn obey(&mut self, rule: &Rule, begun: &str, vocabulary: &Vocabulary) {
        let text = rule.text(begun);
        let split = rule.split_utf8 || self.faults.utf8_split.is_some();
        let mut plan =
            if split { vocabulary.encode_split(&text) } else { vocabulary.encode(&text) };
        plan.extend(&rule.tokens);
        self.planned = plan.iter().copied().collect();
        self.plan = plan;
        self.then = match (rule.speaks(), rule.then_model, rule.no_eos) {
            (false, _, _) | (_, true, _) => Then::Model,
            (true, false, true) => Then::Again,
            (true, false, false) => Then::End,
        };
        self.no_eos = rule.no_eos;
        self.latency.decode_ms_per_token =
            rule.delay_ms_per_token.or(self.latency.decode_ms_per_token);
        self.faults.error_at_token = rule.fail_at_token.or(self.faults.error_at_token);
        self.faults.crash_at_token = rule.crash_at_token.or(self.faults.crash_at_token);
        self.faults.hang_at_token = rule.hang_at_token.or(self.faults.hang_at_token);
    }

    pub(crate) fn take_planned(&mut self) -> Option<u32> {
        if self.planned.is_empty() && self.then == Then::Again {
            self.planned = self.plan.iter().copied().collect();
        }
        self.planned.pop_front()
    }
}

/// What the model sees: a word for each image, the same for the same one.
fn images_in(cells: &[u32]) -> Vec<String> {
    let images = cells.chunk_by(|one, next| (one & EMBEDDED == 0) == (next & EMBEDDED == 0));
    let images = images.filter(|run| run.first().is_some_and(|cell| cell & EMBEDDED != 0));
    let hash = |run: &[u32]| run.iter().fold(0, |hash, cell| rng::mix(hash, u64::from(*cell)));
    images.map(|run| format!("{:04x}", hash(run) & 0xffff)).collect()
}

impl Run<'_> {
    pub(crate) fn generation(&self, request: &Request, circumstances: Circumstances) -> Generation {
        let Circumstances { mut script, faults, latency } = circumstances;
        let model = &self.handle.model;
        let context = &self.session.readable();
        let sampling = request.sampling.unwrap_or(self.handle.param.sampling);
        let named = |adapter: &&Adapter| Some(&adapter.name) == request.lora.as_ref();
        let adapter = self.session.adapters.iter().find(named);
        if let Some(adapter) = adapter {
            script.rules.splice(0..0, adapter.script.rules.iter().cloned());
        }
        let seed = context
            .iter()
            .map(|token| u64::from(*token))
            .chain(sampling.words())
            .fold(model.language.seed() ^ adapter.map_or(0, |adapter| adapter.seed), rng::mix);
        let wanted = request.max_new_tokens.filter(|n| *n > 0);
        let max_new_tokens = wanted.unwrap_or(self.handle.param.max_new_tokens);
        let mut generation = Generation {
            reader: model.language.read(context),
            sampler: Sampler::new(sampling),
            chance: Stream::new(seed),
            plan: Vec::new(),
            planned: VecDeque::new(),
            then: Then::Model,
            no_eos: false,
            produced: 0,
            max_new_tokens: u32::try_from(max_new_tokens).ok(),
            pieces: TextPieces::default(),
            pending: None,
            latency,
            faults,
        };
        let bytes = model.vocabulary.decode(context);
        let prompt = String::from_utf8_lossy(&bytes);
        let conversation = Conversation::read(&prompt);
        if let Some(rule) = script.rules.iter().find(|rule| rule.fits(&conversation, &prompt)) {
            let begun = prompt.get(conversation.answer_at..).unwrap_or("");
            let rule = rule.seeing(&images_in(context));
            generation.obey(&rule, begun, &model.vocabulary);
        }
        generation
    }

    /// Puts the last token into the cache.
    pub(crate) fn feed_pending(&mut self, generation: &mut Generation) -> Result<(), String> {
        if let Some(token) = generation.pending.take() {
            let cells = embed(self.handle, self.session, vec![token])?;
            self.session.kv.extend(cells);
        }
        Ok(())
    }

    /// Whether an answer may not grow.
    pub(crate) fn is_full(&self, generation: &Generation) -> bool {
        let full = self.session.kv.len() + 1 > self.handle.param.max_context_len as usize;
        full || generation.max_new_tokens.is_some_and(|max| generation.produced >= max)
    }

    /// The next token of a batch's input and its text; `None` at its end.
    pub(crate) fn next_of(
        &mut self,
        generation: &mut Generation,
    ) -> Option<(u32, Option<Vec<u8>>)> {
        self.feed_pending(generation).ok()?;
        let token = self.next_token(generation);
        if self.handle.eos_ids.contains(&token) && !self.handle.param.ignore_eos_token {
            return None;
        }
        let text = self.text_of(generation, token);
        generation.pending = Some(token);
        generation.produced += 1;
        generation.reader.push(token);
        Some((token, text))
    }

    /// The text of a token; `None` inside a character.
    pub(crate) fn text_of(&self, generation: &mut Generation, token: u32) -> Option<Vec<u8>> {
        let vocabulary = &self.handle.model.vocabulary;
        let hidden = self.handle.param.skip_special_token && vocabulary.is_special(token);
        let silent = hidden || self.handle.model.file.external_tokenizer;
        let bytes = if silent { &[] } else { vocabulary.piece(token) };
        let text = generation.pieces.push(bytes);
        if generation.faults.empty_text { text.map(|_| Vec::new()) } else { text }
    }

    pub(crate) fn next_token(&self, generation: &mut Generation) -> u32 {
        let vocab_len = self.handle.model.language.vocab_len() as u64;
        let chance = generation.chance.next_unit();
        if generation.faults.garbage_text {
            let marks = self.handle.model.vocabulary.encode("&!");
            return marks.get(usize::from(chance > 0.5)).copied().unwrap_or(0);
        }
        if generation.faults.pad_text {
            return (vocab_len - 1 - (chance * 8.0) as u64) as u32;
        }
        if let Some(token) = generation.take_planned() {
            return token;
        }
        if generation.then == Then::End {
            return self.handle.model.file.eos_ids[0];
        }
        let mut logits = generation.reader.logits();
        let banned = self.handle.param.ignore_eos_token && generation.faults.ignore_eos_bans;
        if banned || generation.no_eos {
            logits.ban(&self.handle.model.file.eos_ids);
        }
        generation.sampler.pick(&logits, generation.reader.tokens(), chance)
    }
}
