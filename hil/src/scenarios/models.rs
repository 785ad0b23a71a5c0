//! Several models, and new ones.

use serde_json::json;

use crate::{
    api::{Checked, check, count, skipped, text},
    hub,
    lab::Lab,
};

/// Two models answer at the same time, each as itself.
pub(super) async fn several(lab: &Lab) -> Checked {
    let models = lab.chatting();
    let [one, other, ..] = models.as_slice() else {
        return skipped(format!("{} models hold conversations; it takes two", models.len()));
    };
    let ask = async |id: &str| -> Checked {
        let mut body = lab.chat("Say hello.", 16)?;
        body["model"] = json!(id);
        let answer = lab.api.post("/v1/chat/completions", &body).await?.good()?;
        check(answer["model"] == id, || format!("asked {id}: {answer}"))?;
        count(&answer["usage"], "/completion_tokens").map(|_| ())
    };
    let (one, other) = futures_util::join!(ask(&one.id), ask(&other.id));
    one.and(other)
}

/// A model is fetched, and is there afterwards.
pub(super) async fn pull(lab: &Lab) -> Checked {
    match &lab.pull {
        Some(model) => fetch(lab, model, model).await,
        None if lab.has_hub => fetch_and_remove(lab).await,
        None => skipped("no model to fetch was named (--pull), and the server asks another hub"),
    }
}

async fn fetch(lab: &Lab, source: &str, name: &str) -> Checked {
    let body = json!({"model": source, "stream": false});
    let pulled = lab.api.post("/api/pull", &body).await?.good()?;
    check(pulled["status"] == "success", || format!("{pulled}"))?;
    let shown = lab.api.post("/api/show", &json!({"model": name})).await?;
    check(shown.status == 200, || format!("fetched but not there: {shown:?}"))
}

/// The stub hub's model, of which nothing is left.
async fn fetch_and_remove(lab: &Lab) -> Checked {
    let name = hub::WHOLE.split('/').next_back().unwrap_or_default();
    let there = lab.api.post("/api/show", &json!({"model": name})).await?;
    check(there.status == 404, || format!("there is a model {name} already"))?;
    let fetched = fetch(lab, hub::WHOLE, name).await;
    let answered = if fetched.is_ok() { answer(lab, name).await } else { Ok(()) };
    let removed = lab.api.delete("/api/delete", &json!({"model": name})).await?;
    fetched?;
    answered?;
    check(removed.status == 200, || format!("it cannot be removed: {removed:?}"))?;
    let shown = lab.api.post("/api/show", &json!({"model": name})).await?;
    check(shown.status == 404, || format!("removed but there: {shown:?}"))
}

/// Of the stub's weights only the mock knows what they are.
async fn answer(lab: &Lab, name: &str) -> Checked {
    if !lab.scripted {
        return Ok(());
    }
    let mut body = lab.chat("Say hello.", 32)?;
    body["model"] = json!(name);
    let answer = lab.api.post("/v1/chat/completions", &body).await?.good()?;
    let said = text(&answer, "/choices/0/message/content")?;
    check(said == "Hello from the board.", || format!("other words: {said:?}"))
}
