//! Clients that leave.

use std::time::Duration;

use serde_json::json;

use crate::{
    api::{Checked, check},
    lab::Lab,
    samples::metric,
};

/// Looks at the server until its slot is free. An abort waits for the end of a prefill at most.
const LOOKS_MAX: u32 = 300;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// When a client leaves in the middle of an answer, its run ends and the next one is answered.
pub(super) async fn frees_the_slot(lab: &Lab) -> Checked {
    let mut body = lab.chat("Count on and on.", 2000)?;
    body["stream"] = json!(true);
    let before = aborted(lab).await?;
    let mut events = lab.api.open("/v1/chat/completions", &body).await?;
    events.first_piece().await?;
    drop(events);
    for _ in 0..LOOKS_MAX {
        let metrics = lab.api.get("/metrics").await?.good()?;
        let running = metric(metrics.as_str().unwrap_or_default(), "llamacpp:requests_processing");
        check(running.is_some(), || "no metric says what is running".to_owned())?;
        if running == Some(0.0) {
            let after = aborted(lab).await?;
            check(after > before, || "the answer went on to its end".to_owned())?;
            let next = lab.chat("Say hello.", 8)?;
            return lab.api.post("/v1/chat/completions", &next).await?.good().map(|_| ());
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    check(false, || "the run of a client that left goes on".to_owned())
}

/// Answers that were broken off, of all models.
async fn aborted(lab: &Lab) -> Checked<f64> {
    let metrics = lab.api.get("/metrics").await?.good()?;
    let lines = metrics.as_str().unwrap_or_default().lines();
    let counts = lines
        .filter(|it| it.starts_with("vllm:request_success_total{"))
        .filter(|it| it.contains("finished_reason=\"abort\""))
        .filter_map(|it| it.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(counts.sum())
}
