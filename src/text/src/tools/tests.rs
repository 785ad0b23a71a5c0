//! Every format, read whole and in pieces.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    Calls, Piece, ToolFormat, ToolParser,
    testing::{calls, tools, written},
};

/// An answer as it is read: text, calls with their arguments' JSON, and whether one is cut.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    text: String,
    calls: Vec<(String, String)>,
    cut: bool,
}

impl Answer {
    fn add(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => {
                    assert!(!text.is_empty());
                    self.text += &text;
                }
                Piece::Begin { name } => self.calls.push((name, String::new())),
                Piece::Arguments(json) => {
                    assert!(!json.is_empty());
                    self.calls.last_mut().unwrap().1 += &json;
                }
            }
        }
    }

    /// What must hold of any answer.
    fn checked(mut self, calls: Calls) -> Self {
        let Calls { made, cut } = calls;
        assert!(made + usize::from(cut) <= self.calls.len() + usize::from(cut));
        let complete = |(_, json): &&(String, String)| {
            serde_json::from_str::<Value>(json).is_ok_and(|value| value.is_object())
        };
        if !cut {
            assert_eq!(self.calls.len(), made);
            assert!(self.calls.iter().all(|call| complete(&call)), "{self:?}");
        }
        self.cut = cut;
        self
    }

    fn values(&self) -> Vec<(String, Value)> {
        let value = |(name, json): &(String, String)| {
            (name.clone(), serde_json::from_str(json).unwrap_or_else(|err| panic!("{json}: {err}")))
        };
        self.calls.iter().map(value).collect()
    }
}

fn read_pieces<'a>(format: ToolFormat, pieces: impl IntoIterator<Item = &'a str>) -> Answer {
    let mut parser = ToolParser::new(format, &tools());
    let mut answer = Answer::default();
    for piece in pieces {
        answer.add(parser.push(piece));
    }
    answer.add(parser.finish());
    answer.checked(parser.calls())
}

fn read(format: ToolFormat, text: &str) -> Answer {
    read_pieces(format, [text])
}

fn ulm() -> Vec<(String, Value)> {
    vec![("get_weather".to_owned(), json!({"location": "Ulm", "days": 2}))]
}

/// F6: calls in the model's own format.
#[test]
fn one_call_is_read_in_every_format() {
    for format in ToolFormat::ALL {
        let text = written(format, &ulm());
        let answer = read(format, &text);
        assert_eq!(answer.values(), ulm(), "{format}: {text}");
        assert_eq!(answer.text, "", "{format}: {text}");
    }
}

