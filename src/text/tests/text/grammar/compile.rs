//! What schemas are taken, and what is said of the others.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use rkllama_text::grammar::{Grammar, GrammarError, GrammarLimits};
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    driver::{Said, Vocabulary, drive},
    models::Blind,
    models::Rng,
    schemas,
};

fn compile(schema: &Value) -> Result<Grammar, GrammarError> {
    Grammar::json_schema(&schema.to_string(), &GrammarLimits::default())
}

/// As pydantic, zod and OpenAI's own examples write them.
#[rstest]
#[case::any(json!({}))]
#[case::everything(json!(true))]
#[case::string(json!({"type": "string"}))]
#[case::number(json!({"type": "number"}))]
#[case::no_type(json!({"minLength": 2, "minimum": 3}))]
#[case::strict(schemas::person())]
#[case::optional_members(json!({
    "type": "object",
    "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": null, "title": "A"}},
    "title": "Model",
}))]
#[case::definitions(json!({
    "$defs": {
        "Step": {
            "properties": {"explanation": {"type": "string"}, "output": {"type": "string"}},
            "required": ["explanation", "output"], "title": "Step", "type": "object",
        },
    },
    "properties": {
        "steps": {"items": {"$ref": "#/$defs/Step"}, "title": "Steps", "type": "array"},
        "final_answer": {"title": "Final Answer", "type": "string"},
        "first": {"$ref": "#/$defs/Step", "description": "with a sibling"},
    },
    "required": ["steps", "final_answer", "first"], "title": "MathReasoning", "type": "object",
}))]
#[case::discriminated_union(json!({
    "$defs": {
        "Cat": {"properties": {"pet": {"const": "cat", "title": "Pet", "type": "string"}, "lives": {"type": "integer"}}, "required": ["pet", "lives"], "type": "object"},
        "Dog": {"properties": {"pet": {"const": "dog", "title": "Pet", "type": "string"}, "barks": {"type": "boolean"}}, "required": ["pet", "barks"], "type": "object"},
    },
    "properties": {"pet": {
        "discriminator": {"mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"}, "propertyName": "pet"},
        "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
    }},
    "required": ["pet"], "type": "object",
}))]
#[case::recursion_at_the_root(json!({
    "type": "object",
    "properties": {"value": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["value", "children"], "additionalProperties": false,
}))]
#[case::zod(json!({
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "email": {"type": "string", "format": "email", "pattern": "^[A-Za-z0-9.]+@[A-Za-z0-9]+\\.[a-z]{2,}$"},
        "score": {"type": "number", "exclusiveMinimum": 0, "maximum": 9007199254740991_u64},
        "map": {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "number"}},
        "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]},
        "when": {"type": "string", "format": "date-time"},
        "keyed": {"type": "object", "propertyNames": {"type": "string", "enum": ["x", "y"]}, "additionalProperties": {"type": "integer"}, "required": ["x", "y"]},
    },
    "required": ["email", "score", "map", "pair", "when", "keyed"], "additionalProperties": false,
}))]
#[case::tuple_of_draft_7(json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [{"type": "integer"}, {"type": "string"}], "additionalItems": false, "minItems": 2}))]
#[case::escaped_reference(json!({"$defs": {"a/b c~": {"type": "integer"}}, "$ref": "#/$defs/a~1b%20c~0"}))]
#[case::all_of(json!({"allOf": [
    {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    {"type": "object", "properties": {"b": {"type": "string", "enum": ["x"]}}, "required": ["b"]},
]}))]
#[case::unknown_keywords(json!({"type": "integer", "x-guidance": {"lenient": true, "nonsense": 1}, "strict": true}))]
#[case::floats_as_counts(json!({"type": "string", "minLength": 2.0, "maxLength": 1e30}))]
#[case::constant_numbers(json!({"enum": [1.0, -2.5, 100, 1e3]}))]
#[case::only_some_members(json!({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "additionalProperties": false, "minProperties": 1}))]
#[case::pattern_of_names(json!({"type": "object", "patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": false}))]
#[case::many_items(json!({"type": "array", "items": {"type": "boolean"}, "minItems": 100, "maxItems": 100_000}))]
fn a_usual_schema_is_held_even_when_the_model_says_nothing(#[case] schema: Value) {
    let grammar = compile(&schema).unwrap();
    let vocabulary = Vocabulary::demo();
    let outcome = drive(&grammar, &vocabulary, &mut Blind(|| Said::Eos), 0);
    let value: Value = serde_json::from_str(&outcome.completed).unwrap();
    assert!(schemas::is_valid(&schema, &value), "{value}");
}

