use proptest::prelude::*;
use rkllama_core::{Message, Role};
use rstest::rstest;
use serde_json::{Value, json};

use super::{Dialect, Recipe};

fn parameters(recipe: &Recipe) -> Value {
    Value::Object(recipe.parameters.iter().cloned().collect())
}

#[test]
fn ollamas_dialect_is_read_as_its_client_reads_it() {
    let text = "# A comment\nfrom ./a b.rkllm\r\nSYSTEM \"\"\"Be\nbrief.\"\"\"\nTEMPLATE \"{{ .Prompt }}\n# text\"\n\
        LICENSE MIT\nLICENSE \"\"\"\nAnd more\"\"\"\n  PARAMETER temperature 0.7\nPARAMETER top_k 1\n\
        PARAMETER top_k 20\nPARAMETER stop \"<|end|>\"\nPARAMETER stop END # not a comment\n\
        PARAMETER use_mmap T\nPARAMETER mirostat 1\nMESSAGE user Hi = there\nmessage assistant \"Yes?\"\n\
        RENDERER qwen3\nREQUIRES 0.14.0\nADAPTER ./lora";
    let recipe = Recipe::parse(text).unwrap();
    assert_eq!(recipe.from, "./a b.rkllm");
    assert_eq!(recipe.system.as_deref(), Some("Be\nbrief."));
    assert_eq!(recipe.template.as_deref(), Some("{{ .Prompt }}\n# text"));
    assert_eq!(recipe.licenses, ["MIT", "\nAnd more"]);
    assert_eq!(recipe.adapters, ["./lora"]);
    let stop = ["<|end|>", "END # not a comment"];
    let expected = json!({"temperature": 0.7, "top_k": 20, "stop": stop, "use_mmap": true});
    assert_eq!(parameters(&recipe), expected);
    let turns = [Message::new(Role::User, "Hi = there"), Message::new(Role::Assistant, "Yes?")];
    assert_eq!(recipe.messages, turns);
    assert_eq!(
        recipe.warnings,
        [
            "warning: parameter mirostat is deprecated",
            "warning: RENDERER has no effect here",
            "warning: REQUIRES has no effect here",
        ]
    );
}

#[test]
fn lines_of_keys_and_values_are_read_as_the_servers_read_them() {
    let text = "# c\nFROM=\"a b.rkllm\"\nHUGGINGFACE_PATH=\"org/repo\"\nSYSTEM=\"Be\nbrief.\"\nTEMPERATURE=0.7\n\
        NUM_CTX=131072\nMAX_NEW_TOKENS=-1 # all\nTOP_K=\nENABLE_THINKING=False\n???\nLICENSE='MIT'\n\
        PARAMETER stop END\n";
    let recipe = Recipe::parse(text).unwrap();
    assert_eq!((recipe.from.as_str(), recipe.system.as_deref()), ("a b.rkllm", Some("Be\nbrief.")));
    assert_eq!(recipe.base_repository.as_deref(), Some("org/repo"));
    assert_eq!(recipe.licenses, ["MIT"]);
    let expected =
        json!({"temperature": 0.7, "num_ctx": 131_072, "num_predict": -1, "stop": ["END"]});
    assert_eq!(parameters(&recipe), expected);
}

