//! What breaks below the server: its client hears of it, and the next one is answered.

use serde_json::{Value, json};

use crate::{
    api::{Checked, Problem, check, failed, skipped, text},
    hub,
    lab::Lab,
};

const PATH: &str = "/v1/chat/completions";

async fn answers_again(lab: &Lab) -> Checked {
    let answer = lab.api.post(PATH, &lab.chat("Say hello.", 8)?).await?;
    check(answer.status == 200, || format!("and then nothing works: {answer:?}"))
}

/// A worker that is killed in the middle of an answer ends that answer with an error, and only that.
pub(super) async fn worker_killed(lab: &Lab) -> Checked {
    let mut body = lab.chat("Count on and on.", 2000)?;
    body["stream"] = json!(true);
    let Some(machine) = &lab.machine else {
        return skipped("the runner has no shell on the server's machine");
    };
    let mut events = lab.api.open(PATH, &body).await?;
    events.first_piece().await?;
    match machine.kill_workers().await {
        Ok(0) => return failed("the server has no worker while it answers"),
        Ok(_) => {}
        Err(why) => return skipped(format!("the machine's workers cannot be killed: {why}")),
    }
    let mut last = Value::Null;
    while let Some(data) = events.next().await? {
        if data != "[DONE]" {
            last = serde_json::from_str(&data).unwrap_or_default();
        }
    }
    if last["choices"][0]["finish_reason"].is_string() && !lab.scripted {
        return skipped("the answer was over before its worker was killed");
    }
    check(last["error"]["message"].is_string(), || format!("no error at the end but {last}"))?;
    answers_again(lab).await
}

/// What the mock's rules act out at these words is an error in an answer's place.
async fn broken(lab: &Lab, words: &str, names: &str) -> Checked {
    if !lab.scripted {
        return skipped("only the mock breaks when it is told to");
    }
    let answer = lab.api.post(PATH, &lab.chat(words, 32)?).await?;
    check(answer.status == 500, || format!("no error: {answer:?}"))?;
    let message = text(&answer.body, "/error/message")?;
    check(message.contains(names), || format!("{message:?} does not name {names}"))?;
    answers_again(lab).await
}

/// A run that the runtime gives up.
pub(super) async fn run_fails(lab: &Lab) -> Checked {
    broken(lab, "Fail now.", "").await
}

/// A runtime that dies of a run.
pub(super) async fn run_crashes(lab: &Lab) -> Checked {
    broken(lab, "Crash now.", "SIGSEGV").await
}

/// Weights that arrive other than they were sent are refused, and are no model.
pub(super) async fn broken_download(lab: &Lab) -> Checked {
    if !lab.has_hub {
        return skipped("the target asks a hub that is not the runner's");
    }
    let body = json!({"model": hub::CORRUPT, "stream": false});
    let pulled = lab.api.post("/api/pull", &body).await?;
    let why = text(&pulled.body, "/error").map_err(|_| {
        Problem::Failed(format!("weights with another checksum were taken: {pulled:?}"))
    })?;
    check(why.contains("SHA-256"), || format!("the error names no checksum: {why}"))?;
    let shown = lab.api.post("/api/show", &json!({"model": "corrupt"})).await?;
    check(shown.status == 404, || format!("refused but there: {shown:?}"))
}
