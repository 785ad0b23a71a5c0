//! Real models' tokenizers and templates through the whole server.

use rkllama_tests::{Chat, ModelDir, ServerSetup, tokenizer_files};
use rstest::rstest;
use serde_json::{Value, json};

/// What the mock is told to say comes back, whatever the vocabulary: ids and text agree, and the
/// turn ends at the family's own mark.
#[rstest]
#[case::qwen3("qwen3", &[151_645, 151_643])]
#[case::llama3_1("llama3_1", &[128_009, 128_001])]
#[case::gemma3("gemma3", &[106, 1])]
#[tokio::test]
async fn real_vocabularies_carry_a_conversation(#[case] name: &str, #[case] eos_ids: &[u32]) {
    let Some(files) = tokenizer_files(name) else { return };
    let rule = "[[rule]]\nuser_contains = \"städte\"\nsay = \"Köln, 東京 and 😀.\"\n";
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("demo").tokenizer(&files, eos_ids).script(rule))
        .start();
    let conversation = Chat::user("").with(
        "messages",
        json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hello to you."},
            {"role": "user", "content": "Name some Städte."},
        ]),
    );
    let answer = conversation.ask(&server).await;
    assert_eq!(answer.content(), "Köln, 東京 and 😀.");
    assert_eq!(answer.finish(), "stop");
    let sent = server.trace().args("rkllm_run")[0]["input"]["tokens"].as_array().unwrap().len();
    assert_eq!(answer.body["usage"]["prompt_tokens"], sent);
    // Another question goes to the mock's language model, which speaks this vocabulary too.
    let free = Chat::user("What is an NPU?").with("max_tokens", 20).ask(&server).await;
    assert!(free.content().split_whitespace().count() > 3, "{}", free.content());
}

/// Qwen's vocabulary has marks for filling in; the demo's has none.
#[tokio::test]
async fn a_model_with_marks_for_it_fills_in() {
    let Some(files) = tokenizer_files("qwen3") else { return };
    let script = "[[rule]]\nprompt_contains = \"<|fim_suffix|>\"\nsay = \"a, b\"\n";
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("coder").tokenizer(&files, &[151_645, 151_643]).script(script))
        .model(&ModelDir::demo("demo"))
        .start();
    let ask = |model: &str| {
        let url = format!("{}/v1/completions", server.url);
        let body = json!({"model": model, "prompt": "def add(", "suffix": "):\n    return a + b"});
        reqwest::Client::new().post(url).json(&body).send()
    };
    let filled: Value = ask("coder").await.unwrap().json().await.unwrap();
    assert_eq!(filled["choices"][0]["text"], "a, b");
    let tokens = server.trace().args("rkllm_run")[0]["input"]["tokens"].clone();
    let tokens: Vec<i64> = serde_json::from_value(tokens).unwrap();
    assert_eq!((tokens[0], tokens.last()), (151_659, Some(&151_660)));
    assert!(tokens.contains(&151_661), "{tokens:?}");
    assert_eq!(filled["usage"]["prompt_tokens"], tokens.len());

    let refused = ask("demo").await.unwrap();
    assert_eq!(refused.status(), 400);
    let refused: Value = refused.json().await.unwrap();
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("'demo' does not support filling in"), "{message}");
}