#[rstest]
#[case::empty("", "no FROM line")]
#[case::no_from("SYSTEM Hi", "no FROM line")]
#[case::no_from_key("TEMPERATURE=1", "no FROM line")]
#[case::command(
    "FROM x\n\nHELLO world",
    "(line 3): command must be one of \"from\", \"license\", \"template\", \"system\", \"adapter\", \"draft\", \
     \"renderer\", \"parser\", \"parameter\", \"message\", or \"requires\""
)]
#[case::role(
    "FROM x\nMESSAGE boss Go",
    "(line 2): message role must be one of \"system\", \"user\", or \"assistant\""
)]
#[case::parameter("FROM x\nPARAMETER speed 1", "(line 2): unknown parameter 'speed'")]
#[case::float("FROM x\nPARAMETER top_p warm", "(line 2): invalid float value [warm]")]
#[case::no_number("FROM x\nPARAMETER top_p NaN", "(line 2): invalid float value [NaN]")]
#[case::int("FROM x\nPARAMETER top_k 1.5", "(line 2): invalid int value [1.5]")]
#[case::bool("FROM x\nPARAMETER use_mmap yes", "(line 2): invalid bool value [yes]")]
#[case::open("FROM x\nSYSTEM \"\"\"Hi\nthere\"", "unexpected EOF")]
#[case::open_short("FROM x\nSYSTEM \"Hi\n", "unexpected EOF")]
#[case::version("FROM x\nREQUIRES soon", "(line 2): requires must be a valid semver (e.g. 0.14.0)")]
#[case::nothing("FROM", "(line 1): FROM needs a value")]
#[case::nothing_of("FROM x\nPARAMETER top_k", "(line 2): PARAMETER top_k needs a value")]
#[case::key_number(
    "FROM=x\nTEMPERATURE=warm",
    "Modelfile line 2, TEMPERATURE: \"warm\" is not a number"
)]
#[case::key_count(
    "FROM=x\n\nTOP_K=1.5",
    "Modelfile line 3, TOP_K: \"1.5\" is not a whole number from 0"
)]
#[case::key_nan("FROM=x\nTOP_P=NaN", "Modelfile line 2, TOP_P: \"NaN\" is not a number")]
fn what_is_wrong_is_said(#[case] text: &str, #[case] error: &str) {
    assert_eq!(Recipe::parse(text).unwrap_err(), error);
}

#[test]
fn wide_texts_are_read() {
    let units = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        "\u{feff}FROM é\n".encode_utf16().flat_map(order).collect()
    };
    for bytes in
        [units(u16::to_le_bytes), units(u16::to_be_bytes), "\u{feff}FROM é".as_bytes().to_vec()]
    {
        assert_eq!(Recipe::parse_bytes(&bytes).unwrap().from, "é");
    }
    assert!(Recipe::parse_bytes(&[0xc0, 0x80]).unwrap_err().contains("UTF-8"));
}

#[rstest]
#[case::blank_ends(" a ")]
#[case::quote("\"a")]
#[case::quoted("\"a\"")]
#[case::lines("a\nb\n")]
#[case::comment("# a #")]
#[case::single("it's")]
#[case::backslash("a\\")]
#[case::quotes_inside("say \"\"\"so\"\"\" now")]
fn a_value_is_written_so_that_it_is_read(#[case] value: &str) {
    let recipe = Recipe { from: "x".into(), system: Some(value.to_owned()), ..Recipe::default() };
    for dialect in [Dialect::Ollama, Dialect::Rkllama] {
        let text = recipe.print(dialect);
        if let Ok(text) = &text {
            assert_eq!(Recipe::parse(text).as_ref(), Ok(&recipe), "{text}");
        }
        // Nothing ends a text in quotes but the quotes, which only one dialect can hide.
        let is_hard = dialect == Dialect::Rkllama && (value.contains('"') || value.ends_with('\\'));
        assert!(text.is_ok() || is_hard, "{text:?}");
    }
}

#[test]
fn what_a_dialect_cannot_say_is_named() {
    let of = |change: fn(&mut Recipe)| {
        let mut recipe = Recipe { from: "x".to_owned(), ..Recipe::default() };
        change(&mut recipe);
        recipe
    };
    let turns = of(|it| it.messages.push(Message::new(Role::User, "Hi")));
    assert!(turns.print(Dialect::Rkllama).unwrap_err().contains("messages"));
    let stop = of(|it| it.parameters.push(("stop".to_owned(), json!(["a"]))));
    assert!(stop.print(Dialect::Rkllama).unwrap_err().contains("\"stop\""));
    let base = of(|it| it.base_repository = Some("org/repo".to_owned()));
    assert!(base.print(Dialect::Ollama).unwrap_err().contains("HUGGINGFACE_PATH"));
    let kind = of(|it| it.model_type = Some("embed".to_owned()));
    assert!(kind.print(Dialect::Ollama).unwrap_err().contains("MODEL_TYPE"));
    let tail = of(|it| it.system = Some("a\n\"\"\"\nb".to_owned()));
    assert_eq!(tail.print(Dialect::Ollama).unwrap_err(), "the value of SYSTEM cannot be written");
}

