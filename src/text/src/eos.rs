//! Which token ids end an answer.
//!
//! Runtimes miss some (release 1.3.0 knows one id per model at most), and no single file is
//! right for every family: `generation_config.json` is often absent from converted models,
//! `tokenizer_config.json` of Llama and Phi names the end of the *text*, not of the turn. So the
//! set is the union of these sources:
//!
//! 1. `generation_config.json`: `eos_token_id`, one or several: the maker's own list.
//! 2. `tokenizer_config.json`: `eos_token`.
//! 3. The control token that the chat template itself writes right behind an assistant's last
//!    words. This is the family's end of turn by construction, for families nobody has heard of.
//! 4. Where it writes none there (GLM-4): the one behind them when the user speaks next. Such
//!    models end their turn by beginning the other's.
//! 5. Names that in every family mean the end of a turn or text, where the vocabulary has them as
//!    control tokens (Gemma has `</s>` too, but as HTML). `<|end|>` is one of them except where
//!    `<|return|>` exists: there (harmony format) it only ends one message of an answer that
//!    goes on. `<|observation|>` and `<start_function_response>` begin the turn of a called tool,
//!    where a family has one.
//!
//! A model of which nothing of this is known still runs: its answers end at their token limit, and
//! the operator is told.

use rkllama_core::{Message, Role};
use tokenizers::Tokenizer;

use crate::{config::TextConfig, guard::is_control};

const WELL_KNOWN: &[&str] = &[
    "</s>",
    "<eos>",
    "<start_function_response>",
    "<end_of_turn>",
    "<|END_OF_TURN_TOKEN|>",
    "<|call|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
    "<|endoftext|>",
    "<|endofturn|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|im_end|>",
    "<|observation|>",
    "<|return|>",
    "<｜end▁of▁sentence｜>",
];

/// Words no template contains, to find the assistant's part in a rendering.
const PROBE: &str = "rkllama-last-words-of-a-turn";

/// The union of all sources, sorted, each id once. `render` is the model's template, which may
/// refuse.
pub(crate) fn eos_ids(
    tokenizer: &Tokenizer,
    config: &TextConfig,
    render: impl Fn(&[Message]) -> Option<String>,
) -> Vec<i32> {
    let added = tokenizer.get_added_tokens_decoder();
    let control = || added.iter().filter(|(_, token)| is_control(token));
    let id_of = |name: &str| control().find(|(_, token)| token.content == name).map(|(id, _)| *id);

    let mut ids = Vec::new();
    // Some makers' `eos_token` is an ordinary entry of the vocabulary.
    ids.extend(config.named_token("eos_token").and_then(|name| tokenizer.token_to_id(name)));
    ids.extend(WELL_KNOWN.iter().filter_map(|name| id_of(name)));
    if id_of("<|return|>").is_none() {
        ids.extend(id_of("<|end|>"));
    }
    let behind_probe = |turns: &[Message]| {
        let text = render(turns)?;
        let behind = text.rsplit_once(PROBE)?.1.trim_start();
        let fitting = control().filter(|(_, token)| behind.starts_with(&token.content));
        fitting.max_by_key(|(_, token)| token.content.len()).map(|(id, _)| *id)
    };
    let turns = probe();
    ids.extend(behind_probe(&turns[..2]).or_else(|| behind_probe(&turns)));

    let mut ids: Vec<i32> = ids.into_iter().filter_map(|id| i32::try_from(id).ok()).collect();
    ids.extend(&config.eos_ids);
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// A question, an answer, and the next question.
pub(crate) fn probe() -> [Message; 3] {
    [
        Message::new(Role::User, "Hi"),
        Message::new(Role::Assistant, PROBE),
        Message::new(Role::User, "Hi"),
    ]
}
