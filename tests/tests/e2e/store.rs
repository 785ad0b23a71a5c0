//! The models' folder over HTTP on the real executable: models are pulled, made, copied and removed while
//! the server answers, and whatever breaks in the middle leaves nothing behind.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use reqwest::{Client, StatusCode};
use rkllama_tests::{
    Chat, ModelDir, OllamaReply, Server, ServerSetup, eventually, repository, request,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cli_support::Hub;

fn demo(file: &str) -> Vec<u8> {
    fs::read(repository().join("mock-npu/demo").join(file)).unwrap()
}

fn hub() -> Hub {
    Hub::of(&[
        ("org/repo", "tokenizer.json", &demo("tokenizer.json")),
        ("org/repo", "tokenizer_config.json", &demo("tokenizer_config.json")),
        ("org/repo", "demo-rk3588.rkllm", &demo("demo.rkllm")),
    ])
}

/// The statuses of a stream of progress, each once.
fn statuses(reply: &OllamaReply) -> Vec<String> {
    assert_eq!((reply.status, &*reply.content_type), (StatusCode::OK, "application/x-ndjson"));
    let mut all: Vec<String> = Vec::new();
    for line in reply.text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let status = line["status"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
        if all.last() != Some(&status) {
            all.push(status);
        }
    }
    all
}

async fn names(server: &Server) -> Vec<String> {
    let tags = OllamaReply::get(server, "/api/tags").await.object();
    let models = tags["models"].as_array().unwrap().iter();
    let mut names: Vec<String> =
        models.map(|model| model["name"].as_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}

async fn delete(server: &Server, name: &str) -> StatusCode {
    let url = format!("{}/api/delete", server.url);
    let request = Client::new().delete(url).json(&json!({"model": name}));
    request.send().await.unwrap().status()
}

/// Everything that a person does with a model, in one go.
#[tokio::test]
async fn a_model_is_pulled_asked_changed_and_thrown_away() {
    let hub = hub();
    let server = ServerSetup::new().mock("1.3.0").config(&hub.config()).start();
    assert_eq!(names(&server).await, [""; 0]);
    let pulled = OllamaReply::post(&server, "/api/pull", json!({"model": "hf.co/org/repo"})).await;
    assert_eq!(
        statuses(&pulled),
        [
            "pulling manifest",
            "pulling tokenizer.json",
            "pulling tokenizer_config.json",
            "pulling demo-rk3588.rkllm",
            "verifying sha256 digest",
            "writing manifest",
            "success",
        ]
    );
    assert_eq!(names(&server).await, ["repo:latest"]);
    // By every name it may be called.
    for name in ["repo", "hf.co/org/repo", "org/repo/demo-rk3588.rkllm", "demo-rk3588"] {
        let answer = Chat::user("Hi").with("model", name).ask(&server).await;
        assert!(!answer.content().is_empty(), "{name}");
    }
    let made = json!({
        "model": "mario", "from": "org/repo", "system": "You are Mario.",
        "parameters": {"temperature": 0, "num_predict": 5},
        "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me!"}],
    });
    let made = OllamaReply::post(&server, "/api/create", made).await;
    assert_eq!(statuses(&made).last().unwrap(), "success");
    let answer = Chat::user("Hi").with("model", "mario").send(&server).await;
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["usage"]["completion_tokens"], 5, "its own limit: {answer}");
    let applied = json!({"model": "mario", "messages": [{"role": "user", "content": "Hi"}]});
    let applied = OllamaReply::post(&server, "/apply-template", applied).await.object();
    let prompt = applied["prompt"].as_str().unwrap();
    let at = |words: &str| prompt.find(words).unwrap_or_else(|| panic!("{words} in {prompt}"));
    assert!(at("You are Mario.") < at("Who?") && at("Me!") < at("Hi"), "{prompt}");
    let copied = json!({"source": "mario", "destination": "user/luigi:1"});
    assert_eq!(OllamaReply::post(&server, "/api/copy", copied).await.status, StatusCode::OK);
    assert_eq!(names(&server).await, ["mario:latest", "repo:latest", "user/luigi:1"]);
    // Three models, and the weights of one.
    let inode = |path: &str| fs::metadata(server.dir().join("models").join(path)).unwrap().ino();
    assert_eq!(inode("mario/demo-rk3588.rkllm"), inode("user%2Fluigi:1/demo-rk3588.rkllm"));
    // Loaded, it is unloaded and gone; the others answer.
    assert_eq!(delete(&server, "mario").await, StatusCode::OK);
    assert_eq!(delete(&server, "mario").await, StatusCode::NOT_FOUND);
    let residents = async || OllamaReply::get(&server, "/api/ps").await.object().to_string();
    while residents().await.contains("mario") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let answer = Chat::user("Hi").with("model", "user/luigi:1").ask(&server).await;
    assert!(!answer.content().is_empty());
    for name in ["repo", "user/luigi:1"] {
        assert_eq!(delete(&server, name).await, StatusCode::OK);
    }
    assert_eq!(names(&server).await, [""; 0]);
    let left: Vec<_> = fs::read_dir(server.dir().join("models")).unwrap().collect();
    assert!(left.iter().all(|it| it.as_ref().unwrap().file_name() == ".pulls"), "{left:?}");
}

