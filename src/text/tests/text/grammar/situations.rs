//! Single situations in which a model needs help, and what it is given.

use std::sync::Arc;

use rkllama_core::TextFiles;
use rkllama_text::{
    Codec,
    grammar::{Call, Calls, Grammar, GrammarLimits, GrammarRun, Next, RunLimits},
};
use serde_json::{Value, json};

use super::{
    driver::{Said, Vocabulary, drive, drive_with},
    models::{Blind, Writer},
    schemas,
};

fn compile(schema: &Value) -> Grammar {
    Grammar::json_schema(&schema.to_string(), &GrammarLimits::default()).unwrap()
}

fn run(grammar: &Grammar, vocabulary: &Vocabulary) -> GrammarRun {
    GrammarRun::new(grammar, Arc::clone(&vocabulary.codec), RunLimits::default()).unwrap()
}

/// Gives a run a text token by token up to what is not `Continue`, with all text so far.
fn say(run: &mut GrammarRun, vocabulary: &Vocabulary, text: &str) -> (String, Next) {
    let mut given = String::new();
    for id in vocabulary.ids(text) {
        match run.token(id, vocabulary.bytes(id)).unwrap() {
            Next::Continue { text } => given.push_str(&text),
            next => return (given, next),
        }
    }
    (given, Next::Continue { text: String::new() })
}

fn weather() -> Calls<'static> {
    let call = |name: &str, arguments| Call {
        before: format!("{{\"name\": \"{name}\", \"arguments\": "),
        arguments,
        after: "}\n</tool_call>".to_owned(),
    };
    Calls {
        open: "<tool_call>\n".to_owned(),
        calls: vec![
            call(
                "get_weather",
                Some(
                    r#"{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": false}"#,
                ),
            ),
            call("get_weather_map", None),
            call(
                "stop",
                Some(r#"{"type": "object", "properties": {}, "additionalProperties": false}"#),
            ),
        ],
        between: None,
        close: String::new(),
    }
}

fn calls(calls: &Calls<'_>) -> Grammar {
    Grammar::calls(calls, &GrammarLimits::default()).unwrap()
}

#[test]
fn a_call_that_is_right_is_left_alone() {
    let vocabulary = Vocabulary::demo();
    for text in [
        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bonn\"}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"get_weather_map\", \"arguments\": {\"zoom\": [1, 2]}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"stop\", \"arguments\": {}}\n</tool_call>",
    ] {
        for with_opening in [true, false] {
            let mut model = Writer::new(&vocabulary, text);
            let grammar = calls(&weather());
            let outcome = drive_with(&grammar, &vocabulary, &mut model, 200, with_opening);
            assert_eq!((outcome.text.as_str(), outcome.restarts), (text, 0), "{outcome:?}");
            assert!(outcome.ended);
        }
    }
}

#[test]
fn the_end_of_a_call_needs_no_model() {
    let vocabulary = Vocabulary::demo();
    let mut run = run(&calls(&weather()), &vocabulary);
    let text = "<tool_call>\n{\"name\": \"stop\", \"arguments\": {}";
    let (given, next) = say(&mut run, &vocabulary, text);
    let Next::Finish { text: rest } = next else { panic!("{next:?}") };
    assert_eq!(given + &rest, format!("{text}}}\n</tool_call>"));
}

#[test]
fn a_named_tool_is_named_before_the_model_speaks() {
    let vocabulary = Vocabulary::demo();
    let mut only = weather();
    only.calls.truncate(1);
    let mut run = run(&calls(&only), &vocabulary);
    let Next::Restart { text, answer } = run.opening().unwrap() else { panic!("no opening") };
    assert_eq!(text, "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\":");
    assert_eq!(answer, vocabulary.ids(&text));
}

#[test]
fn a_model_that_only_talks_calls_a_tool_all_the_same() {
    let vocabulary = Vocabulary::demo();
    let mut ids = vocabulary.ids("I would rather not. ").into_iter().cycle();
    let mut model = Blind(move || Said::Token(ids.next().unwrap()));
    let outcome = drive(&calls(&weather()), &vocabulary, &mut model, 500);
    // It may talk in a string of an argument, endlessly.
    let text = outcome.completed.strip_prefix("<tool_call>\n").unwrap();
    let call: Value = serde_json::from_str(text.strip_suffix("\n</tool_call>").unwrap()).unwrap();
    assert!(call["name"].is_string() && call["arguments"].is_object(), "{call}");
}