fn value() -> impl Strategy<Value = String> {
    let pieces =
        vec!["a", "é", " ", "\n", "\t", "\"", "\"\"\"", "'", "\\", "#", " #", "=", "FROM x"];
    let pieces = proptest::collection::vec(proptest::sample::select(pieces), 1..8);
    prop_oneof![pieces.prop_map(|pieces| pieces.concat()), "\\PC{1,20}"]
}

fn number(name: &'static str) -> impl Strategy<Value = (String, Value)> {
    prop_oneof![(-2.0..2.0f64).prop_map(Value::from), (-3i32..3).prop_map(|n| f64::from(n).into())]
        .prop_map(move |value| (name.to_owned(), value))
}

fn count(name: &'static str) -> impl Strategy<Value = (String, Value)> {
    (0..=u32::MAX).prop_map(move |value| (name.to_owned(), value.into()))
}

/// Of the parameters both dialects have, each at most once.
fn common() -> impl Strategy<Value = Vec<(String, Value)>> {
    let option = proptest::option::of::<proptest::strategy::BoxedStrategy<(String, Value)>>;
    (
        option(number("temperature").boxed()),
        option(number("top_p").boxed()),
        option(count("top_k").boxed()),
        option(count("num_ctx").boxed()),
        option((-2i64..99).prop_map(|n| ("num_predict".to_owned(), n.into())).boxed()),
    )
        .prop_map(|(a, b, c, d, e)| [a, b, c, d, e].into_iter().flatten().collect())
}

fn role() -> impl Strategy<Value = Role> {
    proptest::sample::select(vec![Role::System, Role::User, Role::Assistant])
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let texts = || proptest::collection::vec(value(), 0..3);
    let text = || proptest::option::of(value());
    let stop = texts();
    let messages = proptest::collection::vec((role(), value()), 0..3);
    (value(), common(), text(), text(), texts(), messages, stop).prop_map(
        |(from, mut parameters, system, template, licenses, messages, stop)| {
            if !stop.is_empty() {
                parameters.push(("stop".to_owned(), stop.into()));
            }
            let message = |(role, text): (Role, String)| Message::new(role, text);
            let messages = messages.into_iter().map(message).collect();
            Recipe { from, parameters, system, template, licenses, messages, ..Recipe::default() }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_ollamas_dialect_holds_is_read_back(recipe in recipe()) {
        if let Ok(text) = recipe.print(Dialect::Ollama) {
            prop_assert_eq!(Recipe::parse(&text), Ok(recipe), "{}", text);
        }
    }

    #[test]
    fn what_keys_and_values_hold_is_read_back(
        recipe in recipe(),
        parameters in common(),
        base in proptest::option::of(value()),
        kind in proptest::option::of(proptest::sample::select(vec!["language", "embed", "Reranker"])),
    ) {
        let messages = Vec::new();
        let model_type = kind.map(str::to_owned);
        let recipe = Recipe { messages, parameters, base_repository: base, model_type, ..recipe };
        if let Ok(text) = recipe.print(Dialect::Rkllama) {
            prop_assert_eq!(Recipe::parse(&text), Ok(recipe), "{}", text);
        }
    }

    #[test]
    fn plain_texts_can_be_written(
        from in "[a-z./:-]{1,12}",
        system in "[a-zA-Z,. \n]{0,30}[a-z]",
        parameters in common(),
    ) {
        let recipe = Recipe { from, system: Some(system), parameters, ..Recipe::default() };
        for dialect in [Dialect::Ollama, Dialect::Rkllama] {
            let text = recipe.print(dialect).unwrap();
            prop_assert_eq!(Recipe::parse(&text), Ok(recipe.clone()), "{}", text);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), pieces in value()) {
        let _ = Recipe::parse(&text);
        let _ = Recipe::parse(&format!("FROM {pieces}"));
        let _ = Recipe::parse(&format!("FROM={pieces}"));
    }
}
