//! The scenarios can fail: each kind of broken answer is found, and a run in which nothing passed is
//! no good run.
#![allow(clippy::unwrap_used, reason = "a failure is a failure")]

use rkllama_hil::{
    api::Api,
    lab::Lab,
    report,
    run::{Outcome, Run, run},
    scenarios::{ALL, Scenario},
};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

fn good_answer() -> Value {
    json!({
        "model": "m",
        "choices": [{"message": {"content": "Hello you there"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7,
                  "prompt_tokens_details": {"cached_tokens": 3}},
    })
}

async fn answering(server: &MockServer, route: &str, answer: ResponseTemplate) {
    Mock::given(path(route)).respond_with(answer).mount(server).await;
}

/// A server with one model that can do everything, and this answer to every chat.
async fn server(chat: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    let list = json!({"data": [{"id": "m", "max_model_len": 64}]});
    let can = json!({"capabilities": ["completion", "tools", "embedding", "vision"]});
    Mock::given(method("GET"))
        .and(path("/v1/models"))
        .respond_with(ResponseTemplate::new(200).set_body_json(list))
        .mount(&server)
        .await;
    answering(&server, "/api/show", ResponseTemplate::new(200).set_body_json(can)).await;
    answering(&server, "/v1/chat/completions", chat).await;
    let metrics = "llamacpp:requests_processing 0\n";
    answering(&server, "/metrics", ResponseTemplate::new(200).set_body_string(metrics)).await;
    let same =
        json!({"data": [{"embedding": [1, 0]}, {"embedding": [1, 0]}, {"embedding": [1, 0]}]});
    answering(&server, "/v1/embeddings", ResponseTemplate::new(200).set_body_json(same)).await;
    server
}

async fn tried(server: &MockServer, only: &str) -> Run {
    let api = Api::new(&server.uri(), None).unwrap();
    let lab = Lab::open(api, &[], false).await.unwrap();
    let chosen: Vec<Scenario> = ALL.iter().filter(|it| it.name.contains(only)).copied().collect();
    assert!(!chosen.is_empty(), "{only}");
    run(&lab, &chosen, None, |_| ()).await
}

fn reason(run: &Run) -> &str {
    let [case] = run.cases.as_slice() else { panic!("{run:?}") };
    let Outcome::Failed(why) = &case.outcome else { panic!("{case:?}") };
    why
}

#[tokio::test]
async fn a_good_answer_passes_and_a_broken_one_fails_by_its_reason() {
    let good = server(ResponseTemplate::new(200).set_body_json(good_answer())).await;
    for passes in ["chat.whole", "chat.counts"] {
        assert!(tried(&good, passes).await.is_good(), "{passes}");
    }
    // What is fine for a plain chat is wrong where something else was asked for.
    for (fails, why) in [
        ("chat.stream", "no stream but 200"),
        ("chat.stop", "stopped at"),
        ("chat.refusal", "temperature -1"),
        ("cancel.frees", "no stream but 200"),
        ("forms.tools", "no text at /choices/0/message/tool_calls"),
        ("forms.schema", "no JSON: Hello"),
        ("memory.long", "no long prompt"),
        ("memory.too_long", "status: 200"),
        ("readings.embeddings", "two texts have one vector"),
    ] {
        let run = tried(&good, fails).await;
        assert!(reason(&run).contains(why), "{fails}: {}", reason(&run));
        assert!(!run.is_good());
    }
}

#[tokio::test]
async fn wrong_counts_and_streams_without_an_end_are_found() {
    let mut answer = good_answer();
    answer["usage"]["total_tokens"] = json!(8);
    let miscounting = server(ResponseTemplate::new(200).set_body_json(answer)).await;
    assert!(reason(&tried(&miscounting, "chat.counts").await).starts_with("sum:"));

    let broken = server(ResponseTemplate::new(500).set_body_string("no <luck>")).await;
    let run = tried(&broken, "chat.whole").await;
    assert!(reason(&run).starts_with("status 500"));
    let page = report::html(&run, Some(&run));
    assert!(page.contains("no &lt;luck&gt;") && page.contains("0 passed, 1 failed"), "{page}");
    let xml = report::junit(&run).unwrap();
    assert!(xml.contains("failures=\"1\"") && xml.contains("no &lt;luck&gt;"), "{xml}");
}

#[tokio::test]
async fn what_a_target_lacks_is_skipped_and_alone_makes_no_good_run() {
    let server = server(ResponseTemplate::new(200).set_body_json(good_answer())).await;
    let run = tried(&server, "models.").await;
    assert_eq!(run.totals(), (0, 0, 2), "{run:?}");
    assert!(!run.is_good());
}
