//! The words of every refusal, by which clients go.

use std::{fmt::Write, sync::Arc};

use rkllama_core::{EngineError, ModelError};
use serde_json::{Value, json};

use crate::common::{ScriptedEngine, client, error, hello, post, shown, too_long, with};

const POST: [&str; 5] = ["chat", "generate", "embed", "embeddings", "show"];

/// One line for each: what was sent, and what came of it.
#[derive(Default)]
struct Table(String);

impl Table {
    async fn raw(&mut self, route: &str, body: &str) {
        let client = client(ScriptedEngine::playing(hello()));
        // The kind of content is nobody's business.
        let request = client.post(format!("/api/{route}")).header("content-type", "text/plain");
        let response = request.body(body.to_owned()).send().await;
        let (status, kind) =
            (response.0.status(), response.0.headers().get("content-type").cloned());
        let words = response.0.into_body().into_string().await.unwrap();
        let body: String = body.chars().take(160).collect();
        if status.is_success() {
            writeln!(self.0, "{route} {body}\n    {status}").unwrap();
            return;
        }
        assert!(kind.unwrap().to_str().unwrap().starts_with("application/json"), "{words}");
        let words: Value = serde_json::from_str(&words).unwrap();
        assert_eq!(words.as_object().unwrap().len(), 1, "{words}");
        let words = words["error"].as_str().unwrap();
        writeln!(self.0, "{route} {body}\n    {} {words}", status.as_u16()).unwrap();
    }

    async fn add(&mut self, route: &str, body: Value) {
        self.raw(route, &body.to_string()).await;
    }
}

#[tokio::test]
async fn bodies() {
    let mut table = Table::default();
    for route in POST {
        for body in [
            "",
            " \r\n",
            "{\"model\":",
            "hello",
            "[]",
            "{\"model\":1}",
            "{\"model\" 1}",
            "{,}",
            "null",
            "\"x\"",
            "5",
        ] {
            table.raw(route, body).await;
        }
    }
    for body in [
        json!({"messages": "hi"}),
        json!({"messages": ["hi"]}),
        json!({"messages": [{"content": [{"type": "text", "text": "x"}]}]}),
        json!({"messages": [{"role": 1}]}),
        json!({"messages": [{"images": "x"}]}),
        json!({"messages": [{"images": ["!!!"]}]}),
        json!({"messages": [{"images": ["data:image/png;base64,AAAA"]}]}),
        json!({"messages": [{"tool_calls": [{"function": {"name": "f", "arguments": "{\"a\":1}"}}]}]}),
        json!({"tools": {}}),
        json!({"tools": [{"function": {"name": 1}}]}),
        json!({"tools": [{"function": {"name": "f", "parameters": "x"}}]}),
        json!({"stream": "false"}),
        json!({"options": [1]}),
        json!({"think": "huge"}),
        json!({"think": 1}),
        json!({"truncate": 1}),
        json!({"top_logprobs": 1.5}),
        json!({"top_logprobs": "x"}),
    ] {
        table.add("chat", with(json!({"model": "able"}), body)).await;
    }
    for body in [
        json!({"prompt": 1}),
        json!({"images": ["!!!"]}),
        json!({"context": "x"}),
        json!({"context": [1.5]}),
        json!({"raw": "yes"}),
        json!({"options": [1]}),
        json!({"think": []}),
    ] {
        table.add("generate", with(json!({"model": "able"}), body)).await;
    }
    table.add("embed", json!({"model": "bert", "input": "x", "dimensions": "x"})).await;
    table.add("embeddings", json!({"model": "bert", "prompt": ["x"]})).await;
    insta::assert_snapshot!(table.0);
}

/// What other servers would read: more behind the body, fields in either case, what is unknown.
#[tokio::test]
async fn bodies_that_are_fine() {
    let mut table = Table::default();
    for body in [
        "{\"model\":\"plain\"} garbage",
        "\u{feff}{\"MODEL\":\"plain\",\"Messages\":null,\"foo\":[1]}",
        "{\"model\":\"nope\",\"model\":\"plain\",\"tools\":[],\"options\":null,\"format\":null}",
    ] {
        table.raw("chat", body).await;
    }
    for line in table.0.lines().skip(1).step_by(2) {
        assert_eq!(line.trim(), "200 OK", "{}", table.0);
    }
}

#[tokio::test]
async fn models() {
    let mut table = Table::default();
    for route in POST {
        for model in ["", "nope", "a b", "hf.co/org/repo:Q4", "-a", "a:b:c", "twin"] {
            let more = json!({"messages": [{"content": "x"}], "prompt": "x", "input": "x"});
            table.add(route, with(more, json!({"model": model}))).await;
        }
        table.raw(route, "{}").await;
    }
    insta::assert_snapshot!(table.0);
}

