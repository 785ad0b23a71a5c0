//! `POST /v1/gui_actor`, without sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{
    ListedModels, ScriptedEngine, limits, model, schema::faults_by_ours, shown, state_with,
};
use poem::test::{TestClient, TestResponse};
use rkllama_core::{
    EngineError, ImageSource, ImageTags, KeepAlive, Model, Pointed, PointerHead, PromptTokens,
    Vision,
};
use rkllama_openapi::wire::{GuiActorPoint, GuiActorRequest};
use serde_json::{Value, json};

const NONE: [String; 0] = [];

fn engine(pointed: Result<Pointed, EngineError>) -> Arc<ScriptedEngine> {
    Arc::new(ScriptedEngine { pointed: Some(pointed), ..ScriptedEngine::default() })
}

fn place(drawn: Option<&[u8]>) -> Pointed {
    let drawn = drawn.map(<[u8]>::to_vec);
    Pointed { x: 1893, y: 24, width: 1920, height: 1080, drawn, tokens: 1428 }
}

/// A model that finds places.
fn actor(id: &str) -> Model {
    let vision = Vision {
        encoder: "/nowhere/vision.rknn".into(),
        encoder_bytes: 1,
        tags: ImageTags::default(),
        fill: 128,
        normalise: None,
        image_tokens: None,
        sizes: (None, None),
        pointer_head: Some(PointerHead { file: "/nowhere/head.rknn".into(), bytes: 1 }),
    };
    Model { vision: Some(vision), ..model(id) }
}

async fn post(
    engine: Arc<ScriptedEngine>,
    models: impl IntoIterator<Item = Model>,
    request: &Value,
) -> TestResponse {
    let state = state_with(engine, ListedModels::of(models));
    let client = TestClient::new(rkllama_openapi::app(state, limits()));
    client.post("/v1/gui_actor").body_json(request).send().await
}

fn request(more: Value) -> Value {
    let mut request = json!({"model": "actor", "prompt": "Close it.", "image": "YWJjZA=="});
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

async fn ask(pointed: Result<Pointed, EngineError>, more: Value) -> TestResponse {
    post(engine(pointed), [model("tiny"), actor("actor")], &request(more)).await
}

#[tokio::test]
async fn with_a_picture_and_without() {
    let plain = shown(ask(Ok(place(None)), json!({})).await).await;
    let drawn = shown(ask(Ok(place(Some(b"a jpeg"))), json!({"label": true})).await).await;
    insta::assert_snapshot!([plain, drawn].join("\n\n"));
}

#[tokio::test]
async fn what_is_asked_reaches_the_engine() {
    let engine = engine(Ok(place(None)));
    let url = "data:image/png;base64,YWJjZA==";
    // One model is made for it: it need not be named.
    for (model_name, image) in [(json!("actor"), "YWJj\nZA"), (Value::Null, url)] {
        let more = json!({"model": model_name, "image": image, "label": true, "keep_alive": "10s"});
        let models = [model("tiny"), actor("actor")];
        post(Arc::clone(&engine), models, &request(more)).await.assert_status_is_ok();
        let asked = engine.point_requests.lock().unwrap().pop().unwrap();
        assert_eq!((&*asked.model.id, &*asked.task), ("actor", "Close it."));
        assert_eq!(asked.screen.source, ImageSource::Bytes("abcd".into()));
        assert_eq!(asked.screen.field, "image");
        assert_eq!(asked.keep_alive, Some(KeepAlive::For(Duration::from_secs(10))));
        assert!(asked.draws);
    }
}

#[tokio::test]
async fn refusals() {
    let mut shown_all = Vec::new();
    for more in [
        json!({"prompt": null}),
        json!({"prompt": ["a"]}),
        json!({"prompt": " "}),
        json!({"image": null}),
        json!({"image": {"url": "x"}}),
        json!({"image": "*"}),
        json!({"image": "ftp://example.org/a.png"}),
        json!({"label": "yes"}),
        json!({"keep_alive": "soon"}),
        json!({"model": "nobody"}),
    ] {
        let answer = ask(Ok(place(None)), more.clone()).await;
        shown_all.push(format!("{more}\n{}", shown(answer).await));
    }
    let nothing = post(engine(Ok(place(None))), [actor("a"), actor("b")], &json!({})).await;
    shown_all.push(shown(nothing).await);
    let unnamed = json!({"prompt": "a", "image": ""});
    let unclear = post(engine(Ok(place(None))), [actor("a"), actor("b")], &unnamed).await;
    shown_all.push(shown(unclear).await);
    insta::assert_snapshot!(shown_all.join("\n\n"));
}

#[tokio::test]
async fn errors_of_the_engine() {
    let mut shown_all = Vec::new();
    for error in [
        EngineError::Image { field: "image".to_owned(), reason: "is damaged: here".to_owned() },
        EngineError::Unsupported { model: "actor".to_owned(), what: "that" },
        EngineError::ContextExceeded {
            prompt_tokens: PromptTokens::AtLeast(5000),
            context_tokens_max: 4096,
            margin_tokens: 32,
        },
        EngineError::Run { reason: "the pointer head gave scores that are no numbers".to_owned() },
    ] {
        shown_all.push(shown(ask(Err(error), json!({})).await).await);
    }
    insta::assert_snapshot!(shown_all.join("\n\n"));
}

#[tokio::test]
async fn an_answer_is_valid_by_the_document() {
    for drawn in [None, Some(b"a jpeg".as_slice())] {
        let answer = ask(Ok(place(drawn)), json!({})).await.json().await;
        assert_eq!(faults_by_ours("GuiActorPoint", &answer.value().deserialize::<Value>()), NONE);
    }
}

#[test]
fn schema_and_reader_take_and_refuse_the_same_requests() {
    use poem_openapi::types::{Example, ToJSON};
    let example = GuiActorRequest::example().to_json().unwrap();
    let written = serde_json::to_value(GuiActorPoint::example()).unwrap();
    assert_eq!(GuiActorPoint::example().to_json().unwrap(), written);
    let mut refused = 0;
    for request in [
        example,
        request(json!({})),
        request(json!({"model": null, "label": null, "keep_alive": null})),
        request(json!({"keep_alive": 5, "label": true})),
        json!({}),
        json!({"prompt": "a"}),
        request(json!({"prompt": null})),
        request(json!({"prompt": 7})),
        request(json!({"image": null})),
        request(json!({"image": ["a"]})),
        request(json!({"label": 1})),
        request(json!({"model": 1})),
    ] {
        let faults = faults_by_ours("GuiActorRequest", &request);
        let read = serde_json::from_value::<GuiActorRequest>(request.clone());
        assert_eq!(faults.is_empty(), read.is_ok(), "{request}: {faults:?} and {read:?}");
        refused += usize::from(read.is_err());
    }
    assert_eq!(refused, 8);
}
