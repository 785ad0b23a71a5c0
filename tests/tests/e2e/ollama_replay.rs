//! What Ollama's own server was asked and answered, asked here: every record in its order, on one
//! server. The mock says what the recorded engine said; what is told of it must be the same.
//!
//! Moments, durations, counts, ids, digests and vectors are compared by being there. Where this
//! server differs on purpose, a row of `DIFFERENCES` says how and why; a row that no record needs
//! fails too.

use std::{collections::BTreeSet, fs, time::Duration};

use reqwest::{Client, Method};
use rkllama_tests::{ModelDir, Server, ServerSetup, repository};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// One exchange with Ollama's server.
#[derive(Debug, Deserialize)]
struct Record {
    set: String,
    name: String,
    method: String,
    path: String,
    headers: Map<String, Value>,
    /// An object that was sent as JSON, or a text that was sent as it is, or no body.
    request: Option<Value>,
    status: u16,
    response_headers: Map<String, Value>,
    response: String,
}

impl Record {
    fn id(&self) -> String {
        format!("{}/{} {} {} {}", self.set, self.name, self.method, self.path, self.body())
    }

    fn body(&self) -> String {
        match &self.request {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(object) => object.to_string(),
        }
    }

    fn content_type(&self) -> String {
        let value = self.response_headers.get("content-type").and_then(Value::as_str);
        essence(value.unwrap_or_default())
    }
}

