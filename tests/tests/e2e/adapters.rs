//! LoRA adapters on the real executable: a file of small weights makes another model of the same ones.

use std::{fs, path::PathBuf, time::Duration};

use rkllama_tests::{Chat, ModelDir, Server, ServerSetup, mock_library, until};
use serde_json::Value;

use crate::cli_support::{complaint, printed, run};

const BASE: &str = "[[rule]]\nsay = \"I am the base.\"\n";
const ADAPTED: &str = "RKLLM-MOCK-LORA 1\n[[rule]]\nsay = \"I am adapted.\"\n";

/// A server with a plain model.
fn server(release: &str) -> Server {
    let model = ModelDir::demo("base").toolkit(release).script(BASE);
    ServerSetup::new().mock(release).model(&model).start()
}

/// A file beside the models' folder.
fn write(server: &Server, name: &str, text: &str) -> PathBuf {
    let path = server.dir().join("parts").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

fn create(server: &Server, name: &str, modelfile: &str) -> String {
    let file = write(server, "Modelfile", modelfile);
    printed(&run(server, &["create", name, "-f", file.to_str().unwrap()]))
}

async fn says(server: &Server, model: &str) -> String {
    Chat::user("Who are you?").with("model", model).ask(server).await.content().to_owned()
}

/// Asks until what lies on the disk has been seen.
async fn until_it_says(server: &Server, model: &str, expected: &str) {
    let mut last = String::new();
    for _ in 0..500 {
        let answer = Chat::user("Who are you?").with("model", model).ask(server).await;
        if answer.status == 200 && answer.content() == expected {
            return;
        }
        last = answer.body.to_string();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{model} never said {expected:?}, but {last}");
}

/// The names of adapters that the runtime was told to run with, run by run.
fn adapters(server: &Server) -> Vec<Value> {
    server.trace().args("rkllm_run").iter().map(|args| args["lora"].clone()).collect()
}

#[tokio::test]
async fn an_adapter_makes_another_model_and_leaves_the_first_as_it_is() {
    for release in ["1.2.3", "1.3.0"] {
        let server = server(release);
        write(&server, "lora.rkllm", ADAPTED);
        let told = create(&server, "tuned", "FROM base\nADAPTER ./lora.rkllm\n");
        assert!(told.contains("sending lora.rkllm: complete\n"), "{told}");
        assert!(told.ends_with("created 'tuned'\n"), "{told}");

        assert_eq!(says(&server, "tuned").await, "I am adapted.", "{release}");
        assert_eq!(says(&server, "base").await, "I am the base.", "{release}");
        let loaded = server.trace().args("rkllm_load_lora");
        assert_eq!(loaded.len(), 1, "{loaded:?}");
        assert!(loaded[0]["path"].as_str().unwrap().ends_with("/tuned/lora.rkllm"));
        assert_eq!(adapters(&server), [loaded[0]["name"].clone(), Value::Null]);

        // It is shown, and what is shown makes the same model again.
        let shown = printed(&run(&server, &["show", "tuned"]));
        let is_row =
            |line: &str| line.split_whitespace().eq(["adapter", "lora.rkllm", "rkllama.toml"]);
        assert!(shown.lines().any(is_row), "{shown}");
        let modelfile = printed(&run(&server, &["show", "tuned", "--modelfile"]));
        assert!(modelfile.contains("\nADAPTER lora.rkllm\n"), "{modelfile}");
        printed(&run(&server, &["cp", "tuned", "copy"]));
        assert_eq!(says(&server, "copy").await, "I am adapted.", "{release}");
        printed(&run(&server, &["rm", "tuned"]));
        assert_eq!(says(&server, "copy").await, "I am adapted.", "{release}");
    }
}

/// In the words of the servers for boards, in a folder that holds weights and adapter.
#[tokio::test]
async fn a_folder_with_an_adapter_is_sent_and_lies_in_place() {
    let server = server("1.3.0");
    let parts = server.dir().join("parts");
    fs::create_dir(&parts).unwrap();
    ModelDir::demo("pair").script(BASE).write(&parts);
    let lora = parts.join("pair/lora.rkllm");
    fs::write(&lora, ADAPTED).unwrap();
    let modelfile = format!("FROM=\"pair\"\nADAPTER=\"{}\"\n", lora.display());
    create(&server, "sent", &modelfile);
    assert_eq!(says(&server, "sent").await, "I am adapted.");

    // The same folder among the models, with a Modelfile of its own.
    fs::write(parts.join("pair/Modelfile"), "FROM=\"pair.rkllm\"\nADAPTER=\"lora.rkllm\"\n")
        .unwrap();
    fs::rename(parts.join("pair"), server.dir().join("models/pair")).unwrap();
    until_it_says(&server, "pair", "I am adapted.").await;
}

#[tokio::test]
async fn an_adapter_that_the_runtime_refuses_is_named_and_no_other_library_is_tried() {
    let model = ModelDir::demo("tuned").manifest("[adapter]\nfile = 'lora.rkllm'\n");
    let setup = ServerSetup::new().mock("1.3.0").runtime(mock_library("1.2.3")).model(&model);
    let lora = setup.models().join("tuned/lora.rkllm");
    fs::write(&lora, "RKLLM-MOCK-LORA 1\nnonsense").unwrap();
    let server = setup.start();
    let answer = Chat::user("Hi").with("model", "tuned").ask(&server).await;
    assert_eq!(answer.status, 503, "{:?}", answer.body);
    let words = format!("the runtime refused the adapter {}", lora.display());
    assert!(answer.error().contains(&words), "{}", answer.error());
    assert_eq!(server.trace().calls("rkllm_init"), 1);

    // Mended, it works, without a restart.
    fs::write(&lora, ADAPTED).unwrap();
    until_it_says(&server, "tuned", "I am adapted.").await;
}

#[test]
fn a_lost_adapter_makes_its_model_incomplete_and_is_named() {
    let server = server("1.3.0");
    write(&server, "lora.rkllm", ADAPTED);
    create(&server, "tuned", "FROM base\nADAPTER lora.rkllm\n");
    fs::remove_file(server.dir().join("models/tuned/lora.rkllm")).unwrap();
    until("the loss is seen", || {
        let words = complaint(&run(&server, &["run", "tuned", "Hi"]));
        words.contains("no adapter lora.rkllm in ").then_some(())
    });
}
