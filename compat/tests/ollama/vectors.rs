//! `POST /api/embed` and `POST /api/embeddings`.

use std::sync::Arc;

use rkllama_core::{EmbedError, EmbedInput, Embedding, EngineError, KeepAlive};
use serde_json::{Value, json};

use crate::common::{ScriptedEngine, ask, post, too_long};

fn engine(embeddings: Result<Vec<Embedding>, EmbedError>) -> Arc<ScriptedEngine> {
    Arc::new(ScriptedEngine { embeddings: Some(embeddings), ..ScriptedEngine::default() })
}

fn vector() -> Embedding {
    Embedding { vector: vec![0.5, -0.5, 0.707_106_77], tokens: 3 }
}

#[tokio::test]
async fn one_and_several() {
    let one = engine(Ok(vec![vector()]));
    let both = engine(Ok(vec![vector(), Embedding { vector: vec![1.0, 0.0, 0.0], tokens: 4 }]));
    let answers = [
        ask(&one, "/api/embed", &json!({"model": "bert", "input": "a"})).await,
        ask(&both, "/api/embed", &json!({"model": "Bert:latest", "input": ["a", "b"]})).await,
        ask(&one, "/api/embeddings", &json!({"model": "bert", "prompt": "a"})).await,
    ];
    insta::assert_snapshot!(answers.join("\n\n"));
}

/// Fewer numbers are the first ones at length one; more than there are mean all.
#[tokio::test]
async fn dimensions() {
    let half = 0.5_f64.sqrt();
    for (dimensions, expected) in [
        (json!(1), vec![1.0]),
        (json!(2), vec![half, -half]),
        (json!(3), vec![0.5, -0.5, half]),
        (json!(999), vec![0.5, -0.5, half]),
        (json!(0), vec![0.5, -0.5, half]),
        (json!(-1), vec![0.5, -0.5, half]),
        (json!(null), vec![0.5, -0.5, half]),
    ] {
        let body = json!({"model": "bert", "input": "a", "dimensions": dimensions});
        let answer = post(&engine(Ok(vec![vector()])), "/api/embed", &body).await;
        let answer = answer.json().await.value().deserialize::<Value>();
        let found: Vec<f64> = serde_json::from_value(answer["embeddings"][0].clone()).unwrap();
        assert_eq!(found.len(), expected.len(), "{dimensions}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-6, "{dimensions}: {found} {expected}");
        }
    }
}

#[tokio::test]
async fn texts_are_the_engines() {
    let engine = engine(Ok(vec![vector(), vector()]));
    let body = json!({"model": "plain", "input": ["", "b"], "truncate": false, "keep_alive": -1});
    assert_eq!(post(&engine, "/api/embed", &body).await.0.status(), 200);
    let body = json!({"model": "plain", "prompt": "c"});
    assert_eq!(post(&engine, "/api/embeddings", &body).await.0.status(), 200);
    let asked = engine.embed_requests.lock().unwrap();
    let texts = |at: usize| {
        let text = |input: &EmbedInput| match input {
            EmbedInput::Text(text) => text.clone(),
            EmbedInput::Tokens(_) => panic!("no text"),
        };
        asked[at].inputs.iter().map(text).collect::<Vec<_>>()
    };
    // An empty text has no token, and is not worth the others' failure.
    assert_eq!(texts(0), [" ", "b"]);
    assert_eq!((asked[0].truncate, asked[0].keep_alive), (false, Some(KeepAlive::Forever)));
    assert_eq!(texts(1), ["c"]);
    assert_eq!((asked[1].truncate, asked[1].keep_alive), (true, None));
    assert!(!asked[0].are_queries && asked[0].model.id == "plain");
}

#[tokio::test]
async fn loads_without_a_text() {
    let engine = Arc::new(ScriptedEngine::default());
    let mut answers = Vec::new();
    for body in [
        json!({"model": "bert"}),
        json!({"model": "bert", "input": "", "keep_alive": "1m"}),
        json!({"model": "bert", "input": [], "dimensions": 3}),
        json!({"model": "bert", "input": null}),
    ] {
        answers.push(ask(&engine, "/api/embed", &body).await);
    }
    for body in [json!({"model": "bert"}), json!({"model": "bert", "prompt": ""})] {
        answers.push(ask(&engine, "/api/embeddings", &body).await);
    }
    answers.push(engine.moves().join("\n"));
    insta::assert_snapshot!(answers.join("\n\n"));
}

#[tokio::test]
async fn refusals() {
    let failing = |error: EngineError| engine(Err(EmbedError { input: 1, error }));
    let long = failing(too_long());
    let run = failing(EngineError::Run { reason: "reason".to_owned() });
    let unsupported =
        failing(EngineError::Unsupported { model: "plain".to_owned(), what: "embeddings" });
    let mut answers = Vec::new();
    for engine in [&long, &run, &unsupported] {
        let body = json!({"model": "plain", "input": ["a", "b"], "truncate": false});
        answers.push(ask(engine, "/api/embed", &body).await);
        answers
            .push(ask(engine, "/api/embeddings", &json!({"model": "plain", "prompt": "a"})).await);
    }
    for input in [json!(5), json!(["a", 1]), json!([1, 2]), json!({}), json!(true)] {
        answers.push(ask(&long, "/api/embed", &json!({"model": "plain", "input": input})).await);
    }
    let many = json!({"model": "plain", "input": vec!["a"; 2049]});
    answers.push(ask(&long, "/api/embed", &many).await);
    insta::assert_snapshot!(answers.join("\n\n"));
}