#[test]
fn several_calls_end_where_the_model_ends() {
    let vocabulary = Vocabulary::demo();
    let several = Calls { between: Some("\n".to_owned()), open: String::new(), ..weather() };
    let one = "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bonn\"}}\n</tool_call>";
    let text = format!("{one}\n{one}\n{one}");
    let mut model = Writer::new(&vocabulary, &text);
    let outcome = drive_with(&calls(&several), &vocabulary, &mut model, 200, false);
    assert_eq!((outcome.text, outcome.restarts, outcome.ended), (text, 0, true));
}

#[test]
fn control_tokens_in_fixed_text_are_tokens_and_in_json_are_text() {
    let vocabulary = Vocabulary::demo();
    let arguments = r#"{"type": "object", "properties": {"a": {"const": "<|im_end|>"}}, "required": ["a"], "additionalProperties": false}"#;
    let only = Calls {
        open: "<|vision_start|>".to_owned(),
        calls: vec![Call {
            before: String::new(),
            arguments: Some(arguments),
            after: "<|vision_end|>".to_owned(),
        }],
        ..Calls::default()
    };
    let grammar = calls(&only);
    // The runtime gives no text for control tokens.
    let mut open = run(&grammar, &vocabulary);
    let control = vocabulary.tokenizer.token_to_id("<|vision_start|>").unwrap();
    let next = open.token(i32::try_from(control).unwrap(), b"").unwrap();
    assert_eq!(next, Next::Continue { text: "<|vision_start|>".to_owned() });

    let codec = Arc::clone(&vocabulary.codec);
    let none = RunLimits { restarts_max: 0, ..RunLimits::default() };
    let mut run = GrammarRun::new(&grammar, codec, none).unwrap();
    let Next::Finish { text } = run.end_of_sequence().unwrap() else { panic!("not ended") };
    assert_eq!(text, "<|vision_start|>{\"a\":\"<|im_end|>\"}<|vision_end|>");
    let ends = vocabulary.tokenizer.token_to_id("<|im_end|>").unwrap();
    let ids = run.answer();
    assert!(!ids.contains(&i32::try_from(ends).unwrap()), "{ids:?}");
    assert_eq!(ids.first(), Some(&i32::try_from(control).unwrap()));
}

#[test]
fn a_control_token_in_json_is_the_models_end() {
    let vocabulary = Vocabulary::demo();
    let mut run = run(&compile(&json!({"type": "integer"})), &vocabulary);
    assert_eq!(say(&mut run, &vocabulary, "42").1, Next::Continue { text: String::new() });
    let start = i32::try_from(vocabulary.tokenizer.token_to_id("<|im_start|>").unwrap()).unwrap();
    assert_eq!(run.token(start, b"<|im_start|>").unwrap(), Next::Finish { text: String::new() });
}

#[test]
fn what_follows_the_value_is_cut_off() {
    let vocabulary = Vocabulary::demo();
    for (schema, text, kept) in [
        (json!({"type": "object"}), "{\"a\": 1}\n```\nThat is all.", "{\"a\": 1}"),
        (json!({"type": "number"}), "3.5 apples", "3.5 "),
        (json!({"type": "string"}), "\"x\"\"y\"", "\"x\""),
        (json!({"enum": [null]}), "nullable", "null"),
    ] {
        let outcome = drive_with(
            &compile(&schema),
            &vocabulary,
            &mut Writer::new(&vocabulary, text),
            50,
            false,
        );
        assert_eq!((outcome.text.as_str(), outcome.restarts), (kept, 0), "{outcome:?}");
        assert!(outcome.ended);
    }
}

#[test]
fn blanks_before_the_value_are_legal_and_fences_are_not() {
    let vocabulary = Vocabulary::demo();
    let schema = compile(&schemas::person());
    let value = "{\"name\": \"A\", \"age\": 3, \"tags\": [], \"email\": null}";
    let mut model = Writer::new(&vocabulary, &format!("\n\n  {value}"));
    let outcome = drive_with(&schema, &vocabulary, &mut model, 100, false);
    assert_eq!((outcome.text, outcome.restarts), (format!("\n\n  {value}"), 0));

    let mut fenced = run(&schema, &vocabulary);
    let (_, next) = say(&mut fenced, &vocabulary, "```json\n{");
    let Next::Restart { text, .. } = next else { panic!("{next:?}") };
    assert_eq!(text, "{\"name\":");
}

#[test]
fn a_line_break_in_a_string_is_escaped_for_the_model() {
    let vocabulary = Vocabulary::demo();
    let mut run = run(&compile(&json!({"type": "string"})), &vocabulary);
    let (given, next) = say(&mut run, &vocabulary, "\"first\nsecond\"");
    let Next::Restart { text, .. } = next else { panic!("{next:?}") };
    assert!((given + &text).starts_with("\"first\\n"), "{text}");
}

