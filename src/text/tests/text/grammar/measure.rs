//! What structured output costs. Not a test of right and wrong: run it by hand, optimised.
//!
//!     cargo test --release -p rkllama-text --test text measure -- --ignored --nocapture --exact \
//!         grammar::measure::cost_of_structured_output

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use rkllama_text::grammar::{Grammar, GrammarLimits, GrammarRun, RunLimits};
use serde_json::{Value, json};

use super::{driver::Vocabulary, schemas};

fn resident_kb() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn best<T>(repeats: u32, mut work: impl FnMut() -> T) -> Duration {
    let time = |_| {
        let start = Instant::now();
        let _kept = work();
        start.elapsed()
    };
    (0..repeats).map(time).min().unwrap()
}

fn large() -> (Value, Value) {
    let names: Vec<String> = (0..100).map(|n| format!("property_{n}")).collect();
    let each = json!({"anyOf": [schemas::person(), {"type": "string", "format": "date-time"}]});
    let properties: serde_json::Map<String, Value> =
        names.iter().map(|name| (name.clone(), each.clone())).collect();
    let person = json!({"name": "A B", "age": 41, "tags": ["x", "y"], "email": null});
    let value: serde_json::Map<String, Value> =
        names.iter().map(|name| (name.clone(), person.clone())).collect();
    let schema = json!({
        "type": "object", "properties": properties, "required": names,
        "additionalProperties": false,
    });
    (schema, value.into())
}

#[test]
#[ignore = "a measurement"]
fn cost_of_structured_output() {
    let vocabulary = Vocabulary::named("qwen3").unwrap_or_else(Vocabulary::demo);
    let person = json!({
        "name": "A name of some length", "age": 41, "email": null,
        "tags": ["several words in a string that goes on", "ünd 漢字"],
    });
    let any = (json!({"type": "object"}), person.clone());
    for (name, (schema, value)) in
        [("any object", any), ("person", (schemas::person(), person)), ("large", large())]
    {
        let schema = schema.to_string();
        let limits = GrammarLimits::default();
        let compile = || Grammar::json_schema(&schema, &limits).unwrap();
        println!("{name}: {} bytes, compile {:?}", schema.len(), best(50, compile));
        let before = resident_kb();
        let grammars: Vec<Grammar> = (0..50).map(|_| compile()).collect();
        println!("{name}: a grammar {} kB", (resident_kb() - before) / 50);

        let new = || {
            let codec = Arc::clone(&vocabulary.codec);
            GrammarRun::new(&grammars[0], codec, RunLimits::default()).unwrap()
        };
        println!("{name}: a run {:?}", best(50, new));
        println!("{name}: completion {:?}", best(20, || new().shortest_completion().unwrap()));
        println!("{name}: a restart {:?}", best(20, || new().end_of_sequence().unwrap()));
        let ids = vocabulary.ids(&serde_json::to_string_pretty(&value).unwrap());
        let mut slowest = Duration::ZERO;
        let mut runs = Vec::new();
        let before = resident_kb();
        let whole = best(10, || {
            let mut run = new();
            for id in &ids {
                let start = Instant::now();
                run.token(*id, vocabulary.bytes(*id)).unwrap();
                slowest = slowest.max(start.elapsed());
            }
            runs.push(run);
        });
        let tokens = u32::try_from(ids.len()).unwrap();
        println!(
            "{name}: {tokens} tokens, each {:?}, slowest {slowest:?}; a run at its end {} kB",
            whole / tokens,
            (resident_kb() - before) / 10
        );
    }
}