#[rstest]
#[case("not_json", "{")]
#[case("no_schema", "[]")]
#[case("not", r#"{"properties": {"a": {"not": {"type": "string"}}}}"#)]
#[case(
    "if_then",
    r##"{"$defs": {"D": {"if": {}, "then": {}}}, "anyOf": [{"$ref": "#/$defs/D"}]}"##
)]
#[case(
    "unique",
    r#"{"type": "object", "properties": {"a b/c": {"type": "array", "uniqueItems": true}}}"#
)]
#[case("one_of", r#"{"properties": {"a": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}}"#)]
#[case("remote_reference", r#"{"items": {"$ref": "https://example.org/schema.json"}}"#)]
#[case("dead_reference", r##"{"items": {"$ref": "#/$defs/nothing"}}"##)]
#[case("bad_type", r#"{"properties": {"a": {"type": "text"}}}"#)]
#[case("bad_required", r#"{"required": "a"}"#)]
#[case("empty_enum", r#"{"enum": []}"#)]
#[case("lookahead", r#"{"properties": {"a": {"type": "string", "pattern": "^(?=a)b"}}}"#)]
#[case("bad_pattern", r#"{"items": {"type": "string", "pattern": "("}}"#)]
#[case("multiple_of_zero", r#"{"items": {"type": "number", "multipleOf": 0}}"#)]
#[case(
    "upside_down",
    r#"{"type": "array", "items": {"type": "number", "minimum": 3, "maximum": 2}, "minItems": 1}"#
)]
#[case("nothing", "false")]
#[case(
    "never_ending",
    r##"{"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}"##
)]
#[case("many_names", r#"{"type": "object", "minProperties": 3}"#)]
#[case("long", r#"{"type": "string", "minLength": 1000000}"#)]
fn what_cannot_be_held_is_named_with_its_place(#[case] name: &str, #[case] schema: &str) {
    let err = Grammar::json_schema(schema, &GrammarLimits::default()).unwrap_err();
    insta::assert_snapshot!(name, err);
}

/// A schema that costs as much as it can. None may take long, none may panic.
#[rstest]
#[case::deep_nesting(format!("{}true{}", r#"{"items":"#.repeat(100_000), "}".repeat(100_000)))]
#[case::deep_within_limits(format!("{}true{}", r#"{"items":"#.repeat(47), "}".repeat(47)))]
#[case::many_properties(object_of(500, r#"{"type": "string"}"#))]
#[case::too_many_properties(object_of(100_000, "{}"))]
#[case::options_of_options(options(3, 40))]
#[case::all_of_any_of(format!(r#"{{"allOf": [{}]}}"#, vec![options(1, 10); 8].join(",")))]
#[case::long_enum(format!(r#"{{"enum": [{}]}}"#, (0..2000).map(|n| format!("\"value {n}\"")).collect::<Vec<_>>().join(",")))]
#[case::counted_pattern(r#"{"type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$"}"#.to_owned())]
#[case::exploding_pattern(r#"{"type": "string", "pattern": "^.*a.{500}b.{400}$", "minLength": 900}"#.to_owned())]
#[case::nested_groups(format!(r#"{{"type": "string", "pattern": "{}a{}"}}"#, "(".repeat(490), ")".repeat(490)))]
#[case::alternatives(format!(r#"{{"type": "string", "pattern": "^({})*$"}}"#, (0..90).map(|n| format!("a{n}b.*")).collect::<Vec<_>>().join("|")))]
#[case::patterns_of_names(format!(r#"{{"type": "object", "patternProperties": {{{}}}}}"#, (0..60).map(|n| format!("\".*{n}.*x\": {{}}")).collect::<Vec<_>>().join(",")))]
#[case::reference_to_itself(r##"{"$ref": "#"}"##.to_owned())]
#[case::never_ending_arrays(r##"{"type": "array", "items": {"$ref": "#"}, "minItems": 2}"##.to_owned())]
#[case::never_ending_objects(r##"{"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"type": "string", "pattern": "^[ab]*x$"}, "c": {"$ref": "#"}}, "required": ["a", "b", "c"]}"##.to_owned())]
#[case::references_in_circles(r##"{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}"##.to_owned())]
#[case::all_of_itself(r##"{"allOf": [{"$ref": "#"}, {"type": "object", "properties": {"a": {"$ref": "#"}}}]}"##.to_owned())]
#[case::doubling(doubling(40))]
#[case::many_required_items(r#"{"type": "array", "minItems": 256, "items": {"type": "array", "minItems": 256, "items": {"type": "integer", "minimum": 1000000}}}"#.to_owned())]
#[case::large_numbers(r#"{"type": "integer", "minimum": 123456789012345, "maximum": 987654321098765432, "multipleOf": 97}"#.to_owned())]
#[case::tiny_steps(r#"{"type": "number", "multipleOf": 0.000001, "minimum": 0.0000005, "maximum": 1e9}"#.to_owned())]
fn a_hostile_schema_is_done_with_soon(#[case] schema: String) {
    let start = Instant::now();
    let grammar = Grammar::json_schema(&schema, &GrammarLimits::default());
    let took = start.elapsed();
    println!("{took:?} {}", grammar.as_ref().map_or_else(ToString::to_string, |_| String::new()));
    // A test's build on a busy machine; optimised it is a fraction.
    assert!(took < Duration::from_secs(20), "{took:?}");
}