#[tokio::test]
async fn capabilities_and_parameters() {
    let mut table = Table::default();
    let tools = json!([{"function": {"name": "f"}}]);
    let picture = json!([{"role": "user", "content": "x", "images": ["iVBORw0KGgo="]}]);
    for more in [
        json!({"model": "bert"}),
        json!({"tools": tools}),
        json!({"tools": []}),
        json!({"think": true}),
        json!({"think": "low"}),
        json!({"think": false}),
        json!({"messages": picture}),
        json!({"top_logprobs": -1}),
        json!({"top_logprobs": 21}),
        json!({"options": {"temperature": "hot"}}),
        json!({"options": {"num_ctx": "4096"}}),
        json!({"options": {"use_mmap": 1}}),
        json!({"options": {"stop": "x"}}),
        json!({"options": {"stop": ["x", 1]}}),
        json!({"format": "xml"}),
        json!({"format": 5}),
        json!({"format": ["json"]}),
        json!({"format": {"x": "y".repeat(300_000)}}),
        json!({"keep_alive": "-1"}),
        json!({"keep_alive": "5"}),
        json!({"keep_alive": ""}),
        json!({"keep_alive": "abc"}),
        json!({"keep_alive": "1d"}),
        json!({"keep_alive": true}),
        json!({"keep_alive": [1]}),
        json!({"keep_alive": {}}),
        json!({"model": "able", "tools": [{"function": {"name": ""}}]}),
        json!({"model": "able", "tools": [{"function": {"name": "a b"}}]}),
        json!({"model": "able", "tools": vec![json!({"function": {"name": "f"}}); 129]}),
        // A mere load is checked too.
        json!({"messages": [], "think": true}),
        json!({"messages": [], "options": {"num_ctx": "z"}}),
    ] {
        let base = json!({"model": "plain", "messages": [{"role": "user", "content": "x"}]});
        table.add("chat", with(base, more)).await;
    }
    for more in [
        json!({"model": "bert"}),
        json!({"suffix": "y"}),
        json!({"suffix": ""}),
        json!({"think": true}),
        json!({"raw": true, "system": "s"}),
        json!({"raw": true, "template": "t"}),
        json!({"raw": true, "context": [1]}),
        json!({"template": "{{ .Prompt }}"}),
        json!({"context": [1, -1]}),
        json!({"images": ["iVBORw0KGgo="]}),
        json!({"options": {"main_gpu": "x"}}),
        json!({"prompt": "", "options": {"stop": 1}}),
    ] {
        table.add("generate", with(json!({"model": "plain", "prompt": "x"}), more)).await;
    }
    for route in ["embed", "embeddings"] {
        let base = json!({"model": "bert", "input": "x", "prompt": "x"});
        for more in [json!({"options": {"num_ctx": "z"}}), json!({"keep_alive": "1d"})] {
            table.add(route, with(base.clone(), more)).await;
        }
    }
    insta::assert_snapshot!(table.0);
}

#[tokio::test]
async fn errors_of_the_engine() {
    let model = || "able".to_owned();
    let reason = || "reason".to_owned();
    let mut answers = Vec::new();
    for failed in [
        EngineError::Model(ModelError::Incomplete { model: model(), reason: reason() }),
        EngineError::Model(ModelError::Unreadable { path: "/secret".into(), reason: reason() }),
        EngineError::Template { reason: reason() },
        EngineError::Prompt { reason: reason() },
        EngineError::Format { reason: reason() },
        EngineError::Unsupported { model: model(), what: "images" },
        too_long(),
        EngineError::QueueFull { what: "model 'able'".to_owned(), waiting: 3 },
        EngineError::QueueTimeout { model: model(), waited_s: 60 },
        EngineError::Degraded { model: model(), what: reason(), retry_after_s: 7 },
        EngineError::ShuttingDown,
        EngineError::Runtime { reason: reason() },
        EngineError::Load { model: model(), reason: reason() },
        EngineError::Worker { model: model(), what: "died".to_owned() },
        EngineError::Run { reason: reason() },
    ] {
        let engine = ScriptedEngine::playing(vec![error(failed.clone())]);
        let body = json!({"model": "able", "messages": [{"role": "user", "content": "x"}]});
        let streamed = shown(post(&engine, "/api/chat", &body).await).await;
        let whole = with(body, json!({"stream": false}));
        assert_eq!(shown(post(&engine, "/api/chat", &whole).await).await, streamed);
        // Of a load it is the same.
        let loading =
            Arc::new(ScriptedEngine { load_error: Some(failed), ..ScriptedEngine::default() });
        let load = json!({"model": "able"});
        for route in ["chat", "generate", "embed", "embeddings"] {
            let refused = shown(post(&loading, &format!("/api/{route}"), &load).await).await;
            assert_eq!(refused, streamed, "{route}");
        }
        answers.push(streamed);
    }
    insta::assert_snapshot!(answers.join("\n\n"));
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods() {
    let mut answers = Vec::new();
    for path in ["/api/nope", "/api/chat/x"] {
        answers.push(shown(client(Arc::default()).get(path).send().await).await);
    }
    for path in ["/api/chat", "/api/show"] {
        answers.push(shown(client(Arc::default()).get(path).send().await).await);
    }
    for path in ["/api/tags", "/api/version"] {
        answers.push(shown(client(Arc::default()).delete(path).send().await).await);
    }
    insta::assert_snapshot!(answers.join("\n\n"));
}