#[test]
fn digits_do_not_go_on_forever() {
    let vocabulary = Vocabulary::demo();
    let schema = json!({"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"], "additionalProperties": false});
    for text in ["{\"a\":0.", "{\"a\":", "{\"a\":1e"] {
        let mut run = run(&compile(&schema), &vocabulary);
        say(&mut run, &vocabulary, text);
        let (given, next) = say(&mut run, &vocabulary, &"3".repeat(100));
        let Next::Finish { text } = next else { panic!("{next:?}") };
        assert!(given.len() + text.len() <= 40 && text.ends_with('}'), "{given}{text}");
    }
}

#[test]
fn a_key_in_another_spelling_is_the_same_key() {
    let vocabulary = Vocabulary::demo();
    let schema = json!({"type": "object", "properties": {"a": {"type": "number"}}});
    let mut run = run(&compile(&schema), &vocabulary);
    let (_, next) = say(&mut run, &vocabulary, "{\"\\u0061\": \"no number\"}");
    assert!(!matches!(next, Next::Continue { .. }), "{next:?}");
}

/// As the runtime does: no text inside an unfinished character, and maybe no id.
#[test]
fn tokens_without_text_or_id_are_found_again() {
    let vocabulary = Vocabulary::demo();
    let text = "\"漢字 🎉\"";
    for hide_ids in [false, true] {
        let mut run = run(&compile(&json!({"type": "string"})), &vocabulary);
        let (mut held, mut given, mut ended) = (Vec::new(), String::new(), false);
        for id in vocabulary.ids(text) {
            held.extend_from_slice(vocabulary.bytes(id));
            let whole = std::str::from_utf8(&held).is_ok();
            let bytes = if whole { std::mem::take(&mut held) } else { Vec::new() };
            let id = if hide_ids && !whole { -1 } else { id };
            match run.token(id, &bytes).unwrap() {
                Next::Continue { text } => given.push_str(&text),
                Next::Finish { text } => {
                    given.push_str(&text);
                    ended = true;
                }
                next @ Next::Restart { .. } => panic!("{next:?}"),
            }
        }
        assert!(ended);
        assert_eq!(given, text);
        assert_eq!(vocabulary.text(run.answer()), text);
    }
}

#[test]
fn what_is_put_in_is_tokenized_as_the_model_would() {
    let vocabulary = Vocabulary::demo();
    let mut run = run(&compile(&schemas::person()), &vocabulary);
    // Alone, the blank would be a token; behind a number it begins one.
    let beginning = "{\"name\": \"A\", \"age\": 1";
    say(&mut run, &vocabulary, beginning);
    let Next::Restart { text, answer } = run.end_of_sequence().unwrap() else { panic!("ended") };
    assert_eq!(text, ",\"tags\":");
    assert_eq!(answer, vocabulary.ids(&format!("{beginning}{text}")));
}

/// Llama 2 and its like put a blank before every text that they tokenize.
#[test]
fn no_blank_is_put_before_what_is_put_in() {
    let vocab: Vec<String> = ["<unk>", "</s>", "▁", "▁{", "{", "}", "\"", ":", "a", "▁a"]
        .into_iter()
        .map(str::to_owned)
        .chain((0..=255).map(|byte| format!("<0x{byte:02X}>")))
        .collect();
    let ids: serde_json::Map<String, Value> =
        vocab.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "pre_tokenizer": null,
        "added_tokens": [{"id": 1, "content": "</s>", "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false}],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "vocab": ids, "merges": ["▁ {", "▁ a"], "unk_token": "<unk>",
            "byte_fallback": true},
    });
    let config = json!({"chat_template": "{{ messages[0].content }}", "eos_token": "</s>"});
    let codec = Codec::new(&TextFiles {
        tokenizer: tokenizer.to_string().into_bytes(),
        tokenizer_config: Some(config.to_string().into_bytes()),
        ..TextFiles::default()
    });
    let schema =
        json!({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]});
    let codec = Arc::new(codec.unwrap());
    let mut run = GrammarRun::new(&compile(&schema), codec, RunLimits::default()).unwrap();
    let Next::Restart { text, answer } = run.opening().unwrap() else { panic!("no opening") };
    assert_eq!(text, "{\"a\":");
    let tokens: Vec<&str> =
        answer.iter().map(|id| vocab[usize::try_from(*id).unwrap()].as_str()).collect();
    assert_eq!(tokens, ["{", "\"", "a", "\"", ":"]);
}
