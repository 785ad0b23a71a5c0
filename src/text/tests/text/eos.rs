//! Which ids end an answer.

use rstest::rstest;
use serde_json::json;

use crate::support::{CHATML, Tiny, real_codec};

#[rstest]
#[case("qwen3", &[151_643, 151_645])]
// This package's vocabulary has no `<|eom_id|>` (128008).
#[case("llama3_1", &[128_001, 128_009])]
// `</s>` (212) is strike-through there.
#[case("gemma3", &[1, 106])]
fn real_families_end_where_their_makers_say(#[case] name: &'static str, #[case] expected: &[i32]) {
    let Some(codec) = real_codec(name) else { return };
    assert_eq!(codec.eos_ids(), expected);
}

#[test]
fn all_sources_are_united_sorted_and_unique() {
    let tiny =
        Tiny::chatml().special("<stop>").template(CHATML).config("eos_token", json!("<stop>"));
    let codec = tiny.generation_config(&json!({"eos_token_id": [300, 257, 7]})).codec();
    assert_eq!(codec.eos_ids(), [7, 257, 259, 300]);
}

#[test]
fn one_id_needs_no_list() {
    let tiny = Tiny::chatml().template(CHATML).generation_config(&json!({"eos_token_id": 9}));
    assert_eq!(tiny.codec().eos_ids(), [9, 257]);
}

#[test]
fn an_unheard_of_family_is_known_by_its_template() {
    let tiny = Tiny::bare().special("[TURN]").special("[TURN_END]").special("[TURN_END]!");
    let template =
        "{% for m in messages %}[TURN]{{ m.role }}: {{ m.content }} [TURN_END]\n{% endfor %}";
    assert_eq!(tiny.template(template).codec().eos_ids(), [257]);
}

#[test]
fn what_opens_a_turn_does_not_end_it() {
    let tiny = Tiny::bare().special("[TURN]").template("{{ messages[0].content }}");
    assert_eq!(tiny.codec().eos_ids(), [0; 0]);
}

#[test]
fn end_is_an_end_unless_the_family_has_return() {
    let plain = "{{ messages[0].content }}";
    let phi = Tiny::bare().special("<|end|>").special("<|endoftext|>").template(plain);
    assert_eq!(phi.codec().eos_ids(), [256, 257]);
    let harmony = Tiny::bare().special("<|end|>").special("<|return|>").special("<|call|>");
    assert_eq!(harmony.template(plain).codec().eos_ids(), [257, 258]);
}

/// As GLM-4 has it: nothing is written behind an answer, and the model ends its turn by beginning
/// the next one.
#[test]
fn a_family_without_an_end_of_turn_ends_where_the_next_begins() {
    let tiny = Tiny::bare()
        .special("<|system|>")
        .special("<|user|>")
        .special("<|assistant|>")
        .special("<|observation|>");
    let template = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}\
                    {% if add_generation_prompt %}<|assistant|>{% endif %}";
    let codec = tiny.template(template).codec();
    assert_eq!(codec.eos_ids(), [257, 259]);
    assert_eq!(codec.warnings(), [""; 0]);
}

#[test]
fn a_model_without_any_end_is_usable_and_says_so() {
    let template = "{% for m in messages %}{{ m.content }}\n{% endfor %}";
    let codec = Tiny::bare().template(template).codec();
    assert_eq!(codec.eos_ids(), [0; 0]);
    assert!(codec.warnings()[0].contains("generation_config.json"), "{:?}", codec.warnings());
    let said = Tiny::bare().template(template).generation_config(&json!({"eos_token_id": 7}));
    assert_eq!(said.codec().warnings(), [""; 0]);
}

#[test]
fn a_template_that_cannot_render_anything_says_so() {
    let codec = Tiny::chatml().template("\n{{ messages | unheard_of }}").codec();
    assert!(codec.warnings()[0].starts_with("tokenizer_config.json: "), "{:?}", codec.warnings());
}
