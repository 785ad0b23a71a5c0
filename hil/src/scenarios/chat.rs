//! Conversations: whole, streamed, counted, stopped, refused.

use serde_json::json;

use crate::{
    api::{Checked, check, count, text},
    lab::{Figure, Lab},
};

const PATH: &str = "/v1/chat/completions";

/// An answer has words and says why it ended.
pub(super) async fn whole(lab: &Lab) -> Checked {
    let answer = lab.api.post(PATH, &lab.chat("Say hello.", 64)?).await?.good()?;
    let message = &answer["choices"][0]["message"];
    let said = message["content"].as_str().unwrap_or_default();
    let thought = message["reasoning_content"].as_str().unwrap_or_default();
    check(!said.is_empty() || !thought.is_empty(), || format!("no words: {answer}"))?;
    if lab.scripted {
        check(said == "Hello from the board.", || format!("other words: {said:?}"))?;
    }
    let finish = text(&answer, "/choices/0/finish_reason")?;
    check(matches!(finish, "stop" | "length"), || format!("it ended with {finish:?}"))
}

/// A stream brings pieces, ends once, and says the same as the whole answer.
pub(super) async fn stream(lab: &Lab) -> Checked {
    for model in lab.chatting() {
        let mut body = lab.chat("Say hello.", 32)?;
        body["model"] = json!(model.id);
        let whole = lab.api.post(PATH, &body).await?.good()?;
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        let streamed = lab.api.open(PATH, &body).await?.chat().await?;
        let content = whole["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        check(streamed.content == content, || {
            format!("streamed {:?}, whole {content:?}", streamed.content)
        })?;
        check(streamed.pieces > 1, || format!("{} pieces", streamed.pieces))?;
        let tokens = count(&streamed.usage, "/completion_tokens")?;
        if let (Some(first), Some(last)) = (streamed.first, streamed.last) {
            let decode_s = (last - first).as_secs_f64();
            lab.note(Figure {
                at_s: lab.began.elapsed().as_secs_f64(),
                model: model.id.clone(),
                first_token_ms: first.as_secs_f64() * 1e3,
                tokens_per_s: (tokens > 1 && decode_s > 0.0)
                    .then(|| (tokens - 1) as f64 / decode_s),
            });
        }
    }
    lab.model("completion").map(|_| ())
}

/// The counts of usage add up and keep the limit.
pub(super) async fn counts(lab: &Lab) -> Checked {
    let answer = lab.api.post(PATH, &lab.chat("Count on and on.", 7)?).await?.good()?;
    let usage = &answer["usage"];
    let (prompt, completion) =
        (count(usage, "/prompt_tokens")?, count(usage, "/completion_tokens")?);
    check(count(usage, "/total_tokens")? == prompt + completion, || format!("sum: {usage}"))?;
    check(prompt > 0 && (1..=7).contains(&completion), || format!("limit of 7: {usage}"))?;
    if text(&answer, "/choices/0/finish_reason")? == "length" {
        return check(completion == 7, || format!("cut before the limit: {usage}"));
    }
    check(!lab.scripted, || format!("an endless answer was not cut: {answer}"))
}

/// A stop text ends the answer and is not in it.
pub(super) async fn stop(lab: &Lab) -> Checked {
    let mut body = lab.chat("Say hello.", 32)?;
    let full = lab.api.post(PATH, &body).await?.good()?;
    let full = full["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned();
    let Some(word) = full.split_whitespace().nth(1).map(str::to_owned) else {
        return crate::api::skipped("the model's answer has no second word to stop at");
    };
    body["stop"] = json!([word]);
    let stopped = lab.api.post(PATH, &body).await?.good()?;
    let said = stopped["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    check(!said.contains(&word) && full.starts_with(said), || {
        format!("stopped at {word:?}: {said:?} of {full:?}")
    })?;
    check(text(&stopped, "/choices/0/finish_reason")? == "stop", || format!("{stopped}"))
}

/// What is wrong is refused in the API's shape, and a model that is not there is not found.
pub(super) async fn refusal(lab: &Lab) -> Checked {
    let mut body = lab.chat("Say hello.", 8)?;
    body["temperature"] = json!(-1);
    let refused = lab.api.post(PATH, &body).await?;
    check(refused.status == 400, || format!("temperature -1: {refused:?}"))?;
    check(text(&refused.body, "/error/param")? == "temperature", || format!("{refused:?}"))?;
    body["temperature"] = json!(0);
    body["model"] = json!("no-such-model");
    let refused = lab.api.post(PATH, &body).await?;
    check(refused.status == 404, || format!("no such model: {refused:?}"))?;
    text(&refused.body, "/error/message").map(|_| ())
}