/// The form in which a call is forced is read by the family's own reader, from its beginning on.
#[test]
fn the_form_of_forced_calls_is_read_in_every_format() {
    for format in ToolFormat::ALL {
        let form = format.form();
        for arguments in
            [r#"{"location": "Ulm", "days": 2}"#, "{\n  \"location\": \"Ulm\",\n  \"days\": 2\n}"]
        {
            let text = [&form.begin("get_weather"), arguments, &form.end()].concat();
            let answer = read(format, &text);
            assert_eq!(
                answer.calls,
                [("get_weather".to_owned(), arguments.to_owned())],
                "{format}"
            );
            assert_eq!(answer.text, "", "{format}: {text}");
        }
        let several = form.write([("now", "{}"), ("get_weather", r#"{"days": 1}"#), ("now", "{}")]);
        let answer = read(format, &several);
        assert_eq!(answer.calls.len(), 3, "{format}: {several}");
        assert_eq!(answer.text, "", "{format}: {several}");
    }
}

const ANYWHERE: [ToolFormat; 16] = [
    ToolFormat::Hermes,
    ToolFormat::QwenXml,
    ToolFormat::Mistral,
    ToolFormat::MistralArgs,
    ToolFormat::Deepseek,
    ToolFormat::FunctionGemma,
    ToolFormat::Gemma4,
    ToolFormat::Phi4,
    ToolFormat::Functools,
    ToolFormat::Granite,
    ToolFormat::Internlm,
    ToolFormat::Minicpm,
    ToolFormat::Minicpm5,
    ToolFormat::Glm45,
    ToolFormat::Functionary,
    ToolFormat::GptOss,
];

#[test]
fn text_before_and_behind_calls_stays_text() {
    for format in ANYWHERE {
        let call = written(format, &ulm());
        let answer = read(format, &format!("Let me see.\n\n{call}\n\nThere < it [is]."));
        assert_eq!(answer.values(), ulm(), "{format}");
        assert_eq!(answer.text, "Let me see.\n\nThere < it [is].", "{format}");
        let answer = read(format, &format!("\n{call} Done."));
        assert_eq!((answer.text.as_str(), answer.calls.len()), ("Done.", 1), "{format}");
    }
}

#[test]
fn a_name_that_was_not_offered_is_text() {
    for format in ToolFormat::ALL {
        let text = written(format, &[("rm_rf".to_owned(), json!({"location": "/"}))]);
        let answer = read(format, &text);
        assert_eq!((answer.text.as_str(), answer.calls.len()), (text.as_str(), 0), "{format}");
    }
}

#[test]
fn a_call_without_its_last_marks_is_complete() {
    for format in ToolFormat::ALL {
        let text = written(format, &ulm());
        let last = text.rfind('2').unwrap();
        // Formats whose arguments end with the call need its end.
        let end = text[last..].find(['}', ')']).map_or(text.len(), |at| last + at + 1);
        for end in (end..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let answer = read(format, &text[..end]);
            assert_eq!(answer.values(), ulm(), "{format}: {}", &text[..end]);
            assert_eq!(answer.text, "", "{format}: {}", &text[..end]);
        }
    }
}

/// RL lost truncated JSON: what has come of a cut call stays, and nothing is made up.
#[test]
fn a_call_that_is_cut_is_told() {
    for format in ToolFormat::ALL {
        let text = written(format, &ulm());
        for (end, _) in text.char_indices() {
            let answer = read(format, &text[..end]);
            match answer.calls.as_slice() {
                [] => assert_eq!(answer.text, text[..end], "{format}"),
                [(name, json)] => {
                    assert_eq!(name, "get_weather");
                    assert_eq!(answer.text, "", "{format}: {}", &text[..end]);
                    let complete = serde_json::from_str::<Value>(json).is_ok();
                    assert_eq!(answer.cut, !complete, "{format}: {json}");
                }
                _ => panic!("{format}: {answer:?}"),
            }
        }
    }
}

/// F6: plain text is not delayed. A4: what flows joins to valid JSON.
#[test]
fn arguments_flow_as_they_come() {
    for format in ToolFormat::ALL {
        let calls =
            [("get_weather".to_owned(), json!({"location": "L'Aquila and its \"old\" town"}))];
        let text = written(format, &calls);
        let mut parser = ToolParser::new(format, &tools());
        let mut fragments = 0;
        for c in text.chars() {
            let pieces = parser.push(c.encode_utf8(&mut [0; 4]));
            fragments += pieces.iter().filter(|p| matches!(p, Piece::Arguments(_))).count();
        }
        assert!(fragments > 20, "{format}: {fragments}");
    }
}

#[test]
fn plain_text_is_held_back_no_longer_than_an_opener() {
    let text = "Sure: < [ { ( f(x) = 1 ] } <tool [TOOL <func ``` no call.";
    for format in ToolFormat::ALL {
        let longest = format.family().openers.iter().map(|o| o.len()).max().unwrap_or(0);
        let mut parser = ToolParser::new(format, &tools());
        let mut shown = 0;
        for (at, c) in text.char_indices() {
            for piece in parser.push(c.encode_utf8(&mut [0; 4])) {
                let Piece::Text(text) = piece else { panic!("{format}: {piece:?}") };
                shown += text.len();
            }
            assert!(at + 1 - shown <= longest.max(1), "{format}: {}", &text[shown..=at]);
        }
    }
}

#[rstest]
#[case::qwen_list(ToolFormat::Hermes, r#"<tool_call>[{"name": "now", "arguments": {}}, {"name": "now", "arguments": {}}]</tool_call>"#, 2, "")]
#[case::two_in_one_tag(
    ToolFormat::Hermes,
    "<tool_call>\n{\"name\": \"now\"}\n{\"name\": \"now\"}\n</tool_call>",
    2,
    ""
)]
#[case::no_blanks(
    ToolFormat::Hermes,
    r#"<tool_call>{"name":"now","arguments":{}}</tool_call><tool_call>{"name":"now"}</tool_call>"#,
    2,
    ""
)]
#[case::fenced(
    ToolFormat::Hermes,
    "<tool_call>\n```json\n{\"name\": \"now\", \"arguments\": {}}\n```\n</tool_call> ok",
    1,
    "ok"
)]
#[case::brace_too_many(
    ToolFormat::Hermes,
    "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}}\n</tool_call>",
    1,
    ""
)]
#[case::brace_missing(
    ToolFormat::Hermes,
    "<tool_call>\n{\"name\": \"now\", \"arguments\": {}\n</tool_call>",
    1,
    ""
)]
#[case::mentioned(
    ToolFormat::Hermes,
    "Write <tool_call> and then <tool_call>\n{\"name\": \"now\"}\n</tool_call>",
    1,
    "Write <tool_call> and then"
)]
#[case::openai(ToolFormat::Hermes, r#"<tool_call>{"id": "x", "type": "function", "function": {"name": "now", "arguments": "{}"}}</tool_call>"#, 1, "")]
#[case::xml_in_hermes(
    ToolFormat::Hermes,
    "<tool_call><function=now></function></tool_call>",
    1,
    ""
)]
#[case::no_outer_tag(ToolFormat::QwenXml, "<function=now>\n</function>", 1, "")]
#[case::json_in_xml(
    ToolFormat::QwenXml,
    "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>",
    1,
    ""
)]
#[case::tagged(
    ToolFormat::Llama3,
    r#"<|python_tag|>{"name": "now", "parameters": {}}; {"name": "now", "parameters": {}}"#,
    2,
    ""
)]
#[case::line_by_line(ToolFormat::Llama3, "{\"name\": \"now\"}\n{\"name\": \"now\"}", 2, "")]
#[case::function_tag(ToolFormat::Llama3, "<function=now>{}</function>", 1, "")]
#[case::with_type(
    ToolFormat::Llama3,
    r#"{"type": "function", "name": "now", "parameters": {}}"#,
    1,
    ""
)]
#[case::prose_first(
    ToolFormat::Llama3,
    r#"Call: {"name": "now", "parameters": {}}"#,
    0,
    r#"Call: {"name": "now", "parameters": {}}"#
)]
#[case::built_in(ToolFormat::Llama3, "<|python_tag|>get_weather.call(location=\"Ulm\")", 1, "")]
#[case::an_answer_in_json(
    ToolFormat::Llama3,
    r#"{"name": "Ulm", "people": [1]}"#,
    0,
    r#"{"name": "Ulm", "people": [1]}"#
)]
#[case::behind_calls(
    ToolFormat::Llama3,
    r#"{"name": "now"} That is {all}; done"#,
    1,
    "That is {all}; done"
)]
#[case::positional(ToolFormat::Pythonic, "[get_weather('Ulm', 3, exact=True)]", 1, "")]
#[case::a_citation(ToolFormat::Pythonic, "[1] and [now]", 0, "[1] and [now]")]
#[case::json_list(ToolFormat::Pythonic, r#"[{"name": "now", "arguments": {}}]"#, 1, "")]
#[case::broken_in_the_middle(ToolFormat::Pythonic, "[now(), nix()] x", 1, ", nix()] x")]
#[case::nemo(
    ToolFormat::Mistral,
    r#"[TOOL_CALLS][{"name": "now", "arguments": {}, "id": "abcdefghi"}]"#,
    1,
    ""
)]
#[case::new_in_old(
    ToolFormat::Mistral,
    "[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]now[CALL_ID]abc123[ARGS]{}",
    2,
    ""
)]
#[case::blank_behind(
    ToolFormat::Mistral,
    "Yes [TOOL_CALLS] [{\"name\": \"now\", \"arguments\": {}}] !",
    1,
    "Yes !"
)]
#[case::v31(
    ToolFormat::Deepseek,
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    1,
    ""
)]
#[case::only_the_inner_mark(
    ToolFormat::Deepseek,
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>",
    1,
    ""
)]
#[case::one_object(
    ToolFormat::Phi4,
    r#"<|tool_call|>{"name": "now", "arguments": {}}<|/tool_call|>"#,
    1,
    ""
)]
#[case::functools(ToolFormat::Phi4, r#"functools[{"name": "now", "arguments": {}}]"#, 1, "")]
#[case::the_module(
    ToolFormat::Functools,
    "functools.wraps is Python's",
    0,
    "functools.wraps is Python's"
)]
#[case::firefunction_1(
    ToolFormat::Functools,
    r#"<functioncall> {"name": "now", "arguments": "{}"}"#,
    1,
    ""
)]
#[case::arguments_first(
    ToolFormat::Internlm,
    "<|action_start|><|plugin|>\n{\"parameters\": {\"a\": 1}, \"name\": \"now\"}<|action_end|>\n",
    1,
    ""
)]
#[case::ended_by_what_follows(
    ToolFormat::Internlm,
    "<|action_start|><|plugin|>\n{\"name\": \"now\", \"parameters\": null\"a\"}",
    1,
    "\"a\"}"
)]
#[case::list_of_python(
    ToolFormat::Minicpm,
    "<|tool_call_start|>[now(), now()]<|tool_call_end|>",
    2,
    ""
)]
#[case::chatglm3(ToolFormat::Glm4, "get_weather\n```python\ntool_call(location='Ulm')\n```", 1, "")]
#[case::chatglm3_two(
    ToolFormat::Glm4,
    "get_weather\n```python\ntool_call(location=\"Ulm\")\n```\nnow\n```python\ntool_call()\n```",
    2,
    ""
)]
#[case::glm_prose(ToolFormat::Glm4, "now is the time", 0, "now is the time")]
#[case::glm_prose_line(ToolFormat::Glm4, "now\nis the time", 0, "now\nis the time")]
#[case::glm_two(ToolFormat::Glm4, "now\n{}\nnow\n{}", 2, "")]
#[case::glm45_empty(ToolFormat::Glm45, "<tool_call>now\n</tool_call>", 1, "")]
#[case::glm45_one_line(
    ToolFormat::Glm45,
    "<tool_call>get_weather<arg_key>location</arg_key><arg_value>Ulm</arg_value></tool_call>",
    1,
    ""
)]
#[case::functionary_text(ToolFormat::Functionary3, "all\nHello.", 0, "Hello.")]
#[case::functionary_both(
    ToolFormat::Functionary3,
    "all\nLet me see.\n>>>now\n{}>>>get_weather\n{\"days\": 1}",
    2,
    "Let me see."
)]
#[case::functionary_tag(ToolFormat::Functionary3, ">>>all\nHello >>> you", 0, "Hello >>> you")]
#[case::xlam_fenced(
    ToolFormat::Xlam,
    "```json\n[{\"name\": \"now\", \"arguments\": {}}]\n```",
    1,
    ""
)]
#[case::no_result(ToolFormat::Xlam, "[]", 0, "[]")]
#[case::generic_whole(ToolFormat::Generic, r#" {"name": "now", "arguments": {}} "#, 1, "")]
#[case::generic_fenced(
    ToolFormat::Generic,
    "```json\n{\"name\": \"now\", \"parameters\": {}}\n```\n",
    1,
    ""
)]
#[case::generic_code(
    ToolFormat::Generic,
    "```json\n{\"a\": 1}\n```\n",
    0,
    "```json\n{\"a\": 1}\n```\n"
)]
#[case::quoted_keys(
    ToolFormat::FunctionGemma,
    "<start_function_call>call:get_weather{\"location\": \"Ulm\"}<end_function_call>",
    1,
    ""
)]
#[case::bare_text(
    ToolFormat::FunctionGemma,
    "<start_function_call>call:get_weather{location:New York}<end_function_call>",
    1,
    ""
)]
fn variants_are_read(
    #[case] format: ToolFormat,
    #[case] text: &str,
    #[case] calls: usize,
    #[case] expected: &str,
) {
    let answer = read(format, text);
    assert_eq!((answer.calls.len(), answer.text.as_str()), (calls, expected), "{answer:?}");
    assert!(!answer.cut);
}

