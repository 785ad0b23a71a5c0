//! Answers that have a form: JSON, schemas, calls of tools, thoughts told apart.
//!
//! The mock's model knows nothing of forms: left to itself it rambles, and a script makes it stubborn.

use jsonschema::validator_for;
use rkllama_tests::{Answer, Chat, ModelDir, Server, ServerSetup, Sse};
use rstest::rstest;
use serde_json::{Value, json};

const RELEASES: [&str; 2] = ["1.2.3", "1.3.0"];

fn server(release: &str, script: &str) -> Server {
    ServerSetup::new()
        .mock(release)
        .model(&ModelDir::demo("demo").toolkit("1.2.3").weights_name("demo-v1.2.3.rkllm"))
        .script(script)
        .start()
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 40},
            "inhabitants": {"type": "integer", "minimum": 0},
            "sights": {"type": "array", "items": {"type": "string", "maxLength": 30}, "maxItems": 3}
        },
        "required": ["city", "inhabitants", "sights"],
        "additionalProperties": false
    })
}

fn with_schema(chat: Chat) -> Chat {
    let format = json!({"name": "city", "strict": true, "schema": schema()});
    chat.with("response_format", json!({"type": "json_schema", "json_schema": format}))
}

fn assert_valid(schema: &Value, text: &str) {
    let value = serde_json::from_str(text).unwrap_or_else(|err| panic!("{err}: {text}"));
    let validator = validator_for(schema).unwrap();
    assert!(validator.is_valid(&value), "{value} does not validate");
}

/// What the model would say if it were left to itself.
const RAMBLES: &str = "";
const STOPS_EARLY: &str = "[[rule]]\nsay = \"{\"\n";
const LOOPS: &str = "[[rule]]\nsay = \"again and again \"\nno_eos = true\n";
const IN_PROSE: &str = "[[rule]]\nsay = \"Sure! Here is the JSON you asked for: it is lovely.\"\n";
const BLANKS: &str = "[[rule]]\nsay = \"\\n\\n\\n\"\nno_eos = true\n";
const THINKS: &str = "[[rule]]\nthink = \"They want a city.\"\nsay = \"Ulm, I would say.\"\n";
const OBEYS: &str =
    "[[rule]]\nsay = '{\"city\": \"Ulm\", \"inhabitants\": 126000, \"sights\": [\"Minster\"]}'\n";

#[rstest]
#[case::rambles(RAMBLES)]
#[case::stops_early(STOPS_EARLY)]
#[case::loops(LOOPS)]
#[case::in_prose(IN_PROSE)]
#[case::blanks(BLANKS)]
#[case::thinks(THINKS)]
#[tokio::test]
async fn an_answer_under_a_schema_validates_whatever_the_model_does(#[case] script: &str) {
    for release in RELEASES {
        let server = server(release, script);
        let chat = with_schema(Chat::user("Tell me about a city."));
        let whole = chat.ask(&server).await;
        assert_eq!(whole.finish(), "stop", "{}", whole.body);
        assert_valid(&schema(), whole.content());
        let events = chat.events(&server).await;
        assert_eq!(Sse::content(&events), whole.content(), "{release}");
        assert_eq!(server.trace().call_during_run(), None);

        // The next answer is untouched by all of it.
        let plain = Chat::user("Hello").with("max_tokens", 4).ask(&server).await;
        assert_eq!(plain.status, 200, "{}", plain.body);
        server.stop();
    }
}

#[tokio::test]
async fn a_model_that_obeys_is_not_interrupted() {
    let server = server("1.3.0", OBEYS);
    let answer = with_schema(Chat::user("Tell me about a city.")).ask(&server).await;
    let expected = json!({"city": "Ulm", "inhabitants": 126_000, "sights": ["Minster"]});
    assert_eq!(serde_json::from_str::<Value>(answer.content()).unwrap(), expected);
    assert!(server.trace().calls("rkllm_run") <= 2, "the run behind what the form begins with");
}

/// What the form demands counts too: an answer never has more tokens than were asked for.
#[rstest]
#[case::obeys(OBEYS)]
#[case::in_prose(IN_PROSE)]
#[case::stops_early(STOPS_EARLY)]
#[tokio::test]
async fn max_tokens_is_exact_under_a_form(#[case] script: &str) {
    let server = server("1.3.0", script);
    let chat = || with_schema(Chat::user("Tell me about a city.")).with("temperature", 0);
    let whole = chat().ask(&server).await;
    let tokens = |answer: &Answer| answer.body["usage"]["completion_tokens"].as_u64().unwrap();
    let all = tokens(&whole);
    for tokens_max in 1..=all {
        let answer = chat().with("max_tokens", tokens_max).ask(&server).await;
        assert!(tokens(&answer) <= tokens_max, "{tokens_max}: {}", answer.body);
        assert!(whole.content().starts_with(answer.content()), "{tokens_max}: {}", answer.body);
        match answer.finish() {
            "length" => assert_eq!(tokens(&answer), tokens_max, "{}", answer.body),
            _ => assert_eq!(answer.content(), whole.content(), "{tokens_max}"),
        }
    }
}