/// How this server differs.
enum Here {
    /// With another status and the same body.
    Status(u16),
    /// With this body, and this status.
    Says(u16, &'static str),
    /// With this status and words that contain these.
    Refuses(u16, &'static str),
    /// With other words in an answer of the same shape.
    OtherWords,
    /// Without these keys, or words of lists.
    Without(&'static [&'static str]),
}

/// Which records, by how their id begins and what it contains; how they differ; why.
type Difference = (&'static str, &'static str, Here, &'static str);

const GGUF_AND_OURS: &[&str] =
    &["license", "messages", "origins", "parameters", "settings", "system", "tensors"];
const GGUF_OURS_AND_INFILL: &[&str] =
    &["license", "messages", "origins", "parameters", "settings", "system", "tensors", "insert"];
const NO_VISION: &str = r#"{"error":"\"plain\" does not support vision"}"#;
const LOADED: &str =
    r#"{"model":"plain","created_at":"","response":"","done":true,"done_reason":"load"}"#;
const A_VECTOR: &str = r#"{"model":"bert","embeddings":[[1]],"total_duration":1,"load_duration":1,"prompt_eval_count":1}"#;

const DIFFERENCES: &[Difference] = &[
    ("g3/create-quant", "", Here::Refuses(400, "RKLLM-Toolkit quantizes"), "nothing here can"),
    ("g3/create-badquant", "", Here::Refuses(400, "RKLLM-Toolkit quantizes"), "nothing here can"),
    (
        "g3/create-badparam",
        "",
        Here::Refuses(400, "must be of type float32"),
        "a value of the wrong type is told at once",
    ),
    ("g3/create-", ".gguf", Here::Refuses(400, "no file of a model for this runtime"), "GGUF only"),
    ("g3/pull-", "127.0.0.1", Here::Refuses(400, "invalid model name"), "there is one hub"),
    ("", "\"options\":{\"temperature\":\"", Here::Status(400), "the request is at fault"),
    ("", "\"num_ctx\":\"", Here::Status(400), "the request is at fault"),
    ("", "\"stop\":\"", Here::Status(400), "the request is at fault"),
    ("", "\"stop\":[1]", Here::Status(400), "the request is at fault"),
    ("", "\"use_mmap\":\"", Here::Status(400), "the request is at fault"),
    ("", "\"main_gpu\":\"", Here::Status(400), "the request is at fault"),
    ("g5/chat-badformat", "", Here::Status(400), "the request is at fault"),
    ("g4a/gen-badtemplate", "", Here::Status(400), "the request is at fault"),
    (
        "g4a/keep_alive",
        "\"-1\"",
        Here::Says(200, LOADED),
        "a number in a text is taken for seconds",
    ),
    ("g4a/keep_alive", "\"5\"", Here::Says(200, LOADED), "a number in a text is taken for seconds"),
    ("g4a/gen-image-novision", "", Here::Says(400, NO_VISION), "pictures are not lost in silence"),
    ("g4a/gen-logprobs", "", Here::Without(&["logprobs"]), "ignored and named in a header"),
    ("g4a/gen-format-json", "", Here::OtherWords, "the answer is held to its form"),
    ("g12/think-format", "", Here::OtherWords, "the answer is held to its form"),
    ("g6/chat-tag-stream", "", Here::OtherWords, "blanks in front of a call are no words"),
    ("g7/load-fail", "", Here::OtherWords, "the loader is another"),
    (
        "g5/embed-notrunc",
        "",
        Here::Says(200, A_VECTOR),
        "the context is the model's, not a request's",
    ),
    (
        "g1/general GET /api/version",
        "",
        Here::Says(200, r#"{"version":"0.33.0"}"#),
        "a release, not a build",
    ),
    (
        "g1/general GET /api/status",
        "",
        Here::Says(200, r#"{"cloud":{"disabled":true,"source":"none"}}"#),
        "nobody has to disable it",
    ),
    (
        "",
        "GET /api/tags ",
        Here::Without(&["embedding_length"]),
        "no file here says it without a config",
    ),
    (
        "g3/show",
        "{\"model\":\"tools\"}",
        Here::Without(GGUF_OURS_AND_INFILL),
        "a .rkllm has none of it, and gaps are filled by models with tokens for it, not by templates",
    ),
    ("g3/show", "", Here::Without(GGUF_AND_OURS), "a .rkllm has none of it"),
];

/// Which records are not asked here, and why.
const NOT_ASKED: &[(&str, &str)] = &[
    ("g1/general GET /api/tags ", "the store was empty when this was recorded"),
    ("g1/general GET /api/tags/", "there is one path for each route"),
    ("g1/general HEAD /api/ps", "what can be had can be asked for its head"),
    ("g1/cors", "which origins may ask is not for these routes to say"),
    ("g1/host", "which hosts may be asked is not for these routes to say"),
    ("g10/cors", "which origins may ask is not for these routes to say"),
    ("g10/q", "needs requests at once; `ollama.rs` fills the queue"),
    ("g5/chat-engine400", "no engine here answers with a status of its own"),
    ("g5/chat-tools-", "calls are told by the marks of the model, not by a Go template"),
    ("g6/chat-tag-unknown", "what the engine said is not recorded"),
    ("g6/create", "the model is here already, with a template of its own"),
    ("g3/blob-post", "the bytes that were sent are not recorded"),
    ("g3/blob-head-dash", "the bytes that were sent are not recorded"),
    ("g3/blob-bad-post", "the bytes that were sent are not recorded"),
    ("g3/push-missing", "there is no registry to push to; `store.rs` has the refusal"),
    ("g7/pull-", "the registry of the records; models come from the hub here"),
    ("g8/pull-", "the registry of the records; models come from the hub here"),
    ("g9/pull-", "the registry of the records; models come from the hub here"),
    ("g9/delete", "what was pulled from the registry of the records"),
];

fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_owned()
}

fn records() -> Vec<Record> {
    let file = repository().join("compat/tests/ollama-traffic.json");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// The models of the records by their names.
fn setup() -> ServerSetup {
    const TURN: &str = "{{- '<|im_start|>' + message.role + '\\n' + message.content -}}";
    const END: &str =
        "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}";
    let plain = format!(
        "{{%- for message in messages -%}}{TURN}{{{{- '<|im_end|>\\n' -}}}}{{%- endfor -%}}{END}"
    );
    let tools = format!(
        "{{%- for tool in tools or [] -%}}{{{{- tool | tojson -}}}}{{%- endfor -%}}\
         {{%- for message in messages -%}}{TURN}\
         {{%- for call in message.tool_calls or [] -%}}\
         {{{{- '<tool_call>' + (call.function | tojson) + '</tool_call>' -}}}}{{%- endfor -%}}\
         {{{{- '<|im_end|>\\n' -}}}}{{%- endfor -%}}{END}"
    );
    let no_thoughts = "reasoning_format = 'none'";
    let model = |name: &str, template: &str, manifest: &str| {
        ModelDir::demo(name).template(template).manifest(manifest)
    };
    ServerSetup::new()
        .mock("1.3.0")
        .model(&model("plain", &plain, no_thoughts))
        .model(&model("mario", &plain, no_thoughts))
        .model(&model("tools", &tools, no_thoughts))
        .model(&model("tagged", &tools, no_thoughts))
        .model(&model("think", &plain, "reasoning_format = 'think'"))
        .model(&ModelDir::demo("native"))
        .model(&model("bert", &plain, "pooling = 'mean'\nreasoning_format = 'none'"))
        .config("[memory]\nmodels_max = 8")
        .live_script("")
}

/// A script by which the mock says what the recorded engine said.
fn script(record: &Record) -> String {
    let mut script = toml::Table::new();
    for time in ["load_ms", "prefill_ms", "prefill_ms_per_token", "decode_ms_per_token"] {
        let latency = script.entry("latency").or_insert_with(|| toml::Table::new().into());
        latency.as_table_mut().unwrap().insert(time.to_owned(), 0.into());
    }
    let (mut say, mut think, mut calls) = (String::new(), String::new(), Vec::new());
    let mut is_cut = false;
    for line in record.response.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        let of = |place: &Value, key: &str| place[key].as_str().unwrap_or_default().to_owned();
        say.push_str(&of(&line["message"], "content"));
        say.push_str(&of(&line, "response"));
        think.push_str(&of(&line["message"], "thinking"));
        think.push_str(&of(&line, "thinking"));
        calls.extend(line["message"]["tool_calls"].as_array().into_iter().flatten().map(|call| {
            let function = &call["function"];
            json!({"name": function["name"], "arguments": function["arguments"]})
        }));
        is_cut |= line["done_reason"] == "length";
    }
    let say = if is_cut { say.repeat(20) } else { say };
    let mut rule = json!({"say": say});
    if !think.is_empty() {
        rule["think"] = think.into();
    }
    if !calls.is_empty() {
        rule["tool_call"] = calls.into();
    }
    let rule = toml::Value::try_from(rule).unwrap();
    script.insert("rule".to_owned(), toml::Value::Array(vec![rule]));
    if record.name == "load-fail" {
        script.insert(
            "faults".to_owned(),
            toml::Table::from_iter([("init_fails".to_owned(), true.into())]).into(),
        );
    }
    script.to_string()
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    content_type: String,
    body: Value,
}

impl Answer {
    fn of(status: u16, content_type: String, text: &str, path: &str) -> Self {
        let body = match &*content_type {
            // To a request for the head alone there is no body.
            _ if text.is_empty() => Value::Null,
            "application/json" => normal(serde_json::from_str(text).unwrap(), path),
            "application/x-ndjson" => {
                let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                normal(folded(lines), path)
            }
            _ => text.into(),
        };
        Self { status, content_type, body }
    }
}

/// Lines of an answer without the cuts between tokens: what is said in a row is one piece, and calls
/// stand in lines of their own wherever they were.
fn folded(lines: Vec<Value>) -> Value {
    let mut pieces: Vec<Value> = Vec::new();
    for mut line in lines {
        let calls = line["message"].as_object_mut().and_then(|it| it.remove("tool_calls"));
        for call in calls.iter().flat_map(|calls| calls.as_array().unwrap()) {
            pieces.push(json!({"call": call}));
        }
        if let Some(status) = line["status"].as_str() {
            // How many layers a model has is not the point.
            let is_layer =
                status.starts_with("using existing") || status.starts_with("creating new");
            let piece = if is_layer { json!({"status": "a layer"}) } else { line };
            if pieces.last() != Some(&piece) {
                pieces.push(piece);
            }
            continue;
        }
        if line["done"] == true || line.get("error").is_some() {
            pieces.push(line);
            continue;
        }
        assert_eq!(line["message"]["role"], "assistant", "{line}");
        for kind in ["thinking", "content"] {
            let text = line["message"][kind].as_str().unwrap_or_default();
            if text.is_empty() {
                continue;
            }
            match pieces.last_mut().and_then(|last| last.get_mut(kind)) {
                Some(Value::String(so_far)) => so_far.push_str(text),
                _ => pieces.push(json!({kind: text})),
            }
        }
    }
    pieces.into()
}

/// Without what is never the same twice.
fn normal(value: Value, path: &str) -> Value {
    match value {
        Value::Object(object) => {
            let entry = |(key, value): (String, Value)| {
                let value = match &*key {
                    "created_at" | "modified_at" | "expires_at" => "a moment".into(),
                    "digest" | "id" => "an id".into(),
                    "size" | "size_vram" | "context_length" => "a number".into(),
                    "context" => "tokens".into(),
                    "embedding" => "a vector".into(),
                    "embeddings" => value.as_array().unwrap().len().into(),
                    "rendered_template" | "modelfile" | "template" => "a text".into(),
                    "format" | "family" | "families" | "parent_model" => "a text".into(),
                    "parameter_size" | "quantization_level" => "a text".into(),
                    key if key.ends_with("_duration") || key.ends_with("_count") => {
                        "a number".into()
                    }
                    "model_info" => of_every_model(&value),
                    "capabilities" if path == "/api/show" => sorted(value),
                    "capabilities" => "a list".into(),
                    "name" | "model" if path != "/api/chat" && path != "/api/generate" => {
                        "a name".into()
                    }
                    // Of lists only what an entry looks like: which models are there is not the point.
                    "models" => shapes(normal(value, path)),
                    _ => normal(value, path),
                };
                (key, value)
            };
            Value::Object(object.into_iter().map(entry).collect())
        }
        Value::Array(items) => items.into_iter().map(|item| normal(item, path)).collect(),
        other => other,
    }
}

/// What files of both kinds say.
fn of_every_model(info: &Value) -> Value {
    let info = info.as_object().unwrap();
    let architecture = info["general.architecture"].as_str().unwrap();
    let context = format!("{architecture}.context_length");
    let wanted = ["general.architecture", "general.basename", &*context];
    wanted.map(|key| info.contains_key(key)).to_vec().into()
}

fn sorted(list: Value) -> Value {
    let list: BTreeSet<String> = serde_json::from_value(list).unwrap();
    list.into_iter().collect()
}

fn shapes(list: Value) -> Value {
    let mut list = list.as_array().unwrap().clone();
    list.dedup();
    list.into()
}

/// Takes these keys and words of lists away, at whatever depth.
fn strip(value: &mut Value, keys: &[&str]) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !keys.contains(&key.as_str()));
            object.values_mut().for_each(|value| strip(value, keys));
        }
        Value::Array(items) => {
            items.retain(|item| !item.as_str().is_some_and(|item| keys.contains(&item)));
            items.iter_mut().for_each(|item| strip(item, keys));
        }
        _ => {}
    }
}

