//! Several models, and new ones.

use serde_json::json;

use crate::{
    api::{Checked, check, count, skipped},
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
    let Some(model) = &lab.pull else {
        return skipped("no model to fetch was named (--pull)");
    };
    let body = json!({"model": model, "stream": false});
    let pulled = lab.api.post("/api/pull", &body).await?.good()?;
    check(pulled["status"] == "success", || format!("{pulled}"))?;
    let shown = lab.api.post("/api/show", &json!({"model": model})).await?;
    check(shown.status == 200, || format!("fetched but not there: {shown:?}"))
}
