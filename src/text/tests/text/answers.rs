//! Answers as events: thoughts, text and calls, and calls that are demanded.

use rkllama_core::{Chat, Event, Message, Role, Tool, ToolCallPiece, ToolChoice};
use rkllama_text::{AnswerParser, Calls, Codec, Encoded, RenderOptions, ToolFormat};
use rstest::rstest;

use crate::support::{Tiny, real_codec, user};

fn tool(name: &str) -> Tool {
    Tool { name: name.to_owned(), description: None, parameters: None, strict: false }
}

fn with_tools(names: &[&str]) -> Chat {
    Chat { tools: names.iter().map(|name| tool(name)).collect(), ..user("Hi") }
}

/// A template that writes tools down and has these marks.
fn codec(marks: &str) -> Codec {
    let template = format!(
        "{{% for t in tools or [] %}}{{{{ t | tojson }}}}{{% endfor %}}{{# {marks} #}}\
         {{% for m in messages %}}{{{{ m.content }}}}\n{{% endfor %}}"
    );
    Tiny::chatml().template(&template).codec()
}

fn read(mut answer: AnswerParser, text: &str) -> (Vec<Event>, Calls) {
    let mut events: Vec<Event> = Vec::new();
    for c in text.chars() {
        events.extend(answer.push(c.encode_utf8(&mut [0; 4])));
    }
    events.extend(answer.finish());
    let mut joined: Vec<Event> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (Some(Event::Text(last)), Event::Text(more))
            | (Some(Event::Reasoning(last)), Event::Reasoning(more)) => *last += &more,
            (
                Some(Event::ToolCall(ToolCallPiece::Arguments { json: last, index: one })),
                Event::ToolCall(ToolCallPiece::Arguments { json: more, index: other }),
            ) if *one == other => *last += &more,
            (_, event) => joined.push(event),
        }
    }
    (joined, answer.calls())
}

fn text(text: &str) -> Event {
    Event::Text(text.to_owned())
}

fn reasoning(text: &str) -> Event {
    Event::Reasoning(text.to_owned())
}

fn begin(index: usize, name: &str) -> Event {
    Event::ToolCall(ToolCallPiece::Begin { index, name: name.to_owned() })
}

fn arguments(index: usize, json: &str) -> Event {
    Event::ToolCall(ToolCallPiece::Arguments { index, json: json.to_owned() })
}

const ANSWER: &str = "<think>\nA <tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>?\n</think>\n\nI look.\n\
    <tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"L'Aquila\"}}\n</tool_call>\n\
    <tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>";
const THOUGHT: &str = "A <tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>?";