/// The keys of what is said.
const SAID: [&str; 4] = ["response", "content", "thinking", "error"];

/// Blots out what is said.
fn blot(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if SAID.contains(&&**key) && !text.is_empty() => {
                        "words".clone_into(text);
                    }
                    other => blot(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(blot),
        _ => {}
    }
}

async fn ask(server: &Server, record: &Record) -> Answer {
    let method = Method::from_bytes(record.method.as_bytes()).unwrap();
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let mut request = client.request(method, format!("{}{}", server.url, record.path));
    for (name, value) in &record.headers {
        request = request.header(name, value.as_str().unwrap());
    }
    if record.name == "blob-mismatch" {
        // Of whose SHA-256 the record tells.
        request = request.body("hello");
    } else if record.request.is_some() {
        request = request.body(record.body());
    }
    let response = request.send().await.unwrap();
    let content_type = response.headers().get("content-type");
    let content_type = content_type.map(|it| it.to_str().unwrap()).unwrap_or_default();
    let (status, content_type) = (response.status().as_u16(), essence(content_type));
    Answer::of(status, content_type, &response.text().await.unwrap(), &record.path)
}

/// What must come back, and where a difference is needed for that, the same without it.
fn expected(record: &Record, difference: Option<&Difference>) -> Answer {
    let recorded =
        |status, text: &str| Answer::of(status, record.content_type(), text, &record.path);
    match difference {
        Some((_, _, Here::Status(status), _)) => recorded(*status, &record.response),
        Some((_, _, Here::Says(status, body), _)) => {
            Answer::of(*status, "application/json".to_owned(), body, &record.path)
        }
        Some((_, _, Here::Refuses(status, words), _)) => {
            let body = json!({"error": words}).to_string();
            Answer::of(*status, "application/json".to_owned(), &body, &record.path)
        }
        _ => recorded(record.status, &record.response),
    }
}

