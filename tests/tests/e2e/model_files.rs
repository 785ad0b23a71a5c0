//! Models' files that are wrong, are changed, or were written for other programs.

use std::{fs, path::PathBuf};

use rkllama_tests::{Answer, Chat, ModelDir, Server, ServerSetup};
use serde_json::{Value, json};

async fn health(server: &Server) -> Value {
    let response = reqwest::get(format!("{}/health", server.url)).await.unwrap();
    response.json().await.unwrap()
}

fn problems_of(health: &Value, model: &str) -> Vec<String> {
    let problems = health["problems"].as_array().unwrap().iter();
    let own = problems.filter(|problem| problem["subject"] == model);
    own.map(|problem| problem["detail"].as_str().unwrap().to_owned()).collect()
}

/// The demo model with another template.
fn with_template(template: &str) -> (ServerSetup, PathBuf) {
    let setup = ServerSetup::demo();
    let config = setup.models().join("demo/tokenizer_config.json");
    let mut keys: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    keys["chat_template"] = template.into();
    fs::write(&config, keys.to_string()).unwrap();
    (setup, config)
}

fn incomplete(answer: &Answer, file: &str) {
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert_eq!(answer.body["error"]["code"], "model_incomplete");
    assert!(answer.error().contains(file), "{}", answer.error());
}

#[tokio::test]
async fn a_template_that_cannot_render_is_not_the_clients_fault() {
    let (setup, _) = with_template("{{ messages[0].content | unheard_of }}");
    let server = setup.start();
    let answer = Chat::user("Hi").ask(&server).await;
    incomplete(&answer, "tokenizer_config.json");
    assert!(answer.error().contains("unheard_of"), "{}", answer.error());
    assert_eq!(problems_of(&health(&server).await, "demo").len(), 1);
}

#[tokio::test]
async fn what_a_template_says_against_a_conversation_is_the_clients_fault() {
    let (setup, _) = with_template("{{ raise_exception('Roles must alternate') }}");
    let server = setup.start();
    let answer = Chat::user("Hi").ask(&server).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(answer.error(), "Roles must alternate");
    assert_eq!(answer.body["error"]["param"], "messages");
    assert!(!server.log().contains("WARN"), "{}", server.log());
}

/// The demo's template knows tools as Qwen writes them; this model's owner knows better.
#[tokio::test]
async fn a_manifest_says_how_a_model_calls_tools_and_thinks() {
    let rules = "[[rule]]\nuser_contains = \"time\"\nsay = '[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}}]'\n\
                 [[rule]]\nuser_contains = \"think\"\nsay = '[THINK]Hm.[/THINK]Yes.'\n";
    let setup = ServerSetup::new().mock("1.3.0").model(
        &ModelDir::demo("demo")
            .manifest("tool_format = \"mistral\"\nreasoning_format = \"mistral\"\n")
            .script(rules),
    );
    let manifest = setup.models().join("demo/rkllama.toml");
    let server = setup.start();
    let tools = json!([{"type": "function", "function": {"name": "now"}}]);
    let called = Chat::user("What time is it?").with("tools", tools).ask(&server).await;
    assert_eq!(called.finish(), "tool_calls", "{}", called.body);
    let thought = Chat::user("What do you think?").ask(&server).await;
    assert_eq!(thought.content(), "Yes.");
    assert_eq!(thought.body["choices"][0]["message"]["reasoning_content"], "Hm.");

    // What is changed while the server runs counts from the next look at the folder on.
    fs::write(&manifest, "tool_format = \"morse\"\n").unwrap();
    let refused = loop {
        let answer = Chat::user("Hi").ask(&server).await;
        if answer.status != 200 {
            break answer;
        }
    };
    incomplete(&refused, "rkllama.toml");
    assert!(refused.error().contains("'morse'"), "{}", refused.error());
}

#[tokio::test]
async fn models_that_cannot_be_used_are_problems_by_their_name() {
    let setup = ServerSetup::demo().model(&ModelDir::demo("broken")).model(&ModelDir::demo("bare"));
    fs::write(setup.models().join("broken/tokenizer.json"), "{").unwrap();
    fs::remove_file(setup.models().join("bare/tokenizer.json")).unwrap();
    let server = setup.start();
    let first = health(&server).await;
    assert_eq!(first["status"], "degraded");
    assert_eq!(problems_of(&first, "bare").len(), 1, "{first}");
    // Whether its tokenizer can be parsed is known when somebody has asked for it.
    for _ in 0..2 {
        incomplete(&Chat::user("Hi").with("model", "broken").ask(&server).await, "tokenizer.json");
    }
    let then = health(&server).await;
    assert!(problems_of(&then, "broken")[0].contains("tokenizer.json"), "{then}");
    assert_eq!(problems_of(&then, "demo"), [""; 0]);
    assert_eq!(server.log().matches("files cannot be used").count(), 1, "parsed once");
}

#[tokio::test]
async fn recommendations_for_other_programs_leave_a_model_usable() {
    let setup = ServerSetup::demo();
    let file = setup.models().join("demo/generation_config.json");
    let mut keys: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    keys["top_k"] = json!(-1);
    keys["temperature"] = json!(3);
    fs::write(&file, keys.to_string()).unwrap();
    fs::write(setup.models().join("demo/Modelfile"), "FROM=demo.rkllm\nNUM_CTX=40000\n").unwrap();
    let server = setup.start();
    let answer = Chat::user("Hi").with("max_tokens", 1).ask(&server).await;
    assert_eq!(answer.finish(), "length");
    for words in ["key 'top_k' is skipped", "key 'temperature' is skipped", "the nearest is 16384"]
    {
        assert_eq!(server.log().matches(words).count(), 1, "{words}");
    }
}

/// A model that is repaired as its own error says, and one that came later, answer without a
/// restart; one whose weights are others is loaded anew.
#[tokio::test]
async fn repaired_and_new_models_answer_without_a_restart() {
    let setup = ServerSetup::demo().model(&ModelDir::demo("bare")).model(&ModelDir::demo("broken"));
    let models = setup.models();
    let tokenizer = fs::read(models.join("demo/tokenizer.json")).unwrap();
    fs::remove_file(models.join("bare/tokenizer.json")).unwrap();
    fs::write(models.join("broken/tokenizer.json"), "{").unwrap();
    let server = setup.start();
    let ask = |model: &str| Chat::user("Hi").with("model", model).with("max_tokens", 1);
    for model in ["bare", "broken"] {
        incomplete(&ask(model).ask(&server).await, "tokenizer.json");
    }
    assert_eq!(ask("new").ask(&server).await.status, 404);
    assert_eq!(ask("demo").ask(&server).await.status, 200);
    assert_eq!(server.trace().calls("rkllm_init"), 1);

    fs::write(models.join("bare/tokenizer.json"), &tokenizer).unwrap();
    fs::write(models.join("broken/tokenizer.json"), &tokenizer).unwrap();
    ModelDir::demo("new").write(&models);
    let weights = fs::File::options().write(true).open(models.join("demo/demo.rkllm")).unwrap();
    weights.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();

    for model in ["bare", "broken", "new"] {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while ask(model).ask(&server).await.status != 200 {
            assert!(std::time::Instant::now() < deadline, "{model} never answered");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    assert_eq!(health(&server).await["problems"], json!([]));
    let loads = server.trace().calls("rkllm_init");
    assert_eq!(ask("demo").ask(&server).await.status, 200);
    assert_eq!(server.trace().calls("rkllm_init"), loads + 1, "these are other weights");
}
