//! Long prompts, and what is kept of them.

use serde_json::{Value, json};

use crate::{
    api::{Checked, check, count, skipped},
    lab::Lab,
};

const PATH: &str = "/v1/chat/completions";

/// So many plain words, at least one token each.
fn words(count: u64) -> String {
    "the dog and the cat walk ".repeat(usize::try_from(count / 6 + 1).unwrap_or(usize::MAX))
}

/// A prompt that takes half of the context is answered.
pub(super) async fn long_context(lab: &Lab) -> Checked {
    let half = lab.model("completion")?.context_tokens_max / 2;
    let answer = lab.api.post(PATH, &lab.chat(&words(half * 3 / 4), 8)?).await?.good()?;
    let prompt = count(&answer["usage"], "/prompt_tokens")?;
    check(prompt >= half / 2, || format!("{prompt} tokens are no long prompt"))
}

/// A prompt longer than the context is refused before anything runs.
pub(super) async fn too_long(lab: &Lab) -> Checked {
    let context = lab.model("completion")?.context_tokens_max;
    let refused = lab.api.post(PATH, &lab.chat(&words(context * 2), 8)?).await?;
    check(refused.status == 400, || format!("{refused:?}"))?;
    let code = refused.body["error"]["code"].as_str();
    check(code == Some("context_length_exceeded"), || format!("{refused:?}"))
}

/// The second turn of a conversation does not compute the first again.
pub(super) async fn prefix_reuse(lab: &Lab) -> Checked {
    let mut body = lab.chat(&format!("{} Say hello.", words(60)), 16)?;
    let first = lab.api.post(PATH, &body).await?.good()?;
    let said = first["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned();
    if let Some(messages) = body["messages"].as_array_mut() {
        messages.push(json!({"role": "assistant", "content": said}));
        messages.push(json!({"role": "user", "content": "Say hello."}));
    }
    let second = lab.api.post(PATH, &body).await?.good()?;
    let (before, cached) = (count(&first["usage"], "/prompt_tokens")?, cached(&second)?);
    let prompt = count(&second["usage"], "/prompt_tokens")?;
    check(cached < prompt, || format!("{cached} of {prompt} tokens from the cache"))?;
    if cached == 0 && !lab.scripted {
        return skipped("this runtime keeps nothing of a prompt");
    }
    // Templates may put other words in front of an answer's place: most of it is what counts.
    check(cached * 2 > before, || format!("{cached} of {before} tokens were kept"))
}

fn cached(answer: &Value) -> Checked<u64> {
    count(answer, "/usage/prompt_tokens_details/cached_tokens")
}
