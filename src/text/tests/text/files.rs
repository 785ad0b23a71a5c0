//! A model's files that are damaged or incomplete say so, with file and key.

use rkllama_core::TextFiles;
use rkllama_text::{Codec, RenderOptions};
use rstest::rstest;
use serde_json::json;

use crate::support::{CHATML, Tiny, user};

#[rstest]
#[case::no_template("no_template", Tiny::bare())]
#[case::eos_token("eos_token", Tiny::chatml().config("eos_token", json!(5)))]
#[case::bos_token("bos_token", Tiny::chatml().config("bos_token", json!({"text": "<s>"})))]
#[case::template_type("template_type", Tiny::chatml().config("chat_template", json!(5)))]
#[case::template_list("template_list", Tiny::chatml().config("chat_template", json!([{"name": "default"}])))]
#[case::no_default(
    "no_default",
    Tiny::chatml().config("chat_template", json!([{"name": "tool_use", "template": ""}, {"name": "rag", "template": ""}]))
)]
#[case::template_syntax("template_syntax", Tiny::chatml().template("line one\n{% if %}"))]
#[case::template_tag("template_tag", Tiny::chatml().template("{% unheard_of %}"))]
#[case::eos_id_text("eos_id_text", Tiny::chatml().generation_config(&json!({"eos_token_id": "2"})))]
#[case::eos_id_list("eos_id_list", Tiny::chatml().generation_config(&json!({"eos_token_id": [1, -2]})))]
#[case::generation_type("generation_type", Tiny::chatml().generation_config(&json!([])))]
fn a_bad_file_is_named_with_its_key(#[case] name: &str, #[case] tiny: Tiny) {
    let err = Codec::new(&tiny.files()).unwrap_err();
    insta::assert_snapshot!(format!("bad_{name}"), err);
}

#[rstest]
#[case::empty("")]
#[case::not_json("{]")]
#[case::other_json("{\"a\": 1}")]
#[case::cut_off("{\"version\": \"1.0\", \"model\": {\"type\": \"BPE\", \"voc")]
fn a_bad_tokenizer_is_named(#[case] tokenizer: &str) {
    let files = TextFiles { tokenizer: tokenizer.into(), ..Tiny::chatml().files() };
    let err = Codec::new(&files).unwrap_err().to_string();
    assert!(err.starts_with("tokenizer.json: "), "{err}");
}

#[test]
fn broken_json_is_named_with_its_place() {
    let files =
        TextFiles { tokenizer_config: Some(b"{\n  \"a\": }".to_vec()), ..Tiny::chatml().files() };
    insta::assert_snapshot!(Codec::new(&files).unwrap_err());
}

#[test]
fn the_default_of_several_templates_is_used() {
    let list = json!([{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]);
    assert_eq!(rendered(&Tiny::chatml().config("chat_template", list)), "D");
}

#[test]
fn a_familys_template_counts_where_no_file_has_one() {
    let of = |mut tiny: Tiny| {
        tiny.files.family_template = Some("from the family");
        rendered(&tiny)
    };
    assert_eq!(of(Tiny::bare()), "from the family");
    assert_eq!(of(Tiny::chatml().config("chat_template", json!(null))), "from the family");
    assert_eq!(of(Tiny::bare().template("from the configuration")), "from the configuration");
}

#[test]
fn a_template_file_wins_over_the_configuration() {
    let mut tiny = Tiny::chatml().template("from the configuration");
    tiny.files.chat_template = Some("from the file".to_owned());
    assert_eq!(rendered(&tiny), "from the file");
}

#[test]
fn keys_that_do_not_concern_text_may_hold_anything() {
    let tiny = Tiny::chatml().template("fine").config("add_bos_token", json!(true));
    let tiny = tiny.config("pad_token", json!(null)).config("model_max_length", json!(1e30));
    assert_eq!(rendered(&tiny), "fine");
}

#[test]
fn truncation_left_over_from_training_is_not_obeyed() {
    let codec = Tiny::chatml().template(CHATML).codec();
    assert_eq!(codec.count(&"x".repeat(100)).unwrap(), 100);
}

fn rendered(tiny: &Tiny) -> String {
    let rendered = tiny.codec().render(&user("U"), &RenderOptions::default()).unwrap();
    rendered.text().into_owned()
}
