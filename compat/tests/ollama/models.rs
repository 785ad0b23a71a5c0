//! Lists and descriptions: `/api/tags`, `/api/ps`, `/api/show`, `/api/version`, `/api/status`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rkllama_core::{LoadState, Resident};
use serde_json::{Value, json};

use crate::common::{ScriptedEngine, ask, client, client_of_nothing, shown};

#[tokio::test]
async fn tags() {
    let listed = client(Arc::default()).get("/api/tags").send().await;
    let nothing = client_of_nothing().get("/api/tags").send().await;
    insta::assert_snapshot!([shown(listed).await, shown(nothing).await].join("\n\n"));
}

fn resident(model: &str, state: LoadState, expires_s: Option<u64>) -> Resident {
    let expires = expires_s.map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s));
    Resident { model: model.to_owned(), state, memory_bytes: 1024, expires }
}

#[tokio::test]
async fn ps() {
    let engine = Arc::new(ScriptedEngine {
        residents: vec![
            resident("able", LoadState::Idle, Some(1_700_000_100)),
            resident("bert", LoadState::Idle, Some(1_700_000_200)),
            // Not there yet, and gone from the store.
            resident("plain", LoadState::Loading(Duration::ZERO), None),
            resident("removed", LoadState::Idle, Some(1_700_000_300)),
        ],
        ..ScriptedEngine::default()
    });
    let loaded = client(engine).get("/api/ps").send().await;
    let nothing = client(Arc::default()).get("/api/ps").send().await;
    insta::assert_snapshot!([shown(loaded).await, shown(nothing).await].join("\n\n"));
}

/// When a model at work leaves is not known; one that stays for ever has a date all the same.
#[tokio::test]
async fn every_loaded_model_has_a_date() {
    let engine = Arc::new(ScriptedEngine {
        residents: vec![
            resident("able", LoadState::Busy, None),
            resident("plain", LoadState::Idle, None),
        ],
        ..ScriptedEngine::default()
    });
    let answer = client(engine).get("/api/ps").send().await;
    let answer = answer.json().await.value().deserialize::<Value>();
    let at = |index: usize| {
        let date = answer["models"][index]["expires_at"].as_str().unwrap();
        assert_eq!(date.len(), "2026-11-21T01:22:11.497071841Z".len(), "{date}");
        date[..4].parse::<u32>().unwrap()
    };
    assert_eq!(answer["models"][0]["name"], "plain:latest");
    assert!(at(0) > 2200 && at(1) < 2200, "{answer}");
}

#[tokio::test]
async fn show() {
    let engine = Arc::new(ScriptedEngine::default());
    let mut answers = Vec::new();
    for body in [
        json!({"model": "able", "verbose": true}),
        json!({"name": "bert:latest"}),
        json!({"model": "", "name": "plain", "system": "x", "options": {}}),
    ] {
        answers.push(ask(&engine, "/api/show", &body).await);
    }
    insta::assert_snapshot!(answers.join("\n\n"));
}

/// An editor shows the model's basename, and wants what it asked for there.
#[tokio::test]
async fn the_name_is_as_asked_for_one_client() {
    for (agent, basename) in [("GitHubCopilotChat/0.30", "Able:latest"), ("curl/8", "able")] {
        let client = client(Arc::default());
        let request = client.post("/api/show").header("user-agent", agent);
        let answer = request.body_json(&json!({"model": "Able:latest"})).send().await;
        let answer = answer.json().await.value().deserialize::<Value>();
        assert_eq!(answer["model_info"]["general.basename"], basename, "{agent}");
    }
}

#[tokio::test]
async fn version_and_status() {
    let mut answers = Vec::new();
    for path in ["/api/version", "/api/status"] {
        answers.push(shown(client(Arc::default()).get(path).send().await).await);
        let head = client(Arc::default()).head(path).send().await;
        assert_eq!(head.0.status(), 200);
        assert_eq!(head.0.into_body().into_string().await.unwrap(), "");
    }
    insta::assert_snapshot!(answers.join("\n\n"));
}
