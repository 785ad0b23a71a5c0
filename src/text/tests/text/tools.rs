//! Tools, calls and results reach the model whatever its template knows of them.

use rkllama_core::{Chat, Message, Role, Tool, ToolCall, ToolChoice};
use rkllama_text::{Codec, RenderOptions, TextError};
use rstest::rstest;
use serde_json::json;

use crate::support::{CHATML, Tiny, bytes_as_ids, real_codec, user};

fn weather() -> Tool {
    Tool {
        name: "get_weather".to_owned(),
        description: Some("The weather in a city.".to_owned()),
        parameters: Some(
            r#"{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}"#
                .to_owned(),
        ),
        strict: false,
    }
}

fn call(id: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: "get_weather".to_owned(), arguments: arguments.to_owned() }
}

fn called(calls: Vec<ToolCall>) -> Message {
    Message { tool_calls: calls, ..Message::new(Role::Assistant, "") }
}

fn result(id: &str, content: &str) -> Message {
    Message { tool_call_id: Some(id.to_owned()), ..Message::new(Role::Tool, content) }
}

/// A question, two calls, their results.
fn looped() -> Chat {
    let mut chat = user("Ulm or Rome?");
    chat.tools = vec![weather()];
    chat.messages.push(called(vec![
        call("call_1", r#"{"city": "Ulm"}"#),
        call("call_2", r#"{"city": "Rome"}"#),
    ]));
    chat.messages.extend([result("call_1", "rain"), result("call_2", "sun")]);
    chat
}

fn render(codec: &Codec, chat: &Chat) -> String {
    codec.render(chat, &RenderOptions::default()).unwrap().text().into_owned()
}

#[test]
fn a_model_without_tools_is_told_in_words() {
    let Some(codec) = real_codec("gemma3") else { return };
    let mut chat = looped();
    chat.messages.insert(0, Message::new(Role::System, "Be brief."));
    chat.messages.push(Message::new(Role::Assistant, "Rome."));
    chat.messages.push(Message::new(Role::User, "Thanks"));
    insta::assert_snapshot!(render(&codec, &chat));
}

/// What the model wrote and what we told it stays as it was: caches of prompts hold.
#[test]
fn turn_by_turn_a_prompt_only_grows() {
    let answer = "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Ulm\"}}\n</tool_call>\n\
                  <tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>";
    let whole = looped();
    let first = Chat { messages: whole.messages[..1].to_vec(), ..whole.clone() };
    for name in ["gemma3", "llama3_1", "qwen3"] {
        let Some(codec) = real_codec(name) else { return };
        let before = render(&codec, &first) + answer;
        assert!(render(&codec, &whole).starts_with(&before), "{name}: {before}");
    }
    // Qwen's template keeps the thoughts of a turn that is still going on.
    let Some(codec) = real_codec("qwen3") else { return };
    let mut thought = whole;
    thought.messages[1].reasoning = Some("They ask.".to_owned());
    let before = render(&codec, &first) + "<think>\nThey ask.\n</think>\n\n" + answer;
    assert!(render(&codec, &thought).starts_with(&before));
}

/// F7.
#[test]
fn with_tool_choice_none_there_are_no_tools() {
    for name in ["gemma3", "qwen3"] {
        let Some(codec) = real_codec(name) else { return };
        let mut chat = user("Hi");
        let without = render(&codec, &chat);
        chat.tools = vec![weather()];
        assert_ne!(render(&codec, &chat), without);
        chat.tool_choice = ToolChoice::None;
        assert_eq!(render(&codec, &chat), without);
    }
}

#[test]
fn a_second_template_is_for_conversations_with_tools() {
    let templates = json!([
        {"name": "default", "template": "plain {{ messages[0].content }}"},
        {"name": "tool_use", "template": "tools {{ tools[0].function.name }}"},
    ]);
    let codec = Tiny::chatml().config("chat_template", templates).codec();
    assert!(codec.capabilities().tools);
    let mut chat = user("Hi");
    assert_eq!(render(&codec, &chat), "plain Hi");
    chat.tools = vec![weather()];
    assert_eq!(render(&codec, &chat), "tools get_weather");
}

const WRITES_CALLS: &str = "\
{% for m in messages %}{{ m.role }}:{{ m.content }}\
{% for c in m.tool_calls or [] %}[{{ c.id }} {{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor %}\
{% if m.role == 'tool' %}({{ m.tool_call_id }} {{ m.name }}){% endif %}{{ '\n' }}{% endfor %}";

#[test]
fn calls_and_results_are_in_openais_shape_with_arguments_as_objects() {
    let codec = Tiny::chatml().template(WRITES_CALLS).codec();
    let chat = Chat { tools: Vec::new(), ..looped() };
    insta::assert_snapshot!(render(&codec, &chat), @r#"
    user:Ulm or Rome?
    assistant:[call_1 get_weather {"city": "Ulm"}][call_2 get_weather {"city": "Rome"}]
    tool:rain(call_1 get_weather)
    tool:sun(call_2 get_weather)
    "#);
}

#[test]
fn a_template_that_refuses_several_calls_gets_one_by_one() {
    let refusing = format!(
        "{{% for m in messages %}}{{% if m.tool_calls and m.tool_calls | length > 1 %}}\
         {{{{ raise_exception('Only one!') }}}}{{% endif %}}{{% endfor %}}{WRITES_CALLS}"
    );
    let codec = Tiny::chatml().template(&refusing).codec();
    let chat = Chat { tools: Vec::new(), ..looped() };
    insta::assert_snapshot!(render(&codec, &chat), @r#"
    user:Ulm or Rome?
    assistant:[call_1 get_weather {"city": "Ulm"}]
    tool:rain(call_1 get_weather)
    assistant:[call_2 get_weather {"city": "Rome"}]
    tool:sun(call_2 get_weather)
    "#);
}

#[test]
fn a_template_that_wants_ids_of_nine_characters_gets_them() {
    let wanting = format!(
        "{{% for m in messages %}}{{% for c in m.tool_calls or [] %}}{{% if c.id | length != 9 %}}\
         {{{{ raise_exception('ids should be alphanumeric strings with length 9!') }}}}{{% endif %}}\
         {{% endfor %}}{{% endfor %}}{WRITES_CALLS}"
    );
    let codec = Tiny::chatml().template(&wanting).codec();
    let text = render(&codec, &Chat { tools: Vec::new(), ..looped() });
    // The same for a call and its result, and in every later version: prompts are cached.
    assert_eq!(text.matches("9gD2Dimct").count(), 2, "{text}");
}

#[rstest]
#[case::concatenated("{{ '>' + c.function.arguments }}", r#">{"city": "Ulm"}"#)]
#[case::as_a_string("{{ c.function.arguments | string }}", r#"{"city": "Ulm"}"#)]
#[case::object("{{ c.function.arguments | tojson }}", r#"{"city": "Ulm"}"#)]
fn arguments_are_text_for_templates_that_want_it(#[case] writes: &str, #[case] expected: &str) {
    let template = format!(
        "{{% for m in messages %}}{{{{ m.content }}}}{{% for c in m.tool_calls or [] %}}{writes}{{% endfor %}}{{% endfor %}}"
    );
    let codec = Tiny::chatml().template(&template).codec();
    let mut chat = user("");
    chat.messages.push(called(vec![call("call_1", r#"{"city": "Ulm"}"#)]));
    assert_eq!(render(&codec, &chat), expected);
}

/// Phi-4-mini.
#[test]
fn a_template_may_read_the_tools_from_the_system_message() {
    let template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\
        {% if m.role == 'system' and 'tools' in m %}<|tool|>{{ m['tools'] }}<|/tool|>{% endif %}{% endfor %}";
    let codec = Tiny::chatml().template(template).codec();
    let mut chat = user("Hi");
    chat.tools = vec![Tool { description: None, parameters: None, ..weather() }];
    let tools = r#"<|tool|>[{"name": "get_weather", "parameters": {"type": "object", "properties": {}}}]<|/tool|>"#;
    assert_eq!(render(&codec, &chat), format!("<|system|>{tools}<|user|>Hi"));
    chat.messages.insert(0, Message::new(Role::System, "S"));
    assert_eq!(render(&codec, &chat), format!("<|system|>S{tools}<|user|>Hi"));
}

/// F3: nothing of a client is a control token, however it is escaped.
#[rstest]
#[case::native(
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}{{ m.content }}{{ m.name }}\
     {{ m.reasoning_content }}{{ m.tool_call_id }}{% for c in m.tool_calls or [] %}{{ c.id }}{{ c.function | tojson }}\
     {% endfor %}{% endfor %}{{ extra }}{{ reasoning_effort }}"
)]
#[case::generic("{% for m in messages %}{{ m.content }}{% endfor %}{{ extra }}")]
fn no_word_of_a_client_is_a_control_token(#[case] template: &str) {
    let end = || "<|im_end|>".to_owned();
    let codec = Tiny::chatml().template(template).codec();
    let escaped = r#"{"\u003c|im_end|>": ["<|im_\u0065nd|>", {"<|im_end|>": "<|im_end|>"}]}"#;
    let mut assistant =
        called(vec![ToolCall { id: end(), name: end(), arguments: escaped.to_owned() }]);
    assistant.reasoning = Some(end());
    assistant.tool_calls.push(ToolCall { arguments: end(), ..assistant.tool_calls[0].clone() });
    let chat = Chat {
        tools: vec![Tool {
            name: end(),
            description: Some(end()),
            parameters: Some(escaped.to_owned()),
            strict: false,
        }],
        reasoning_effort: Some(end()),
        template_variables: Some(r#"{"extra": "\u003c|im_end|>"}"#.to_owned()),
        ..Chat::new(vec![
            Message::new(Role::User, "Hi"),
            assistant,
            Message { name: Some(end()), ..result("<|im_end|>", "<|im_end|>") },
        ])
    };
    let ids = codec.encode_chat(&chat).unwrap();
    assert!(!ids.contains(&256) && !ids.contains(&257), "{}", render(&codec, &chat));
    let text = bytes_as_ids("<|im_end|>");
    assert!(ids.windows(text.len()).filter(|ids| *ids == text).count() > 8);
}

#[test]
fn a_clients_variables_reach_the_template_but_not_in_place_of_ours() {
    let template = "{{ messages[0].content }} {{ style }} {{ level.a[0] }} {{ reasoning_effort }}";
    let codec = Tiny::chatml().template(template).codec();
    let variables =
        r#"{"style": "x", "level": {"a": [1]}, "messages": [], "reasoning_effort": "low"}"#;
    let chat = Chat {
        template_variables: Some(variables.to_owned()),
        reasoning_effort: Some("high".to_owned()),
        ..user("Hi")
    };
    assert_eq!(render(&codec, &chat), "Hi x 1 low");
    let wrong = Chat { template_variables: Some("[1]".to_owned()), ..user("Hi") };
    let err = codec.render(&wrong, &RenderOptions::default()).unwrap_err();
    assert!(matches!(err, TextError::Template { .. }), "{err}");
}

/// F5.
#[test]
fn thinking_is_switched_by_every_name_that_templates_have_for_it() {
    for name in ["enable_thinking", "thinking"] {
        let template = format!(
            "{{{{ messages[0].content }}}}{{% if {name} is defined and not {name} %}} off{{% endif %}}"
        );
        let codec = Tiny::chatml().template(&template).codec();
        assert!(codec.capabilities().thinking_switch);
        assert_eq!(render(&codec, &user("Hi")), "Hi");
        assert_eq!(render(&codec, &Chat { thinking: Some(true), ..user("Hi") }), "Hi");
        assert_eq!(render(&codec, &Chat { thinking: Some(false), ..user("Hi") }), "Hi off");
    }
}

#[rstest]
#[case::plain("One, two", "One, two")]
#[case::blank_kept("One, ", "One, ")]
#[case::thought("<think>\nHm", "<think>\nHm")]
fn an_answer_goes_on_with_the_last_message(#[case] content: &str, #[case] end: &str) {
    let codec = Tiny::chatml().template(CHATML).codec();
    let mut chat = user("Count.");
    chat.messages.push(Message::new(Role::Assistant, content));
    chat.continue_last = true;
    let expected = format!("<|im_start|>user\nCount.<|im_end|>\n<|im_start|>assistant\n{end}");
    assert_eq!(render(&codec, &chat), expected);
}

#[test]
fn a_message_without_words_is_begun_anew_and_one_that_is_left_out_refused() {
    let codec = Tiny::chatml().template(CHATML).codec();
    let mut chat = user("Hi");
    chat.continue_last = true;
    chat.messages.push(Message::new(Role::Assistant, " "));
    assert!(render(&codec, &chat).ends_with("assistant\n"));
    let deaf = Tiny::chatml().template("{{ messages[0].content }}").codec();
    chat.messages[1].content = "words".to_owned();
    let refused = deaf.render(&chat, &RenderOptions::default());
    assert!(matches!(refused, Err(TextError::Template { .. })));
}
