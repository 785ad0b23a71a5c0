//! Input that is nearly right: pieces of what lies in the corpus, damaged.

use std::{fs, path::PathBuf};

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};
use serde_json::{Value, json};

/// How often a body is run where the environment does not say.
pub(crate) fn cases(count: u32) -> ProptestConfig {
    let said = std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok());
    ProptestConfig { max_shrink_iters: 500, ..ProptestConfig::with_cases(said.unwrap_or(count)) }
}

/// The files of a folder of the corpus, by their names.
pub(crate) fn files(folder: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(folder);
    let mut paths: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 2, "{} is a poor corpus", folder.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The same, of JSON.
pub(crate) fn values(folder: &str) -> Vec<Value> {
    files(folder).iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect()
}

/// Up to four pieces of files, one behind the other, of which up to three bytes are others.
pub(crate) fn spliced(files: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec((select(files), any::<Index>(), any::<Index>()), 1..5);
    let damage = vec((any::<Index>(), any::<u8>()), 0..4);
    (pieces, damage).prop_map(|(pieces, damage)| {
        let mut bytes = Vec::new();
        for (file, from, to) in pieces {
            let (from, to) = (from.index(file.len() + 1), to.index(file.len() + 1));
            bytes.extend_from_slice(&file[from.min(to)..from.max(to)]);
        }
        for (at, byte) in damage {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bytes
    })
}

/// A value of which up to four places hold something else: a stranger of any type, or a place of
/// another value.
pub(crate) fn mutated(values: Vec<Value>) -> impl Strategy<Value = Value> {
    let other = prop_oneof![
        3 => select(strangers()),
        1 => (select(values.clone()), any::<Index>())
            .prop_map(|(mut value, at)| std::mem::take(place(&mut value, at))),
    ];
    (select(values), vec((any::<Index>(), other), 0..5)).prop_map(|(mut value, changes)| {
        for (at, other) in changes {
            *place(&mut value, at) = other;
        }
        value
    })
}

fn strangers() -> Vec<Value> {
    let deep = (0..60).fold(json!(1), |inner, _| json!([inner]));
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("\u{0}"),
        json!("🌍é"),
        json!("x".repeat(5000)),
        json!([]),
        json!({}),
        json!([null]),
        json!({"type": "object"}),
        json!({"type": "function"}),
        deep,
    ]
}

/// One of all places of a value, itself among them.
fn place(value: &mut Value, at: Index) -> &mut Value {
    fn walk<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
        if *left == 0 {
            return Some(value);
        }
        *left -= 1;
        match value {
            Value::Array(items) => items.iter_mut().find_map(|item| walk(item, left)),
            Value::Object(fields) => fields.values_mut().find_map(|field| walk(field, left)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        }
    }
    fn count(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
            Value::Object(fields) => 1 + fields.values().map(count).sum::<usize>(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
        }
    }
    let mut left = at.index(count(value));
    walk(value, &mut left).expect("there are as many places as were counted")
}