#[rstest]
#[case::text_stays_text("location", "007", json!("007"))]
#[case::literal_text("location", "true", json!("true"))]
#[case::lines("location", "a\n\nb\n", json!("a\n\nb\n"))]
#[case::integer("days", " 7 ", json!(7))]
#[case::no_integer("days", "seven", json!("seven"))]
#[case::boolean("exact", "True", json!(true))]
#[case::null("nothing", "None", json!(null))]
#[case::null_or_list("list", "null", json!(null))]
#[case::list("list", "['a', 1]", json!(["a", 1]))]
#[case::object("place", "{\"a\": {\"b\": []}}", json!({"a": {"b": []}}))]
#[case::open_number("open", "7.5", json!(7.5))]
#[case::open_text("open", "seven", json!("seven"))]
#[case::open_object("open", "{'a': None}", json!({"a": null}))]
#[case::unknown("else", "[1]", json!([1]))]
fn values_without_quotes_are_what_the_schema_says(
    #[case] key: &str,
    #[case] value: &str,
    #[case] expected: Value,
) {
    let text = format!(
        "<tool_call>\n<function=get_weather>\n<parameter={key}>\n{value}\n</parameter>\n</function>\n</tool_call>"
    );
    assert_eq!(read(ToolFormat::QwenXml, &text).values()[0].1[key], expected);
}

