//! A body to fuzz: any bytes as an answer in any format, read whole and in pieces.
//!
//! It is an ordinary function, so that whatever makes bytes can drive it. Here that is the corpus
//! beside this file and proptest, which splices and damages what is in the corpus.

use std::{cell::RefCell, collections::HashMap, fs, path::Path, rc::Rc};

use proptest::prelude::*;
use rkllama_core::{Chat, Event, Tool, ToolCallPiece};
use rkllama_text::{AnswerParser, Codec, Formats, ReasoningFormat, ToolFormat};

use crate::support::{Tiny, user};

/// Reads an answer: the first two bytes choose the formats, the third whether it begins in a
/// thought, the fourth where it is cut into pieces; the rest is the answer.
fn answer_body(bytes: &[u8]) {
    let [tools, reasoning, thinking, cut, answer @ ..] = bytes else { return };
    let pick = |byte: &u8, count: usize| usize::from(*byte) % count;
    let formats = Formats {
        tools: Some(ToolFormat::ALL[pick(tools, ToolFormat::ALL.len())]),
        reasoning: Some(ReasoningFormat::ALL[pick(reasoning, ReasoningFormat::ALL.len())]),
    };
    let codec = codec(formats);
    let answer = String::from_utf8_lossy(answer);
    let thinking = thinking % 2 == 1;
    let whole = read(codec.answer(&chat(), thinking), [answer.as_ref()]);
    let cut = answer.floor_char_boundary(usize::from(*cut) * answer.len() / 255);
    let two = [&answer[..cut], &answer[cut..]];
    assert_eq!(read(codec.answer(&chat(), thinking), two), whole, "{formats:?}");
    let chars: Vec<String> = answer.chars().map(String::from).collect();
    let by_chars = read(codec.answer(&chat(), thinking), chars.iter().map(String::as_str));
    assert_eq!(by_chars, whole, "{formats:?}");
}

/// What came of an answer: thoughts, text, calls.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    thoughts: String,
    text: String,
    calls: Vec<(String, String)>,
}

fn read<'a>(mut answer: AnswerParser, pieces: impl IntoIterator<Item = &'a str>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut events: Vec<Event> = pieces.into_iter().flat_map(|piece| answer.push(piece)).collect();
    events.extend(answer.finish());
    for event in events {
        match event {
            Event::Reasoning(text) => outcome.thoughts += &text,
            Event::Text(text) => outcome.text += &text,
            Event::ToolCall(ToolCallPiece::Begin { index, name }) => {
                assert_eq!(index, outcome.calls.len(), "calls are counted from 0");
                assert!(["get_weather", "now"].contains(&name.as_str()), "{name} was not offered");
                outcome.calls.push((name, String::new()));
            }
            Event::ToolCall(ToolCallPiece::Arguments { index, json }) => {
                assert_eq!(index + 1, outcome.calls.len(), "arguments are those of the last call");
                outcome.calls[index].1 += &json;
            }
            other @ (Event::Started(_) | Event::Finished(_)) => panic!("{other:?}"),
        }
    }
    let calls = answer.calls();
    let is_object = |(_, json): &&(String, String)| {
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json).is_ok()
    };
    let complete = outcome.calls.iter().filter(is_object).count();
    assert!(complete >= calls.made, "{outcome:?}");
    assert_eq!(outcome.calls.len() > calls.made, calls.cut, "{outcome:?}");
    outcome
}

fn chat() -> Chat {
    let tool = |name: &str, parameters: Option<&str>| Tool {
        name: name.to_owned(),
        description: None,
        parameters: parameters.map(str::to_owned),
        strict: false,
    };
    let weather =
        r#"{"properties": {"location": {"type": "string"}, "days": {"type": "integer"}}}"#;
    Chat { tools: vec![tool("get_weather", Some(weather)), tool("now", None)], ..user("Hi") }
}

fn codec(formats: Formats) -> Rc<Codec> {
    type Codecs = HashMap<String, Rc<Codec>>;
    thread_local! {
        static CODECS: RefCell<Codecs> = RefCell::new(Codecs::new());
    }
    CODECS.with_borrow_mut(|codecs| {
        let codec = codecs.entry(format!("{formats:?}")).or_insert_with(|| {
            let files = Tiny::bare().template("{{ messages[0].content }}").files();
            Rc::new(Codec::with_formats(&files, formats).unwrap())
        });
        Rc::clone(codec)
    })
}

/// Answers as models and their users' tricks make them.
fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/text/corpus");
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn the_corpus_is_read_in_every_format() {
    let corpus = corpus();
    assert!(corpus.len() > 10);
    for answer in corpus {
        for tools in 0..ToolFormat::ALL.len() {
            for reasoning in [0, 1, ReasoningFormat::ALL.len() - 1] {
                let chosen =
                    [tools, reasoning, tools, tools * 11].map(|n| u8::try_from(n).unwrap());
                answer_body(&[&chosen, answer.as_slice()].concat());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 1000, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn damaged_and_spliced_answers_are_read(
        chosen in any::<[u8; 4]>(),
        parts in proptest::collection::vec(
            (any::<proptest::sample::Index>(), any::<proptest::sample::Index>(), any::<proptest::sample::Index>()),
            1..5,
        ),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
    ) {
        thread_local! {
            static CORPUS: Vec<Vec<u8>> = corpus();
        }
        let mut answer = Vec::new();
        CORPUS.with(|corpus| {
            for (file, from, to) in parts {
                let file = file.get(corpus);
                let (from, to) = (from.index(file.len() + 1), to.index(file.len() + 1));
                answer.extend_from_slice(&file[from.min(to)..from.max(to)]);
            }
        });
        for (at, byte) in damage {
            if !answer.is_empty() {
                let at = at.index(answer.len());
                answer[at] = byte;
            }
        }
        answer_body(&[chosen.as_slice(), &answer].concat());
    }
}
