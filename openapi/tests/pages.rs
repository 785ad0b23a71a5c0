//! Models, health, pages, and what is said about paths and methods that do not exist.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use common::{ListedModels, ScriptedEngine, hello, incomplete, limits, shown, state, state_with};
use poem::{http::Method, test::TestClient};
use rkllama_core::{EngineError, ModelRuntime, Problem};
use rkllama_openapi::State;

fn client() -> TestClient<impl poem::Endpoint> {
    TestClient::new(rkllama_openapi::app(state(ScriptedEngine::playing(hello())), limits()))
}

#[tokio::test]
async fn models() {
    let client = client();
    let mut all = String::new();
    for path in [
        "/v1/models",
        "/v1/models/tiny",
        "/v1/models/Qwen/Qwen3-0.6B",
        "/v1/models/Qwen%2FQwen3-0.6B",
        "/v1/models/broken",
        "/v1/models/nobody",
        "/v1/models/no/body",
        "/v1/models/twin",
        "/v1/models/",
        "/v1/models/%FF",
        "/v1/models/a/%FF",
    ] {
        all += &format!("GET {path}\n{}\n\n", shown(client.get(path).send().await).await);
    }
    insta::assert_snapshot!(all);
}

#[tokio::test]
async fn health() {
    let well = shown(client().get("/health").send().await).await;
    let problem = Problem {
        subject: "runtime".to_owned(),
        detail: "librkllmrt.so was not found: install it or pass --runtime".to_owned(),
    };
    let runtime = ModelRuntime {
        model: "tiny".to_owned(),
        version: "1.3.0".to_owned(),
        path: "/usr/lib/librkllmrt.so".into(),
        reason: "no other one comes into question".to_owned(),
        warning: Some("it misreads the end of sequence".to_owned()),
    };
    let engine = ScriptedEngine {
        problems: vec![problem],
        runtimes: vec![runtime],
        ..ScriptedEngine::default()
    };
    let app = rkllama_openapi::app(state(engine.into()), limits());
    let unwell = shown(TestClient::new(app).get("/health").send().await).await;
    insta::assert_snapshot!(format!("{well}\n\n{unwell}"));
}

/// One model that can be asked for is enough; else everything that is missing is named, once.
#[tokio::test]
async fn readiness() {
    let refusing = |refusal| ScriptedEngine { refusal: Some(refusal), ..ScriptedEngine::default() };
    let reason = "no usable RKLLM runtime: no librkllmrt.so in /usr/lib".to_owned();
    let broken = || ListedModels::of([incomplete("a"), incomplete("b")]);
    let empty = State {
        empty_store_hint: Some("put a folder into /models".to_owned()),
        ..state_with(ScriptedEngine::playing(hello()), ListedModels::of([]))
    };
    let mut all = String::new();
    for (what, state) in [
        ("ready", state(ScriptedEngine::playing(hello()))),
        ("no runtime", state(refusing(EngineError::Runtime { reason }).into())),
        ("shutting down", state(refusing(EngineError::ShuttingDown).into())),
        ("incomplete", state_with(ScriptedEngine::playing(hello()), broken())),
        ("empty", empty),
    ] {
        let client = TestClient::new(rkllama_openapi::app(state, limits()));
        all += &format!("{what}\n{}\n\n", shown(client.get("/ready").send().await).await);
    }
    insta::assert_snapshot!(all);
}

/// Which route was asked, how and with what result; never the path itself, nor a method or a name
/// that a client made up.
#[tokio::test]
async fn requests_are_counted_by_route_and_status() {
    let client = client();
    for (method, path) in [
        (Method::GET, "/v1/models/SECRET"),
        (Method::GET, "/v1/models/SECRET"),
        (Method::GET, "/v1/models/tiny"),
        (Method::GET, "/SECRET"),
        (Method::from_bytes(b"SECRET").unwrap(), "/health"),
        (Method::POST, "/v1/chat/completions"),
        (Method::GET, "/docs/SECRET.js"),
        (Method::GET, "/docs/index.css"),
        (Method::GET, "/openapi.json"),
    ] {
        client.request(method, path).send().await;
    }
    let response = client.get("/metrics").send().await;
    response.assert_status_is_ok();
    response.assert_content_type("text/plain; version=0.0.4");
    let text = response.0.into_body().into_string().await.unwrap();
    assert!(!text.contains("SECRET"), "{text}");
    let mut lines: Vec<&str> =
        text.lines().filter(|line| line.starts_with("rkllama_http_requests_total")).collect();
    lines.sort_unstable();
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods() {
    let client = client();
    let mut all = String::new();
    for (method, path) in [
        (Method::POST, "/v1/foo"),
        (Method::GET, "/"),
        (Method::GET, "/v1/chat/completions"),
        (Method::DELETE, "/v1/models/a/b"),
        (Method::POST, "/v1/models"),
        (Method::PUT, "/health"),
        (Method::POST, "/openapi.json"),
        (Method::POST, "/docs/"),
        (Method::POST, "/docs/index.css"),
        (Method::GET, "/docs/nothing.js"),
    ] {
        let response = client.request(method.clone(), path).send().await;
        all += &format!("{method} {path}\n{}\n\n", shown(response).await);
    }
    insta::assert_snapshot!(all);
}

#[tokio::test]
async fn little_of_a_path_is_repeated() {
    let client = client();
    let long = "a".repeat(5000);
    for (method, path) in [
        (Method::GET, format!("/{long}")),
        (Method::DELETE, format!("/v1/models/{long}")),
        (Method::GET, format!("/v1/models/{long}")),
    ] {
        let answer = shown(client.request(method, path).send().await).await;
        assert!(answer.len() < 500, "{} bytes", answer.len());
    }
}

#[tokio::test]
async fn the_documents_are_served() {
    let client = client();
    let json = client.get("/openapi.json").send().await;
    json.assert_content_type("application/json");
    json.assert_text(rkllama_openapi::document::<()>()).await;
    let yaml = client.get("/openapi.yaml").send().await;
    yaml.assert_content_type("application/yaml");
    yaml.assert_text(rkllama_openapi::document_yaml::<()>()).await;
}

#[tokio::test]
async fn the_pages_are_served_with_a_policy_and_point_at_the_document() {
    let client = client();
    for file in ["", "index.html", "swagger-ui-bundle.js", "swagger-ui.css"] {
        let page = client.get(format!("/docs/{file}")).send().await;
        page.assert_status_is_ok();
        let policy = page.0.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        page.assert_header("x-content-type-options", "nosniff");
    }
    let page = client.get("/docs/swagger-initializer.js").send().await;
    let script = page.0.into_body().into_string().await.unwrap();
    assert!(script.contains("\"/openapi.json\""), "{script}");
}

#[tokio::test]
async fn every_answer_has_the_clients_id_or_a_new_one() {
    let client = client();
    for path in ["/health", "/v1/nothing", "/docs/", "/openapi.json"] {
        let response = client.get(path).header("x-request-id", "mine-1").send().await;
        response.assert_header("x-request-id", "mine-1");
        let response = client.get(path).send().await;
        let id = response.0.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert!(id.starts_with("req_") && id.len() == 36, "{id}");
    }
}
