//! A request for text completions.

use std::sync::Arc;

use rkllama_core::{Infill, LogprobsWanted, Prompt, Request};
use rkllama_http::{ApiError, Caller};

use super::{
    Checked, View,
    common::{check_integer, clamp_u32, common_fields},
    format::format,
    model::resolve,
    refuse_ignored,
};
use crate::{
    State,
    failure::Blame,
    fields::Fields,
    refusal::{Bound, array_too_long, empty_array, unsupported},
    wire::{CompletionPrompt, CompletionRequest, PROMPTS_MAX, given},
};

/// Most tokens of an answer where the request does not say: OpenAI's own number.
const TOKENS_DEFAULT: i64 = 16;

/// Checks a request and translates it.
pub(crate) fn completion(
    mut wire: CompletionRequest,
    caller: Caller,
    state: &State,
) -> Result<Checked, ApiError> {
    check_integer("best_of", wire.best_of, 0, 20)?;
    if let Some(field) = wire.refused() {
        return Err(unsupported(field));
    }
    let ignored = wire.ignored();
    refuse_ignored(&ignored, state)?;
    check_integer("logprobs", wire.logprobs, 0, 5)?;
    let mut common = common_fields!(wire);
    let (sampling, stop, keep_alive) = (common.sampling()?, common.stop()?, common.keep_alive()?);
    let n = common.n()?;
    let format = format(given(wire.response_format.take()), &mut common)?;
    let prompts = prompts("prompt", wire.prompt, PROMPTS_MAX)?;
    let echoes = if wire.echo == Some(true) { echoes(&prompts)? } else { Vec::new() };
    let prompts = match wire.suffix.filter(|suffix| !suffix.is_empty()) {
        Some(suffix) => infills(prompts, &suffix)?,
        None => prompts,
    };
    let best_of =
        wire.best_of.and_then(|best_of| usize::try_from(best_of).ok()).unwrap_or(n).max(n);
    let wanted = wire.logprobs.map(clamp_u32);
    let of_prompt = wanted.is_some() && wire.echo == Some(true);
    let logprobs = match wanted {
        None if best_of == n => None,
        top => Some(LogprobsWanted { top: top.unwrap_or(0), of_prompt }),
    };
    let (model, name) = resolve(wire.model, state)?;
    let blame_format = format.as_ref().map_or("response_format", |(_, field)| field);
    let format = format.map(|(format, _)| format);
    let request = |prompt| Request {
        model: Arc::clone(&model),
        prompt,
        sampling,
        tokens_max: Some(clamp_u32(wire.max_tokens.unwrap_or(TOKENS_DEFAULT))),
        stop: stop.clone(),
        format: format.clone(),
        ignore_eos: wire.ignore_eos.unwrap_or(false),
        logprobs,
        keep_alive,
        client: Arc::clone(&caller.0),
    };
    Ok(Checked {
        requests: prompts.into_iter().map(request).collect(),
        n,
        best_of,
        view: View {
            reasoning: true,
            several_calls: true,
            timings_per_token: wire.timings_per_token.unwrap_or(false),
            logprobs: wanted.is_some(),
            strict: state.strict_parameters,
            blame: Blame { prompt: "prompt", format: blame_format },
        },
        model: name,
        stream: common.is_streamed(),
        include_usage: common.includes_usage(),
        echoes,
        ignored,
    })
}

/// The prompts that stand in `param`: at least one, at most `count_max`.
pub(super) fn prompts(
    param: &str,
    wire: CompletionPrompt,
    count_max: usize,
) -> Result<Vec<Prompt>, ApiError> {
    let prompts: Vec<_> = match wire {
        CompletionPrompt::Text(text) => vec![Prompt::Text(text)],
        CompletionPrompt::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
        CompletionPrompt::Tokens(ids) => vec![tokens(param, ids)?],
        CompletionPrompt::TokenArrays(arrays) => {
            let arrays = arrays.into_iter().enumerate();
            let prompts = arrays.map(|(index, ids)| tokens(&format!("{param}[{index}]"), ids));
            prompts.collect::<Result<_, _>>()?
        }
    };
    if prompts.is_empty() {
        return Err(empty_array(param));
    }
    if prompts.len() > count_max {
        return Err(array_too_long(param, count_max, prompts.len()));
    }
    Ok(prompts)
}

/// Which ids a model has, the engine knows.
fn tokens(param: &str, ids: Vec<i32>) -> Result<Prompt, ApiError> {
    if ids.is_empty() {
        return Err(empty_array(param));
    }
    if let Some(index) = ids.iter().position(|id| *id < 0) {
        let param = format!("{param}[{index}]");
        Bound::AtLeast(0.0).check(&param, ids[index].into(), true)?;
    }
    Ok(Prompt::Tokens(ids))
}

fn echoes(prompts: &[Prompt]) -> Result<Vec<String>, ApiError> {
    let echoes = prompts.iter().map(|prompt| match prompt {
        Prompt::Text(text) => Ok(text.clone()),
        Prompt::Tokens(_) | Prompt::Chat(_) | Prompt::Infill(_) => Err(unsupported("echo")),
    });
    echoes.collect()
}

/// What is missing between each of the prompts, which have to be text, and the suffix.
fn infills(prompts: Vec<Prompt>, suffix: &str) -> Result<Vec<Prompt>, ApiError> {
    let infills = prompts.into_iter().map(|prompt| match prompt {
        Prompt::Text(before) => Ok(Prompt::Infill(Infill { before, after: suffix.to_owned() })),
        Prompt::Tokens(_) | Prompt::Chat(_) | Prompt::Infill(_) => Err(unsupported("suffix")),
    });
    infills.collect()
}