/// The download goes on where it was when the server was killed in its middle.
#[tokio::test]
async fn a_killed_server_goes_on_where_it_was() {
    let hub = hub();
    hub.hold();
    let mut server = ServerSetup::new().mock("1.3.0").config(&hub.config()).start();
    let pull = request(&server, "/api/pull", &json!({"model": "org/repo"}));
    let pull = tokio::spawn(async move { pull.send().await?.text().await });
    eventually("half of the weights", || (!hub.starts().is_empty()).then_some(())).await;
    // What has come is on its way to the disk.
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.signal(Signal::KILL);
    server.wait();
    assert!(pull.await.unwrap().is_err());
    hub.let_go_on();
    let server = server.start_again();
    assert_eq!(names(&server).await, [""; 0], "half a model is none");
    let pulled = OllamaReply::post(&server, "/api/pull", json!({"model": "org/repo"})).await;
    assert_eq!(statuses(&pulled).last().unwrap(), "success");
    assert_eq!(hub.starts().len(), 2);
    let weights = fs::read(server.dir().join("models/repo/demo-rk3588.rkllm")).unwrap();
    assert_eq!(weights, demo("demo.rkllm"));
    let answer = Chat::user("Hi").with("model", "repo").ask(&server).await;
    assert!(!answer.content().is_empty());
}

/// Two clients wait for one download; when one leaves it goes on, and when both leave it stops.
#[tokio::test]
async fn clients_share_a_download_that_stops_with_the_last_of_them() {
    let hub = hub();
    hub.hold();
    let server = ServerSetup::new().mock("1.3.0").config(&hub.config()).start();
    let ask = || {
        let pull = request(&server, "/api/pull", &json!({"model": "org/repo"}));
        tokio::spawn(async move { pull.send().await.unwrap().text().await })
    };
    let (first, second) = (ask(), ask());
    eventually("the weights are asked for", || (!hub.starts().is_empty()).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    first.abort();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((hub.starts().len(), hub.left()), (1, 0), "one download, which goes on");
    second.abort();
    eventually("the download stops", || (hub.left() == 1).then_some(())).await;
    hub.let_go_on();
    let pulled = ask().await.unwrap().unwrap();
    assert!(pulled.ends_with("{\"status\":\"success\"}\n"), "{pulled}");
}

/// What is sent in pieces becomes a model; what breaks off, or is another file, leaves nothing.
#[tokio::test]
async fn files_that_are_sent_become_a_model() {
    let server = ServerSetup::new().mock("1.3.0").start();
    let client = Client::new();
    let mut files = serde_json::Map::new();
    for (name, file) in [
        ("model.rkllm", "demo.rkllm"),
        ("tokenizer.json", "tokenizer.json"),
        ("tokenizer_config.json", "tokenizer_config.json"),
    ] {
        let content = demo(file);
        let digest = sha256(&content);
        let url = format!("{}/api/blobs/{digest}", server.url);
        assert_eq!(client.head(&url).send().await.unwrap().status(), StatusCode::NOT_FOUND);
        let sent = client.post(&url).body(content).send().await.unwrap();
        assert_eq!(sent.status(), StatusCode::CREATED);
        assert_eq!(client.head(&url).send().await.unwrap().status(), StatusCode::OK);
        files.insert(name.to_owned(), digest.into());
    }
    let wrong = format!("{}/api/blobs/sha256:{}", server.url, "0".repeat(64));
    let refused = client.post(wrong).body("other").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let made = json!({"model": "sent", "files": files, "stream": false});
    let made = OllamaReply::post(&server, "/api/create", made).await;
    assert_eq!(made.object(), json!({"status": "success"}));
    let answer = Chat::user("Hi").with("model", "sent").ask(&server).await;
    assert!(!answer.content().is_empty());
    let blobs: Vec<_> = fs::read_dir(server.dir().join("models/.blobs")).unwrap().collect();
    assert_eq!(blobs.len(), 3, "nothing of what was refused: {blobs:?}");
}

/// A file that is larger than any body: it goes to the disk as it comes.
#[tokio::test]
async fn a_file_may_be_larger_than_a_body() {
    let server = ServerSetup::new().mock("1.3.0").config("[limits]\nbody_bytes_max = 4096").start();
    let content = vec![7u8; 1 << 20];
    let url = format!("{}/api/blobs/{}", server.url, sha256(&content));
    let sent = Client::new().post(url).body(content).send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::CREATED);
}

/// While its model is loaded and answers, a model of the same name takes its place.
#[tokio::test]
async fn a_loaded_model_is_replaced() {
    let server = ServerSetup::new().mock("1.3.0").model(&ModelDir::demo("m")).start();
    Chat::user("Hi").with("model", "m").ask(&server).await;
    let made =
        json!({"model": "M", "from": "m", "parameters": {"num_predict": 3}, "stream": false});
    OllamaReply::post(&server, "/api/create", made).await.object();
    assert_eq!(names(&server).await, ["m:latest"]);
    let answer = Chat::user("Hi").with("model", "m").send(&server).await;
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["usage"]["completion_tokens"], 3, "{answer}");
}

fn sha256(content: &[u8]) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(content);
    digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// A template that cannot be used, in either language, costs nobody the model they had.
#[tokio::test]
async fn a_modelfile_with_a_broken_template_changes_nothing() {
    let server = ServerSetup::demo().start();
    let create = async |modelfile: &str| {
        let body = json!({"model": "mine", "modelfile": modelfile});
        OllamaReply::post(&server, "/api/create", body).await.text
    };
    let made = create("FROM demo\nSYSTEM Old.").await;
    assert!(made.contains("success"), "{made}");
    for template in ["{% if %}", "{{ .Prompt"] {
        let refused = create(&format!("FROM demo\nSYSTEM New.\nTEMPLATE {template}")).await;
        assert!(refused.contains("template error: "), "{refused}");
        assert!(!refused.contains("success"), "{refused}");
    }
    let shown = OllamaReply::post(&server, "/api/show", json!({"model": "mine"})).await.object();
    assert_eq!(shown["system"], "Old.", "{shown}");
}
