//! What other servers got wrong where the API meets the model: parts, instructions, names, tools.

use rkllama_tests::{Chat, ModelDir, ServerSetup};
use serde_json::{Value, json};

#[tokio::test]
async fn a_list_of_texts_is_the_text() {
    let server = ServerSetup::demo().start();
    let text = Chat::user("What is an NPU?").ask(&server).await;
    let part = json!([{"type": "text", "text": "What is an NPU?"}]);
    let parts = Chat::user("").with("messages", json!([{"role": "user", "content": part}]));
    let parts = parts.ask(&server).await;
    assert_eq!(parts.content(), text.content());
    assert_eq!(parts.body["usage"]["prompt_tokens"], text.body["usage"]["prompt_tokens"]);
}

/// Each where it stood, none left out, none moved to the front.
#[tokio::test]
async fn instructions_stay_where_they_are() {
    let turn = |role: &str, text: &str| format!("<|im_start|>{role}\n{text}<|im_end|>\n");
    let order = [
        turn("system", "First."),
        turn("user", "Hello."),
        turn("assistant", "Hi."),
        turn("system", "Second."),
        turn("user", "Go on."),
    ];
    let script = format!(
        "[[rule]]\nprompt_contains = {:?}\nsay = \"in order\"\n\
         [[rule]]\nsay = \"something else\"\n",
        order.concat()
    );
    let server = ServerSetup::demo().script(&script).start();
    let message = |role: &str, text: &str| json!({"role": role, "content": text});
    let messages = json!([
        message("system", "First."),
        message("user", "Hello."),
        message("assistant", "Hi."),
        message("developer", "Second."),
        message("user", "Go on."),
    ]);
    let answer = Chat::user("").with("messages", messages).ask(&server).await;
    assert_eq!(answer.content(), "in order");
}

/// Front ends ask for titles and tags in words that are known: they are for the model as all are.
#[tokio::test]
async fn no_text_is_answered_without_the_model() {
    let server = ServerSetup::demo().script("[[rule]]\nsay = \"from the model\"\n").start();
    let texts = [
        "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.",
        "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history.",
        "Create a short title for this conversation. Answer with the title only.",
        "Suggest 3 relevant follow-up questions.",
        "/clear",
        "ping",
    ];
    for (count, text) in (1..).zip(texts) {
        assert_eq!(Chat::user(text).ask(&server).await.content(), "from the model", "{text}");
        assert_eq!(server.trace().calls("rkllm_run"), count, "{text}");
    }
}

/// Forty tools are a long prompt, whatever the message is.
#[tokio::test]
async fn tools_count_against_the_context() {
    let server = ServerSetup::demo().start();
    let tool = |number: usize| {
        let description =
            "What it does, at some length, with a word about each argument. ".repeat(4);
        let parameters = json!({"type": "object", "properties": {"room": {"type": "string"}}});
        json!({"type": "function", "function": {
            "name": format!("tool_{number}"), "description": description, "parameters": parameters,
        }})
    };
    let tools = |count: usize| Value::from((0..count).map(tool).collect::<Vec<_>>());

    let few = Chat::user("Hello").with("tools", tools(2)).with("max_tokens", 1).ask(&server).await;
    let none = Chat::user("Hello").with("max_tokens", 1).ask(&server).await;
    let prompt = |body: &Value| body["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(prompt(&few.body) > prompt(&none.body) + 100, "{}", few.body);

    let runs = server.trace().calls("rkllm_run");
    let many = Chat::user("Hello").with("tools", tools(60)).ask(&server).await;
    assert_eq!(many.status, 400, "{}", many.body);
    assert_eq!(many.body["error"]["code"], "context_length_exceeded");
    assert_eq!(server.trace().calls("rkllm_run"), runs, "the NPU is not asked");
}

#[tokio::test]
async fn what_is_listed_is_found_and_answers() {
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("one"))
        .model(&ModelDir::demo("two"))
        .start();
    let get = async |path: &str| {
        let response = reqwest::get(format!("{}/v1/models{path}", server.url)).await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (_, list) = get("").await;
    let models = list["data"].as_array().unwrap();
    assert_eq!(models.len(), 2);
    for model in models {
        let id = model["id"].as_str().unwrap();
        assert_eq!(get(&format!("/{id}")).await, (200, model.clone()));
        let answer = Chat::user("Hello").with("model", id).with("max_tokens", 1).ask(&server).await;
        assert_eq!((answer.finish(), &answer.body["model"]), ("length", &model["id"]));
    }
    assert_eq!(get("/three").await.0, 404);
    assert_eq!(Chat::user("Hello").with("model", "three").ask(&server).await.status, 404);
}
