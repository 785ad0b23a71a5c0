//! `POST /api/generate`.

use rkllama_core::{Finish, Prompt, Request, Role};
use serde_json::{Value, json};

use crate::common::{
    ScriptedEngine, Step, ask, finished, hello, post, shown, started, text, thought, with,
};

fn body(more: Value) -> Value {
    with(json!({"model": "able", "prompt": "Hi"}), more)
}

async fn said(script: Vec<Step>, more: Value) -> String {
    ask(&ScriptedEngine::playing(script), "/api/generate", &body(more)).await
}

async fn request(more: Value) -> Request {
    let engine = ScriptedEngine::playing(hello());
    let response = post(&engine, "/api/generate", &body(more)).await;
    assert_eq!(response.0.status(), 200, "{}", shown(response).await);
    engine.last_request()
}

#[tokio::test]
async fn whole() {
    let plain = said(hello(), json!({"stream": false})).await;
    let thoughts =
        vec![started(Vec::new()), thought("They greet."), text("Hello!"), finished(Finish::Length)];
    let thoughts = said(thoughts, json!({"stream": false})).await;
    let raw = said(hello(), json!({"stream": false, "raw": true})).await;
    let shown = said(hello(), json!({"_debug_render_only": true, "system": "Be brief."})).await;
    insta::assert_snapshot!([plain, thoughts, raw, shown].join("\n\n"));
}

#[tokio::test]
async fn stream() {
    insta::assert_snapshot!(said(hello(), json!({})).await);
}

#[tokio::test]
async fn loads_and_unloads_without_a_prompt() {
    let engine = ScriptedEngine::playing(Vec::new());
    let mut answers = Vec::new();
    for more in [
        json!({}),
        json!({"prompt": "", "keep_alive": 1.5}),
        json!({"prompt": null, "keep_alive": 0}),
        json!({"keep_alive": "0"}),
    ] {
        let body = with(json!({"model": "plain"}), more);
        answers.push(ask(&engine, "/api/generate", &body).await);
    }
    answers.push(engine.moves().join("\n"));
    insta::assert_snapshot!(answers.join("\n\n"));
}

#[tokio::test]
async fn a_prompt_is_a_conversation_a_text_or_a_gap() {
    let Prompt::Chat(chat) = request(json!({"system": "Be brief."})).await.prompt else {
        panic!("no conversation")
    };
    let messages: Vec<(Role, &str)> =
        chat.messages.iter().map(|message| (message.role, message.content.as_str())).collect();
    assert_eq!(messages, [(Role::System, "Be brief."), (Role::User, "Hi")]);
    assert_eq!(chat.thinking, Some(true));

    let Prompt::Text(text) = request(json!({"raw": true})).await.prompt else { panic!("no text") };
    assert_eq!(text, "Hi");

    let Prompt::Infill(gap) = request(json!({"suffix": "end"})).await.prompt else {
        panic!("no gap")
    };
    assert_eq!((gap.before.as_str(), gap.after.as_str()), ("Hi", "end"));
}

/// The tokens of the answer before stand in front, and in the next answer's tokens too.
#[tokio::test]
async fn a_context_is_gone_on_from() {
    let Prompt::Chat(chat) = request(json!({"context": [7, 8]})).await.prompt else {
        panic!("no conversation")
    };
    assert_eq!(chat.preface, [7, 8]);
    let hi = vec![started(Vec::new()), text("H"), text("i"), finished(Finish::Stop)];
    for stream in [true, false] {
        let answer = said(hi.clone(), json!({"context": [7, 8], "stream": stream})).await;
        assert!(answer.contains("\"context\":[7,8,1,2,3,72,105]"), "{answer}");
    }
}

#[tokio::test]
async fn a_context_is_shown_in_front_of_the_prompt() {
    let more = json!({"context": [7, 8], "_debug_render_only": true});
    let answer = said(hello(), more).await;
    assert!(answer.contains(r#""rendered_template":"<7><8>User: Hi\n""#), "{answer}");
}