fn object_of(count: usize, each: &str) -> String {
    let members: Vec<String> = (0..count).map(|n| format!(r#""property {n}": {each}"#)).collect();
    format!(r#"{{"type": "object", "properties": {{{}}}}}"#, members.join(","))
}

fn options(depth: usize, count: usize) -> String {
    let each = match depth {
        0 => return r#"{"type": "object", "properties": {"a": {"type": "integer"}}}"#.to_owned(),
        _ => options(depth - 1, count.min(12)),
    };
    format!(r#"{{"anyOf": [{}]}}"#, vec![each; count].join(","))
}

/// Definitions each of which has the next twice: without sharing, too much for any machine.
fn doubling(count: usize) -> String {
    let one = |n: usize| {
        let next = format!(r##"{{"$ref": "#/$defs/{}"}}"##, n + 1);
        format!(r#""{n}": {{"type": "object", "properties": {{"a": {next}, "b": {next}}}}}"#)
    };
    let all: Vec<String> = (0..count).map(one).collect();
    format!(r##"{{"$defs": {{{}, "{count}": {{}}}}, "$ref": "#/$defs/0"}}"##, all.join(","))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Schemas with parts exchanged for nonsense are refused or held, and never a panic.
    #[test]
    fn a_damaged_schema_is_refused_or_held(seed in any::<u64>()) {
        let mut rng = Rng(seed);
        let (mut schema, _) = schemas::random(seed);
        for _ in 0..=rng.below(3) {
            damage(&mut schema, &mut rng);
        }
        let start = Instant::now();
        let compiled = compile(&schema);
        prop_assert!(start.elapsed() < Duration::from_secs(20), "{}", schema);
        // A validator also looks at what is not used.
        if let (Ok(grammar), true) = (compiled, schemas::is_schema(&schema)) {
            let outcome = drive(&grammar, demo(), &mut Blind(|| Said::Eos), 0);
            let value: Value = serde_json::from_str(&outcome.completed).unwrap();
            prop_assert!(schemas::is_valid(&schema, &value), "{} {}", value, schema);
        }
    }

    #[test]
    fn garbage_is_refused(text in ".{0,200}") {
        prop_assume!(serde_json::from_str::<Value>(&text).is_err());
        let refused = Grammar::json_schema(&text, &GrammarLimits::default());
        let refused = matches!(refused, Err(GrammarError::Syntax { .. }));
        prop_assert!(refused);
    }
}

fn demo() -> &'static Vocabulary {
    static DEMO: LazyLock<Vocabulary> = LazyLock::new(Vocabulary::demo);
    &DEMO
}

fn damage(value: &mut Value, rng: &mut Rng) {
    let nonsense = [
        json!(null),
        json!(-1),
        json!(1e300),
        json!("x"),
        json!([]),
        json!({}),
        json!("("),
        json!([{}, 3]),
        json!(true),
        json!({"$ref": "#"}),
        json!({"type": "object"}),
        json!(0.5),
    ];
    match value {
        Value::Object(members) if !members.is_empty() && !rng.one_in(5) => {
            let name = members.keys().nth(rng.below(members.len())).unwrap().clone();
            if rng.one_in(6) {
                let value = members.shift_remove(&name).unwrap();
                members.insert(
                    (*rng.pick(&["not", "if", "allOf", "items", "pattern", "maximum"])).to_owned(),
                    value,
                );
            } else {
                damage(&mut members[&name], rng);
            }
        }
        Value::Array(items) if !items.is_empty() && !rng.one_in(5) => {
            let index = rng.below(items.len());
            damage(&mut items[index], rng);
        }
        _ => *value = rng.pick(&nonsense).clone(),
    }
}