#[tokio::test]
async fn thoughts_come_before_the_form_and_are_none_of_it() {
    let server = server("1.3.0", THINKS);
    let answer = with_schema(Chat::user("Tell me about a city.")).ask(&server).await;
    assert_valid(&schema(), answer.content());
    let message = &answer.body["choices"][0]["message"];
    assert!(message["reasoning_content"].as_str().unwrap().contains("They want a city."));
    let reasoning = &answer.body["usage"]["completion_tokens_details"]["reasoning_tokens"];
    assert!(reasoning.as_u64().unwrap() > 2, "{reasoning}");
}

#[tokio::test]
async fn json_mode_gives_an_object() {
    let server = server("1.3.0", IN_PROSE);
    let format = json!({"type": "json_object"});
    let answer = Chat::user("JSON, please.").with("response_format", format).ask(&server).await;
    assert_eq!(answer.finish(), "stop");
    assert_valid(&json!({"type": "object"}), answer.content());
}

#[tokio::test]
async fn a_form_that_the_limit_cuts_is_a_length() {
    let server = server("1.3.0", LOOPS);
    let chat = with_schema(Chat::user("Tell me about a city.")).with("max_tokens", 3);
    let answer = chat.ask(&server).await;
    assert_eq!(answer.finish(), "length", "{}", answer.body);
    assert_eq!(answer.body["usage"]["completion_tokens"].as_u64().map(|n| n <= 8), Some(true));
}

#[tokio::test]
async fn a_schema_that_cannot_be_held_is_refused_by_its_keyword() {
    let server = server("1.3.0", RAMBLES);
    let schema = json!({"type": "array", "uniqueItems": true, "items": {"type": "object"}});
    let format = json!({"name": "x", "schema": schema});
    let chat = Chat::user("Hi")
        .with("response_format", json!({"type": "json_schema", "json_schema": format}));
    let answer = chat.ask(&server).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.error().contains("uniqueItems"), "{}", answer.error());
}

fn weather() -> Value {
    json!([{"type": "function", "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 30},
                "days": {"type": "integer", "minimum": 1, "maximum": 7}
            },
            "required": ["city", "days"],
            "additionalProperties": false
        }
    }}])
}

fn calls(answer: &Answer) -> &Vec<Value> {
    let calls = &answer.body["choices"][0]["message"]["tool_calls"];
    calls.as_array().unwrap_or_else(|| panic!("no calls: {}", answer.body))
}

#[rstest]
#[case::rambles(RAMBLES)]
#[case::in_prose(IN_PROSE)]
#[case::loops(LOOPS)]
#[case::thinks(THINKS)]
#[tokio::test]
async fn a_call_that_is_demanded_is_made_and_validates(#[case] script: &str) {
    let parameters = weather()[0]["function"]["parameters"].clone();
    let named = json!({"type": "function", "function": {"name": "get_weather"}});
    for choice in [json!("required"), named] {
        let server = server("1.3.0", script);
        let chat = Chat::user("How is the weather?")
            .with("tools", weather())
            .with("parallel_tool_calls", false)
            .with("tool_choice", choice);
        let answer = chat.ask(&server).await;
        assert_eq!(answer.finish(), "tool_calls", "{}", answer.body);
        let [call] = calls(&answer).as_slice() else { panic!("{}", answer.body) };
        assert_eq!(call["function"]["name"], "get_weather");
        assert_valid(&parameters, call["function"]["arguments"].as_str().unwrap());
        assert!(answer.body["choices"][0]["message"]["content"].is_null(), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_call_of_the_models_own_is_read_and_its_result_goes_back() {
    let script = "[[rule]]\nuser_contains = \"weather\"\nsay = \"Let me look. \"\n\
                  tool_call = { name = \"get_weather\", arguments = { city = \"L'Aquila\", days = 2 } }\n\
                  [[rule]]\nafter_tool = true\nsay = \"It will be sunny.\"\n";
    let server = server("1.3.0", script);
    let chat = Chat::user("How is the weather?").with("tools", weather());
    let answer = chat.ask(&server).await;
    assert_eq!(answer.finish(), "tool_calls", "{}", answer.body);
    let [call] = calls(&answer).as_slice() else { panic!("{}", answer.body) };
    let arguments: Value =
        serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"city": "L'Aquila", "days": 2}));

    let mut messages = chat.0["messages"].as_array().unwrap().clone();
    messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
    messages.push(json!({"role": "tool", "tool_call_id": call["id"], "content": "sunny"}));
    let next = chat.with("messages", messages).ask(&server).await;
    assert_eq!(next.content(), "It will be sunny.", "{}", next.body);
    assert_eq!(next.finish(), "stop");
}