fn compared(mut answer: Answer, difference: Option<&Difference>) -> Answer {
    match difference {
        Some((_, _, Here::Without(keys), _)) => strip(&mut answer.body, keys),
        Some((_, _, Here::OtherWords, _)) => blot(&mut answer.body),
        Some((_, _, Here::Refuses(_, words), _)) => {
            let error = answer.body["error"].as_str().unwrap_or_default();
            if error.contains(words) {
                answer.body = json!({"error": words});
            }
        }
        _ => {}
    }
    answer
}

#[tokio::test]
async fn every_recorded_answer_is_given_here_but_for_the_differences_that_are_listed() {
    let server = setup().start();
    let (mut used, mut unasked) = (BTreeSet::new(), BTreeSet::new());
    let (mut asked, mut faults) = (0, Vec::new());
    for record in records() {
        let id = record.id();
        if let Some(row) = NOT_ASKED.iter().position(|(begin, _)| id.starts_with(begin)) {
            unasked.insert(row);
            continue;
        }
        let row = DIFFERENCES
            .iter()
            .position(|(begin, part, _, _)| id.starts_with(begin) && id.contains(part));
        let difference = row.map(|row| &DIFFERENCES[row]);
        server.rescript(&script(&record));
        let wanted = compared(expected(&record, difference), difference);
        // A model that has been unloaded is listed until it has gone.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let found = loop {
            let found = ask(&server, &record).await;
            let is_late = record.path != "/api/ps" || std::time::Instant::now() > deadline;
            if is_late || compared(found.clone(), difference) == wanted {
                break found;
            }
        };
        if row.is_some_and(|_| found != expected(&record, None)) {
            used.extend(row);
        }
        let found = compared(found, difference);
        asked += 1;
        if found != wanted {
            faults.push(format!("{id}\n  wanted {wanted:?}\n  found  {found:?}"));
        }
    }
    assert!(faults.is_empty(), "{} of {asked}:\n{}", faults.len(), faults.join("\n"));
    assert!(asked > 120, "{asked}");
    let idle = |all: usize, used: &BTreeSet<usize>| {
        (0..all).filter(|row| !used.contains(row)).collect::<Vec<_>>()
    };
    assert_eq!(idle(DIFFERENCES.len(), &used), [] as [usize; 0], "rows of no use");
    assert_eq!(idle(NOT_ASKED.len(), &unasked), [] as [usize; 0], "rows of no use");
}