#[test]
fn a_broken_call_is_cut_and_what_follows_is_text() {
    let answer = read(
        ToolFormat::Hermes,
        "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\" 1}}</tool_call>",
    );
    assert!(answer.cut);
    assert_eq!(answer.calls, [("now".to_owned(), "{\"a\" ".to_owned())]);
    assert_eq!(answer.text, "1}}</tool_call>");
}

#[test]
fn what_is_no_call_for_too_long_is_text() {
    let text = format!("<tool_call>{{\"x\": \"{}", "<tool_call>{\"".repeat(4000));
    let mut parser = ToolParser::new(ToolFormat::Hermes, &tools());
    let mut answer = Answer::default();
    answer.add(parser.push(&format!("<tool_call>{{\"x\": \"{}", "long ".repeat(10_000))));
    assert!(answer.text.len() > 40_000, "shown before the end");
    assert_eq!(read(ToolFormat::Hermes, &text).text, text);
}

#[test]
fn an_answer_of_one_call_is_over_with_it() {
    let text = written(ToolFormat::Hermes, &[ulm(), ulm()].concat());
    let mut parser = ToolParser::new(ToolFormat::Hermes, &tools()).single();
    let mut answer = Answer::default();
    answer.add(parser.push(&text));
    assert!(parser.is_over());
    answer.add(parser.push(" and more"));
    answer.add(parser.finish());
    assert_eq!(answer.checked(parser.calls()).values(), ulm());
}

