//! Our rendering and ids against those of the reference, which `golden/generate.py` wrote down.

use std::{env, fs, path::Path};

use insta::assert_debug_snapshot;
use rkllama_core::{Chat, Message, Role, Tool, ToolCall};
use rkllama_text::{Codec, RenderOptions, TextError};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::{Tiny, real_codec};

fn cases(name: &str) -> Vec<Value> {
    // Another folder's cases: those of a longer look, see generate.py.
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/text/golden");
    let folder = env::var_os("GOLDEN_DIR").map_or_else(own, Into::into);
    serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
}

/// A case's conversation, as the API would pass it on.
fn chat(case: &Value) -> Chat {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let call = |call: &Value| ToolCall {
        id: text(&call["id"]).unwrap(),
        name: text(&call["function"]["name"]).unwrap(),
        arguments: text(&call["function"]["arguments"]).unwrap(),
    };
    let message = |message: &Value| Message {
        name: text(&message["name"]),
        reasoning: text(&message["reasoning_content"]),
        tool_calls: message["tool_calls"].as_array().into_iter().flatten().map(call).collect(),
        tool_call_id: text(&message["tool_call_id"]),
        ..Message::new(
            serde_json::from_value::<Role>(message["role"].clone()).unwrap(),
            message["content"].as_str().unwrap(),
        )
    };
    let tool = |tool: &Value| Tool {
        name: text(&tool["function"]["name"]).unwrap(),
        description: text(&tool["function"]["description"]),
        parameters: Some(tool["function"]["parameters"].to_string()),
        strict: false,
    };
    Chat {
        tools: case["tools"].as_array().into_iter().flatten().map(tool).collect(),
        thinking: case["enable_thinking"].as_bool(),
        continue_last: case["continue_final_message"].as_bool().unwrap_or(false),
        ..Chat::new(case["messages"].as_array().unwrap().iter().map(message).collect())
    }
}

fn check(codec: &Codec, case: &Value) {
    let name = &case["name"];
    let options = RenderOptions {
        add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap_or(true),
        ..RenderOptions::default()
    };
    let rendered = codec.render(&chat(case), &options);
    if let Some(error) = case["error"].as_str() {
        let expected = TextError::Template { reason: error.to_owned() };
        assert_eq!(rendered.unwrap_err(), expected, "{name}");
        return;
    }
    let rendered = rendered.unwrap_or_else(|err| panic!("{name}: {err}"));
    assert_eq!(rendered.text(), case["text"].as_str().unwrap(), "{name}");
    let ids: Vec<i32> = serde_json::from_value(case["ids"].clone()).unwrap();
    assert_eq!(codec.encode(&rendered).unwrap(), ids, "{name}: {:?}", rendered.text());
}

#[rstest]
#[case("qwen3")]
#[case("llama3_1")]
#[case("gemma3")]
fn texts_and_ids_are_those_of_the_reference(#[case] name: &'static str) {
    let Some(codec) = real_codec(name) else { return };
    let cases = cases(&format!("{name}.json"));
    assert!(cases.len() > 20);
    for case in cases {
        check(&codec, &case);
    }
}

#[test]
fn constructs_of_real_templates_render_as_in_python() {
    let mut wrong = Vec::new();
    for case in cases("constructs.json") {
        let template = case["template"].as_str().unwrap();
        let rendered = render_construct(template);
        let expected = case["text"].as_str().map(str::to_owned);
        let expected = expected.ok_or_else(|| case["error"].as_str().unwrap().to_owned());
        if rendered != expected {
            wrong.push(format!("{template}\n  ours: {rendered:?}\n  reference: {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn render_construct(template: &str) -> Result<String, String> {
    let chat = Chat::new(vec![
        Message::new(Role::System, "Be brief. "),
        Message::new(Role::User, "How many rivers?! \n"),
        Message::new(Role::Assistant, "<think>\nx\n</think>\n\nThree."),
    ]);
    let tiny = Tiny::bare().template(template);
    let tiny = tiny.config("bos_token", json!("<s>"));
    let tiny = tiny.config("eos_token", json!({"content": "</s>", "lstrip": false}));
    let codec = Codec::new(&tiny.files()).map_err(|err| err.to_string())?;
    let rendered = codec.render(&chat, &RenderOptions::default());
    rendered.map(|rendered| rendered.text().into_owned()).map_err(|err| err.to_string())
}

#[test]
fn tools_and_calls_are_written_as_in_python() {
    let cases = cases("tools.json");
    assert!(cases.len() > 15);
    for case in cases {
        let template = case["template"].as_str().unwrap();
        let codec = Tiny::bare().template(template).codec();
        let rendered = codec.render(&chat(&case), &RenderOptions::default()).unwrap();
        assert_eq!(rendered.text(), case["text"].as_str().unwrap(), "{}: {template}", case["name"]);
    }
}

#[test]
fn a_real_conversation_reads_like_this() {
    let Some(codec) = real_codec("qwen3") else { return };
    let chat = Chat::new(vec![
        Message::new(Role::System, "Answer briefly."),
        Message::new(Role::User, "What is an NPU?"),
    ]);
    let rendered = codec.render(&chat, &RenderOptions::default()).unwrap();
    assert_debug_snapshot!(rendered.text(), @r#""<|im_start|>system\nAnswer briefly.<|im_end|>\n<|im_start|>user\nWhat is an NPU?<|im_end|>\n<|im_start|>assistant\n""#);
    assert_debug_snapshot!(codec.encode(&rendered).unwrap().len(), @"22");
}