/// F6, A4, A5: every call has an index, its name comes once, its arguments are JSON.
#[test]
fn thoughts_text_and_calls_come_in_order_and_a_call_in_a_thought_is_a_thought() {
    let codec = codec("<tool_call><think>");
    let answer = codec.answer(&with_tools(&["f", "g"]), false);
    let (events, calls) = read(answer, ANSWER);
    let expected = [
        reasoning(THOUGHT),
        text("I look."),
        begin(0, "f"),
        arguments(0, r#"{"a": "L'Aquila"}"#),
        begin(1, "g"),
        arguments(1, "{}"),
    ];
    assert_eq!(events, expected);
    assert_eq!(calls, Calls { made: 2, cut: false });
}

/// F7: with `tool_choice: none` and without tools nothing is a call.
#[test]
fn without_tools_nothing_is_a_call() {
    let codec = codec("<tool_call><think>");
    let none = Chat { tool_choice: ToolChoice::None, ..with_tools(&["f", "g"]) };
    for chat in [user("Hi"), none] {
        let (events, calls) = read(codec.answer(&chat, false), ANSWER);
        let said = &ANSWER[ANSWER.find("I look").unwrap()..];
        assert_eq!(events, [reasoning(THOUGHT), text(said)]);
        assert_eq!(calls.made, 0);
    }
}

#[test]
fn thoughts_that_are_not_wanted_apart_are_text_with_their_marks() {
    let codec = codec("<tool_call><think>");
    let chat = Chat { split_reasoning: false, ..with_tools(&["g"]) };
    let (events, calls) = read(codec.answer(&chat, true), "x</think>\n\ny");
    assert_eq!(events, [text("<think>\nx</think>\n\ny")]);
    assert_eq!(calls.made, 0);
    let (events, _) = read(codec.answer(&chat, false), ANSWER);
    let thought = format!("<think>\n{THOUGHT}\n</think>\n\nI look.");
    assert!(matches!(&events[0], Event::Text(text) if text.starts_with(&thought)), "{events:?}");
    assert_eq!(events[1..], [begin(0, "g"), arguments(0, "{}")]);
}

#[test]
fn one_call_is_the_end_where_only_one_is_allowed() {
    let codec = codec("<tool_call>");
    let chat = Chat { parallel_tool_calls: false, ..with_tools(&["f", "g"]) };
    let mut answer = codec.answer(&chat, false);
    let call = "<tool_call>{\"name\": \"g\", \"arguments\": {}}";
    assert_eq!(answer.push(call), [begin(0, "g"), arguments(0, "{}")]);
    assert!(answer.is_over());
    assert_eq!(answer.push("</tool_call>\n<tool_call>{\"name\": \"f\"}</tool_call> x"), []);
    assert_eq!(answer.finish(), []);
    assert_eq!(answer.calls(), Calls { made: 1, cut: false });
}

#[test]
fn a_cut_call_is_told() {
    let codec = codec("<tool_call>");
    let answer = codec.answer(&with_tools(&["f"]), false);
    let (events, calls) = read(answer, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"b");
    assert_eq!(events, [begin(0, "f"), arguments(0, "{\"a\": \"b")]);
    assert_eq!(calls, Calls { made: 0, cut: true });
}

#[test]
fn a_prompt_that_opens_a_thought_is_seen() {
    let template = |end: &str| format!("{{{{ messages[0].content }}}}</think>{end}");
    let thinking = |end: &str, content: &str| {
        let codec = Tiny::chatml().template(&template(end)).codec();
        codec.render(&user(content), &RenderOptions::default()).unwrap().is_thinking()
    };
    assert!(thinking("<|im_start|>assistant\n<think>\n", "Hi"));
    assert!(!thinking("<|im_start|>assistant\n<think>\n\n</think>\n\n", "Hi"));
    assert!(!thinking("<|im_start|>assistant\n", "<think>"));

    let codec =
        Tiny::chatml().template("{{ messages[0].content }} {{ messages[1].content }}<think>");
    let codec = codec.codec();
    for (content, thinking) in [("<think>Hm", true), ("<think>Hm</think> So", false), ("So", false)]
    {
        let mut chat = user("Hi");
        chat.messages.push(Message::new(Role::Assistant, content));
        chat.continue_last = true;
        let rendered = codec.render(&chat, &RenderOptions::default()).unwrap();
        assert_eq!(rendered.is_thinking(), thinking, "{content}");
        let prompt = codec.prompt(&chat, None, 1000).unwrap();
        assert_eq!(prompt.answer.is_thinking(), thinking, "{content}");
    }
}

/// F7: the beginning of a demanded call stands in the prompt, and the answer goes on from it.
#[test]
fn a_demanded_call_is_begun_in_the_prompt() {
    for format in ToolFormat::ALL {
        let files = Tiny::bare()
            .template("{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{{ messages[0].content }}|<think>\n")
            .files();
        let formats = rkllama_text::Formats { tools: Some(format), reasoning: None };
        let codec = Codec::with_formats(&files, formats).unwrap();
        let chat =
            Chat { tool_choice: ToolChoice::Named("g".to_owned()), ..with_tools(&["f", "g"]) };
        let prefix = codec.forced_prefix(&chat).unwrap();
        assert!(prefix.contains('g') && !prefix.ends_with(' '), "{format}: {prefix}");

        let prompt = codec.prompt(&chat, Some(&prefix), 10_000).unwrap();
        let rendered = codec.render(&chat, &RenderOptions::default()).unwrap();
        let Encoded::Whole(ids) = prompt.encoded else { panic!("{format}") };
        let begun = format!("{}\n</think>\n\n{prefix}", rendered.text());
        assert_eq!(ids, crate::support::bytes_as_ids(&begun), "{format}");
        assert_eq!(prompt.begun, [], "{format}: a call begins with its arguments");

        let rest = [" {\"a\": 1}", &format.form().end()].concat();
        let (events, calls) = read(prompt.answer, &rest);
        assert_eq!(events, [begin(0, "g"), arguments(0, "{\"a\": 1}")], "{format}");
        assert_eq!(calls, Calls { made: 1, cut: false });
    }
}

#[rstest]
#[case::free(ToolChoice::Auto, &["f", "g"], None)]
#[case::none(ToolChoice::None, &["f"], None)]
#[case::named(ToolChoice::Named("g".to_owned()), &["f", "g"], Some("<tool_call>\n{\"name\": \"g\", \"arguments\":"))]
#[case::the_only_one(ToolChoice::Required, &["f"], Some("<tool_call>\n{\"name\": \"f\", \"arguments\":"))]
#[case::any(ToolChoice::Required, &["f", "g"], Some("<tool_call>\n{\"name\": \""))]
fn what_is_demanded_decides_what_is_begun(
    #[case] tool_choice: ToolChoice,
    #[case] tools: &[&str],
    #[case] expected: Option<&str>,
) {
    let Some(codec) = real_codec("qwen3") else { return };
    let chat = Chat { tool_choice, ..with_tools(tools) };
    let prefix = codec.forced_prefix(&chat);
    assert_eq!(prefix.as_deref(), expected);
    let Some(prefix) = prefix else { return };
    // A real tokenizer, and thinking switched off by the template's own means.
    let prompt = codec.prompt(&chat, Some(&prefix), 10_000).unwrap();
    let Encoded::Whole(ids) = prompt.encoded else { panic!("too long") };
    assert!(ids.contains(&151_657), "<tool_call> is a token");
    let thinking_off = [151_667, 271, 151_668, 271];
    assert!(ids.windows(4).any(|window| window == thinking_off), "{ids:?}");
}

/// gpt-oss says in the head of each message what it is.
#[test]
fn messages_of_gpt_oss_become_thoughts_text_and_calls() {
    let codec = codec("<|channel|>commentary<|message|>");
    let chat = Chat { tool_choice: ToolChoice::Named("g".to_owned()), ..with_tools(&["f", "g"]) };
    let call =
        "<|channel|>commentary to=functions.g <|constrain|>json<|message|>{\"a\": 1}<|call|>";
    let answer = format!(
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.\
         <|end|><|start|>assistant{call}"
    );
    let called = [begin(0, "g"), arguments(0, "{\"a\": 1}")];
    let (events, calls) = read(codec.answer(&chat, false), &answer);
    assert_eq!(events[..2], [reasoning("Hm."), text("I look.")]);
    assert_eq!(events[2..], called);
    assert_eq!(calls, Calls { made: 1, cut: false });

    let prefix = codec.forced_prefix(&chat).unwrap();
    let prompt = codec.prompt(&chat, Some(&prefix), 1000).unwrap();
    assert_eq!(prompt.begun, []);
    assert_eq!(read(prompt.answer, call.strip_prefix(&prefix).unwrap()).0, called);
}

#[test]
fn a_prefix_of_the_answers_text_is_a_part_of_it() {
    let codec = codec("<tool_call>");
    let prompt = codec.prompt(&user("Hi"), Some("{\"a\":"), 100).unwrap();
    assert_eq!(prompt.begun, [text("{\"a\":")]);
}

#[test]
fn a_prompt_that_cannot_fit_is_told_without_rendering() {
    let codec = codec("<tool_call>");
    let chat = Chat::new(vec![Message::new(Role::Assistant, ""); 101]);
    let prompt = codec.prompt(&chat, Some("x"), 100).unwrap();
    assert_eq!(prompt.encoded, Encoded::TooLong { tokens_min: 101 });
}