#[tokio::test]
async fn thoughts_are_no_part_of_the_text() {
    let server = server("1.3.0", THINKS);
    let chat = Chat::user("Which city?");
    let answer = chat.ask(&server).await;
    assert_eq!(answer.content(), "Ulm, I would say.");
    assert_eq!(answer.body["choices"][0]["message"]["reasoning_content"], "They want a city.");
    let events = chat.events(&server).await;
    assert_eq!(Sse::content(&events), "Ulm, I would say.");
}

/// Two tools, of which one is strict.
fn two_tools() -> Value {
    let mut tools = weather_strict();
    let lax =
        json!({"type": "function", "function": {"name": "note", "parameters": {"type": "object"}}});
    tools.as_array_mut().unwrap().push(lax);
    tools
}

#[rstest]
#[case::wrong_arguments(
    "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"town\": \"Ulm\"}}\n</tool_call>"
)]
#[case::wrong_type(
    "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Ulm\", \"days\": \"many\"}}"
)]
#[case::cut("<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Ul")]
#[case::rambling("<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {and so on and on")]
#[tokio::test]
async fn a_call_of_a_strict_tool_validates_though_nothing_demands_it(#[case] call: &str) {
    let parameters = weather()[0]["function"]["parameters"].clone();
    for release in RELEASES {
        let said = json!(format!("Let me look. {call}"));
        let script = format!("[[rule]]\nuser_contains = \"weather\"\nsay = {said}\n");
        let server = server(release, &script);
        let chat = Chat::user("How is the weather?")
            .with("tools", two_tools())
            .with("parallel_tool_calls", false);
        let answer = chat.ask(&server).await;
        assert_eq!(answer.finish(), "tool_calls", "{}", answer.body);
        assert_eq!(answer.content(), "Let me look.");
        let [call] = calls(&answer).as_slice() else { panic!("{}", answer.body) };
        assert_eq!(call["function"]["name"], "get_weather");
        let arguments = call["function"]["arguments"].as_str().unwrap();
        assert_valid(&parameters, arguments);
        let events = chat.events(&server).await;
        assert_eq!(Sse::content(&events), "Let me look.");
        assert_eq!(server.trace().call_during_run(), None);
    }
}

#[tokio::test]
async fn calls_that_are_right_are_left_alone_and_text_too() {
    let script = "[[rule]]\nuser_contains = \"weather\"\n\
                  tool_call = { name = \"get_weather\", arguments = { city = \"Ulm\", days = 2 } }\n\
                  [[rule]]\nuser_contains = \"note\"\n\
                  tool_call = { name = \"note\", arguments = { anything = [1, 2] } }\n\
                  [[rule]]\nuser_contains = \"box\"\nsay = \"Use a <tool_box> or <tool_call\"\n";
    let server = server("1.3.0", script);
    for (question, name, arguments) in [
        ("How is the weather?", "get_weather", json!({"city": "Ulm", "days": 2})),
        ("Take a note.", "note", json!({"anything": [1, 2]})),
    ] {
        let answer = Chat::user(question).with("tools", two_tools()).ask(&server).await;
        assert_eq!(answer.finish(), "tool_calls", "{}", answer.body);
        let call = &calls(&answer)[0]["function"];
        assert_eq!(call["name"], name);
        let made: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
        assert_eq!(made, arguments);
    }
    let chat = Chat::user("What is in the box?").with("tools", two_tools());
    let answer = chat.ask(&server).await;
    assert_eq!(answer.content(), "Use a <tool_box> or <tool_call");
    assert_eq!(answer.finish(), "stop");
    // An answer in words is word for word what it is without a strict tool.
    let free = Chat::user("Tell me about the board").with("tools", weather()).ask(&server).await;
    let held =
        Chat::user("Tell me about the board").with("tools", weather_strict()).ask(&server).await;
    assert_eq!(held.content(), free.content());
    assert_eq!(held.body["usage"]["completion_tokens"], free.body["usage"]["completion_tokens"]);
}

fn weather_strict() -> Value {
    let mut tools = weather();
    tools[0]["function"]["strict"] = true.into();
    tools
}