fn formats() -> impl Strategy<Value = ToolFormat> {
    proptest::sample::select(ToolFormat::ALL.to_vec())
}

/// Answers that are nearly in the format: marks, parts of calls, and words.
fn garbage(format: ToolFormat) -> impl Strategy<Value = String> {
    let family = format.family();
    let mut marks: Vec<&str> = [family.openers, family.first, family.closers].concat();
    marks.extend(format.marks());
    marks.extend(["get_weather", "now", "rm", "\"name\": ", "\"arguments\": ", "{", "}", "[", "]"]);
    marks.extend(["(", ")", "\"", "'", ":", ",", ";", "=", "\\", "\n", " ", ">", "all\n", "call:"]);
    marks.extend([
        "<parameter=days>",
        "</parameter>",
        "<arg_key>",
        "<arg_value>",
        "1",
        "null",
        "é",
    ]);
    marks.extend(["{\"name\": \"now\", \"arguments\": {}}", "now()", "```json\n", "function"]);
    let mark = proptest::sample::select(marks).prop_map(str::to_owned);
    let call = calls().prop_map(move |calls| written(format, &calls));
    let part = (calls(), any::<proptest::sample::Index>()).prop_map(move |(calls, at)| {
        let text = written(format, &calls);
        text.chars().take(at.index(text.chars().count() + 1)).collect()
    });
    let piece = prop_oneof![8 => mark, 1 => call, 2 => part, 1 => "[a-z ]{0,4}"];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 1000, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn calls_written_in_a_format_are_read_back(
        (format, calls) in (formats(), calls()),
    ) {
        let text = written(format, &calls);
        let answer = read(format, &text);
        prop_assert_eq!(answer.values(), calls, "{}: {}", format, text);
        prop_assert_eq!(answer.text, "", "{}: {}", format, text);
    }

    #[test]
    fn any_split_of_any_text_gives_the_same(
        (format, text) in formats().prop_flat_map(|format| (Just(format), garbage(format))),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
    ) {
        let mut cuts: Vec<usize> =
            cuts.iter().map(|cut| text.floor_char_boundary(cut.index(text.len() + 1))).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]);
        prop_assert_eq!(read_pieces(format, pieces), read(format, &text));
    }

    #[test]
    fn a_text_without_calls_passes_as_it_is(
        (format, text) in formats().prop_flat_map(|format| (Just(format), garbage(format))),
    ) {
        // There, that is a mark.
        prop_assume!(format != ToolFormat::Functionary3 || !text.contains("all\n"));
        let answer = read(format, &text);
        if answer.calls.is_empty() {
            prop_assert_eq!(answer.text, text, "{}", format);
        }
    }
}
