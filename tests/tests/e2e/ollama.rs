//! Ollama's API on the real executable: the framing of its lines, what ends them, what its clients
//! do in their order.

use std::{io::Write, time::Duration};

use futures_util::StreamExt;
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use rkllama_tests::{
    Chat, ModelDir, OllamaReply, Server, ServerSetup, content_of, eventually, request, until,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const SLOW: &str = "[latency]\nprefill_ms = 0\ndecode_ms_per_token = 50\n\
                    [[rule]]\nuser_contains = \"endless\"\nsay = \"on and on \"\nno_eos = true\n";
const METRICS: [&str; 6] = [
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
];
/// A template that knows neither tools nor thoughts.
const PLAIN: &str = "{%- for message in messages -%}\
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}\
    {%- endfor -%}\
    {%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}";

/// A conversation of one question, without thoughts about it.
fn chat(text: &str) -> Value {
    let messages = json!([{"role": "user", "content": text}]);
    json!({"model": "demo", "messages": messages, "think": false})
}

/// The same object with more in it.
fn with(mut object: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

async fn post(server: &Server, path: &str, body: Value) -> OllamaReply {
    OllamaReply::post(server, path, body).await
}

/// An answer in one piece.
async fn whole(server: &Server, body: Value) -> Value {
    post(server, "/api/chat", with(body, json!({"stream": false}))).await.object()
}

async fn works(server: &Server) {
    let options = json!({"options": {"num_predict": 2}});
    assert_eq!(whole(server, with(chat("Hello"), options)).await["eval_count"], 2);
}

fn moment(value: &Value) -> Timestamp {
    let text = value.as_str().unwrap();
    assert!(text.len() == "2026-11-21T01:22:11.497071841Z".len() && text.ends_with('Z'), "{text}");
    text.parse().unwrap()
}

fn kill_worker(server: &Server) {
    let worker = server.trace().workers().pop().unwrap();
    kill_process(Pid::from_raw(i32::try_from(worker).unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// The order of keys is Ollama's too: some look at the text.
#[tokio::test]
async fn lines_are_framed_and_shaped_as_ollamas() {
    let server = ServerSetup::demo().script("[[rule]]\nsay = \"Hi there.\"\n").start();
    for (path, body, words) in [
        ("/api/chat", chat("Hello"), "\"message\":{\"role\":\"assistant\",\"content\":"),
        (
            "/api/generate",
            json!({"model": "demo", "prompt": "Hello", "think": false}),
            "\"response\":",
        ),
    ] {
        // `stream` is true where nobody says anything.
        for stream in [json!({}), json!({"stream": null}), json!({"stream": true})] {
            let reply = post(&server, path, with(body.clone(), stream)).await;
            let lines = reply.lines();
            let (last, pieces) = lines.split_last().unwrap();
            assert!(pieces.len() >= 2, "{}", reply.text);
            let mut texts = reply.text.lines().rev();
            let last_text = texts.next().unwrap();
            for text in texts {
                assert!(text.starts_with("{\"model\":\"demo\",\"created_at\":\""), "{text}");
                assert!(text.contains(words) && text.ends_with(",\"done\":false}"), "{text}");
            }
            let order = ["\"done\":true", "\"done_reason\":\"stop\""];
            let order = order.map(str::to_owned).into_iter();
            let order = order.chain(METRICS.map(|name| format!("\"{name}\":")));
            let mut rest = last_text;
            for key in order {
                (_, rest) = rest.split_once(&key).unwrap_or_else(|| panic!("{key} {last_text}"));
            }
            assert!(METRICS.iter().all(|name| last[name].as_u64().unwrap() > 0), "{last}");
            // No text on the last line: some clients throw it away.
            let text =
                if path == "/api/chat" { &last["message"]["content"] } else { &last["response"] };
            assert_eq!(text, "");
            assert_eq!(last["context"].is_array(), path == "/api/generate");
        }
    }
}

/// A piece is sent when it is there, not when the answer is.
#[tokio::test]
async fn a_line_is_sent_as_soon_as_it_is_known() {
    let server = ServerSetup::demo().in_real_time(SLOW).start();
    let response = request(&server, "/api/chat", &chat("endless")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let mut bytes = response.bytes_stream();
    let first = bytes.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"{") && first.ends_with(b"\n"), "{first:?}");
    assert_eq!(first.iter().filter(|byte| **byte == b'\n').count(), 1, "{first:?}");
    drop(bytes);
    let aborted = || (server.trace().calls("rkllm_abort") > 0).then_some(());
    eventually("the answer nobody hears is ended", aborted).await;
    works(&server).await;
}

#[tokio::test]
async fn an_error_before_the_first_line_has_a_status_and_one_after_it_is_the_last_line() {
    let script = "[[rule]]\nuser_contains = \"at once\"\nsay = \"x\"\nfail_at_token = 0\n\
                  [[rule]]\nuser_contains = \"middle\"\nsay = \"one two three\"\nfail_at_token = 2\n";
    let server = ServerSetup::demo().script(script).start();
    let words = "an error was encountered while running the model: ";
    for stream in [true, false] {
        let body = with(chat("at once"), json!({"stream": stream}));
        let reply = post(&server, "/api/chat", body).await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(reply.error().starts_with(words), "{}", reply.text);
    }
    for (path, body) in [
        ("/api/chat", chat("middle")),
        ("/api/generate", json!({"model": "demo", "prompt": "middle", "think": false})),
    ] {
        let lines = post(&server, path, body).await.lines();
        let (last, pieces) = lines.split_last().unwrap();
        assert!(!pieces.is_empty());
        assert_eq!(last.as_object().unwrap().len(), 1, "{last}");
        assert!(last["error"].as_str().unwrap().starts_with(words), "{last}");
    }
    works(&server).await;
}

#[tokio::test]
async fn a_worker_that_is_killed_ends_the_lines_with_an_error() {
    let server = ServerSetup::demo().in_real_time(SLOW).start();
    let answer = tokio::spawn(request(&server, "/api/chat", &chat("endless")).send());
    eventually("it answers", || (server.trace().tokens() >= 2).then_some(())).await;
    let response = answer.await.unwrap().unwrap();
    kill_worker(&server);
    let lines = OllamaReply::read(response).await.lines();
    let last = lines.last().unwrap();
    assert_eq!(last.as_object().unwrap().len(), 1, "{last}");
    let error = last["error"].as_str().unwrap();
    assert!(error.contains("while running the model") && error.contains("SIGKILL"), "{error}");
    assert!(content_of(&lines).starts_with('o'));
    works(&server).await;
}

/// Fills the only place in the queue behind an answer that does not end.
fn fill_queue(server: &Server) -> Vec<std::net::TcpStream> {
    let body = chat("endless").to_string();
    (1..=2)
        .map(|count| {
            let mut socket = server.connect();
            write!(
                socket,
                "POST /api/chat HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            until("it waits", || {
                let waits = server.log().matches("a request waits for its model").count();
                (waits >= count).then_some(())
            });
            if count == 1 {
                until("it answers", || (server.trace().tokens() >= 1).then_some(()));
            }
            socket
        })
        .collect()
}

#[tokio::test]
async fn a_full_queue_is_told_in_ollamas_words() {
    let server =
        ServerSetup::demo().config("[limits]\nqueue_len_max = 1").in_real_time(SLOW).start();
    let _waiting = fill_queue(&server);
    for (path, body) in [
        ("/api/chat", chat("Hi")),
        ("/api/chat", with(chat("Hi"), json!({"stream": false}))),
        ("/api/generate", json!({"model": "demo", "prompt": "Hi"})),
        ("/api/embed", json!({"model": "demo", "input": "Hi"})),
    ] {
        let reply = post(&server, path, body).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        let words = "server busy, please try again.  maximum pending requests exceeded";
        assert_eq!(reply.error(), words, "{path}");
        assert!(reply.retry_after.unwrap().parse::<u32>().unwrap() > 0, "{path}");
    }
}

/// Who has waited for longer than a client's patience has the head already: what goes wrong then is
/// a line. Nothing is written meanwhile.
#[tokio::test]
async fn what_goes_wrong_after_a_long_wait_is_the_only_line() {
    let server = ServerSetup::demo()
        .config("[limits]\nheartbeat_ms = 50\nqueue_timeout_ms = 500")
        .in_real_time(SLOW)
        .start();
    let _first = request(&server, "/api/chat", &chat("endless")).send().await.unwrap();
    let lines = post(&server, "/api/chat", chat("endless")).await.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0]["error"].is_string(), "{lines:?}");
    // Whole answers have their status at the end.
    let reply = post(&server, "/api/chat", with(chat("endless"), json!({"stream": false}))).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.retry_after.is_some() && !reply.error().is_empty());
}

/// A process counts time in its own zone; what it tells is in UTC and in nanoseconds.
#[tokio::test]
async fn times_are_utc_and_durations_nanoseconds() {
    let server = ServerSetup::demo()
        .env("TZ", "Asia/Shanghai")
        .in_real_time("[latency]\nload_ms = 200\nprefill_ms = 100\ndecode_ms_per_token = 20\n")
        .start();
    let before = Timestamp::now();
    let body = with(chat("What is an NPU?"), json!({"options": {"num_predict": 10}}));
    let answer = whole(&server, body).await;
    let after = Timestamp::now();
    let created = moment(&answer["created_at"]);
    assert!(before <= created && created <= after, "{before} {created} {after}");
    let nanos = |name: &str| Duration::from_nanos(answer[name].as_u64().unwrap());
    assert!(nanos("load_duration") >= Duration::from_millis(200), "{answer}");
    assert!(nanos("prompt_eval_duration") >= Duration::from_millis(100), "{answer}");
    assert!(nanos("eval_duration") >= Duration::from_millis(9 * 20), "{answer}");
    let parts = nanos("load_duration") + nanos("prompt_eval_duration") + nanos("eval_duration");
    let elapsed = Duration::try_from(after.duration_since(before)).unwrap();
    assert!(parts <= nanos("total_duration") && nanos("total_duration") <= elapsed, "{answer}");
    let listed = OllamaReply::get(&server, "/api/tags").await.object();
    assert!(moment(&listed["models"][0]["modified_at"]) <= before, "{listed}");
}

#[tokio::test]
async fn an_answer_ends_by_itself_at_its_limit_or_behind_calls_with_ollamas_reasons() {
    let script = "[[rule]]\nuser_contains = \"weather\"\nafter_tool = false\n\
                  tool_call = { name = \"get_weather\", arguments = { town = \"Ulm\" } }\n\
                  [[rule]]\nsay = \"one two three\"\n";
    let server = ServerSetup::demo().script(script).start();
    let tools = json!({"tools": [{"type": "function", "function": {"name": "get_weather"}}]});
    for (body, reason) in [
        (chat("count"), "stop"),
        (with(chat("count"), json!({"options": {"num_predict": 2}})), "length"),
        (with(chat("the weather"), tools), "stop"),
        (json!({"model": "demo"}), "load"),
        (json!({"model": "demo", "keep_alive": 0}), "unload"),
    ] {
        assert_eq!(whole(&server, body.clone()).await["done_reason"], reason, "{body}");
        let reply = post(&server, "/api/chat", body.clone()).await;
        if ["load", "unload"].contains(&reason) {
            // One object though a stream was asked for.
            assert_eq!(reply.object()["done_reason"], reason, "{body}");
        } else {
            assert_eq!(reply.lines().last().unwrap()["done_reason"], reason, "{body}");
        }
    }
}

/// Each call is an object in a line of its own, with its arguments letter by letter.
#[tokio::test]
async fn calls_come_complete_one_in_a_line() {
    let script = "[[rule]]\nafter_tool = false\nsay = \"Let me see. \"\ntool_call = [\
                  { name = \"get_weather\", arguments = { town = \"L'Aquila\", metric = true } },\
                  { name = \"get_weather\", arguments = { town = \"Ulm\", deep = { a = [1, 2] } } }]\n";
    let server = ServerSetup::demo().script(script).start();
    let tools = json!({"tools": [{"type": "function", "function": {"name": "get_weather"}}]});
    let lines = post(&server, "/api/chat", with(chat("weather"), tools)).await.lines();
    let calls: Vec<&Value> =
        lines.iter().filter(|line| line["message"]["tool_calls"].is_array()).collect();
    let expected = [
        json!({"town": "L'Aquila", "metric": true}),
        json!({"town": "Ulm", "deep": {"a": [1, 2]}}),
    ];
    assert_eq!(calls.len(), expected.len(), "{lines:?}");
    for (index, (line, arguments)) in calls.into_iter().zip(expected).enumerate() {
        let in_line = line["message"]["tool_calls"].as_array().unwrap();
        let [call] = in_line.as_slice() else { panic!("{line}") };
        assert_eq!(line["message"]["content"], "");
        let function = json!({"index": index, "name": "get_weather", "arguments": arguments});
        assert_eq!(call["function"], function);
        let id = call["id"].as_str().unwrap().strip_prefix("call_").unwrap();
        assert!(id.len() == 8 && id.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");
        assert_eq!(call.as_object().unwrap().len(), 2, "{call}");
    }
    assert_eq!(content_of(&lines).trim(), "Let me see.");
}

async fn processes(server: &Server) -> Vec<Value> {
    let body = OllamaReply::get(server, "/api/ps").await.object();
    body["models"].as_array().unwrap().clone()
}

/// The loaded models once this holds for them.
async fn processes_when(
    server: &Server,
    what: &str,
    holds: impl Fn(&[Value]) -> bool,
) -> Vec<Value> {
    let waiting = async {
        loop {
            let loaded = processes(server).await;
            if holds(&loaded) {
                return loaded;
            }
        }
    };
    let patience = Duration::from_secs(60);
    let found = tokio::time::timeout(patience, waiting).await;
    found.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

#[tokio::test]
async fn a_model_is_loaded_and_unloaded_without_a_prompt() {
    let server = ServerSetup::demo().start();
    assert_eq!(processes(&server).await.len(), 0);
    for (path, reply) in [
        ("/api/generate", json!({"response": ""})),
        ("/api/chat", json!({"message": {"role": "assistant", "content": ""}})),
    ] {
        let loads = server.trace().calls("rkllm_init");
        let body = json!({"model": "demo", "prompt": "", "messages": []});
        let mut loaded = post(&server, path, body.clone()).await.object();
        moment(&loaded["created_at"].take());
        let common =
            json!({"model": "demo", "created_at": null, "done": true, "done_reason": "load"});
        assert_eq!(loaded, with(common, reply), "{path}");
        assert_eq!(server.trace().calls("rkllm_init"), loads + 1, "{path}");
        assert_eq!(processes(&server).await.len(), 1);
        let unloaded = post(&server, path, with(body, json!({"keep_alive": "0"}))).await.object();
        assert_eq!(unloaded["done_reason"], "unload");
        eventually("it has gone", || {
            (server.trace().returns("rkllm_destroy") > loads).then_some(())
        })
        .await;
        processes_when(&server, "it is listed no more", |loaded| loaded.is_empty()).await;
    }
    assert_eq!(server.trace().calls("rkllm_run"), 0, "nothing was asked");
    let absent = post(&server, "/api/generate", json!({"model": "absent", "keep_alive": 0})).await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
}

/// The answer is at once; who is being answered is answered to the end.
#[tokio::test]
async fn a_model_at_work_is_unloaded_behind_its_answer() {
    let script = "[latency]\nprefill_ms = 0\ndecode_ms_per_token = 50\n\
                  [[rule]]\nsay = \"one two three four five six seven eight nine ten.\"\n";
    let server = ServerSetup::demo().in_real_time(script).start();
    let answer = request(&server, "/api/chat", &chat("count")).send().await.unwrap();
    let unload = json!({"model": "demo", "keep_alive": 0});
    let unloaded = post(&server, "/api/generate", unload).await.object();
    assert_eq!(unloaded["done_reason"], "unload");
    assert_eq!(server.trace().returns("rkllm_run"), 0, "it waited for the answer");
    assert_eq!(processes(&server).await.len(), 1);
    let lines = OllamaReply::read(answer).await.lines();
    assert_eq!(content_of(&lines), "one two three four five six seven eight nine ten.");
    processes_when(&server, "it is listed no more", |loaded| loaded.is_empty()).await;
    assert_eq!(server.trace().calls("rkllm_abort"), 0);
}

#[tokio::test]
async fn a_model_stays_for_as_long_as_its_request_says() {
    let server = ServerSetup::demo().start();
    let ask = |keep_alive: Value| with(chat("Hello"), json!({"keep_alive": keep_alive}));
    for (keep_alive, seconds) in
        [(json!(600), 600), (json!("1h30m"), 5400), (json!("90"), 90), (json!(45.5), 45)]
    {
        whole(&server, ask(keep_alive.clone())).await;
        // At work it is said to stay for five minutes.
        processes_when(&server, &format!("it stays for {keep_alive}"), |loaded| {
            let left = moment(&loaded[0]["expires_at"]).duration_since(Timestamp::now());
            (seconds - 10..=seconds).contains(&left.as_secs())
        })
        .await;
    }
    // Who says nothing leaves it at what was said last, on other APIs' routes too.
    let never = |loaded: &[Value]| loaded[0]["expires_at"].as_str().unwrap() > "2200";
    whole(&server, ask(json!(-1))).await;
    processes_when(&server, "it stays for ever", never).await;
    whole(&server, chat("Hello")).await;
    Chat::user("Hello").ask(&server).await;
    let loads = server.trace().returns("rkllm_init");
    processes_when(&server, "it stays for ever again", never).await;
    assert_eq!(loads, server.trace().returns("rkllm_init"));
    for now in [json!(0), json!("0s")] {
        let gone = server.trace().returns("rkllm_destroy");
        assert_eq!(whole(&server, ask(now)).await["done_reason"], "stop");
        eventually("it has gone", || {
            (server.trace().returns("rkllm_destroy") > gone).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_loaded_model_is_told_with_its_time_to_go() {
    let server = ServerSetup::demo().start();
    whole(&server, with(chat("Hello"), json!({"keep_alive": -1}))).await;
    let listed = OllamaReply::get(&server, "/api/tags").await.object()["models"][0].clone();
    let process = processes(&server).await.remove(0);
    for key in ["name", "model", "digest"] {
        assert_eq!(process[key], listed[key], "{key}");
    }
    assert_eq!(process["size"], process["size_vram"]);
    assert_eq!(process["context_length"], 4096);
    // Beyond twenty years is never, to Ollama's own command.
    processes_when(&server, "it stays for ever", |loaded| {
        let left = moment(&loaded[0]["expires_at"]).duration_since(Timestamp::now());
        left.as_hours() > 20 * 366 * 24
    })
    .await;
}

/// Options of one request are its own, and no size of a context is worth a failure or a load.
#[tokio::test]
async fn options_change_nothing_for_others_and_num_ctx_never_fails() {
    let server = ServerSetup::demo().start();
    let greedy = |more: Value| {
        let options = with(json!({"temperature": 0, "num_predict": 12}), more);
        with(chat("What is an NPU?"), json!({"options": options}))
    };
    let before = whole(&server, greedy(json!({}))).await["message"]["content"].clone();
    for num_ctx in [
        json!(128),
        json!(8192.0),
        json!(1),
        json!(0),
        json!(-1),
        json!(1_000_000_000),
        json!(1e300),
    ] {
        let answer = whole(&server, greedy(json!({"num_ctx": num_ctx}))).await;
        assert_eq!(answer["message"]["content"], before, "{num_ctx}");
        assert_eq!(processes(&server).await[0]["context_length"], 4096);
    }
    let hot = json!({"temperature": 1.9, "top_k": 0, "repeat_penalty": 1.9, "num_predict": 2, "stop": ["e"]});
    whole(&server, greedy(hot)).await;
    assert_eq!(whole(&server, greedy(json!({}))).await["message"]["content"], before);
    assert_eq!(server.trace().calls("rkllm_init"), 1);
}

/// A conversation of this many turns, about to be answered.
fn long_conversation(turns: usize) -> Value {
    let filler = "words and more words about boards and chips ".repeat(4);
    let mut messages = vec![json!({"role": "system", "content": "Keep the rule."})];
    for turn in 0..turns {
        messages.push(json!({"role": "user", "content": format!("turn {turn}. {filler}")}));
        messages.push(json!({"role": "assistant", "content": format!("reply {turn}. {filler}")}));
    }
    messages.push(json!({"role": "user", "content": "the last question"}));
    json!({"model": "demo", "messages": messages, "think": false})
}

#[tokio::test]
async fn a_conversation_that_is_too_long_loses_its_oldest_messages() {
    let script = "[[rule]]\nprompt_contains = \"turn 0.\"\nsay = \"all is there\"\n\
                  [[rule]]\nsystem_contains = \"Keep the rule.\"\nuser_is = \"the last question\"\n\
                  say = \"the oldest is gone\"\n[[rule]]\nsay = \"too much is gone\"\n";
    let model = ModelDir::demo("demo").manifest("context_length = 1024");
    let server = ServerSetup::new().mock("1.3.0").model(&model).script(script).start();
    let said = async |body: Value| whole(&server, body).await["message"]["content"].clone();
    assert_eq!(said(long_conversation(2)).await, "all is there");
    for turns in [20, 100] {
        assert_eq!(said(long_conversation(turns)).await, "the oldest is gone", "{turns}");
        let lines = post(&server, "/api/chat", long_conversation(turns)).await.lines();
        assert_eq!(content_of(&lines), "the oldest is gone", "{turns}");
        assert_eq!(lines.last().unwrap()["done_reason"], "stop");
    }
    // What is kept fills the context well.
    let answer = whole(&server, long_conversation(100)).await;
    let tokens = answer["prompt_eval_count"].as_u64().unwrap();
    assert!((700..1024 - 32).contains(&tokens), "{tokens}");
    for stream in [true, false] {
        let body = with(long_conversation(20), json!({"truncate": false, "stream": stream}));
        let refused = post(&server, "/api/chat", body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        let words = "the prompt is longer than the context length currently available to the model";
        assert!(refused.error().starts_with(words), "{}", refused.text);
    }
    // One message alone cannot be made shorter.
    let alone = post(&server, "/api/chat", chat(&"word ".repeat(3000))).await;
    assert_eq!(alone.status, StatusCode::BAD_REQUEST);
    assert!(alone.error().contains("longer"), "{}", alone.text);
}

#[tokio::test]
async fn vectors_have_length_one_and_each_route_its_key() {
    let server = ServerSetup::demo().start();
    let body = json!({"model": "demo", "input": ["a cat", "a board"], "prompt": "a cat"});
    let embed = post(&server, "/api/embed", body.clone()).await.object();
    let older = post(&server, "/api/embeddings", body).await.object();
    assert_eq!(older.as_object().unwrap().len(), 1, "{older}");
    assert_eq!(older["embedding"], embed["embeddings"][0]);
    assert!(embed["embedding"].is_null());
    for vector in embed["embeddings"].as_array().unwrap() {
        let numbers: Vec<f64> = serde_json::from_value(vector.clone()).unwrap();
        let length = numbers.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
}

/// A model is described by what its files say: what they do not say is not made up.
#[tokio::test]
async fn lists_and_descriptions_are_complete_and_true() {
    let setup = ServerSetup::demo()
        .model(
            &ModelDir::demo("Qwen3-0.6B-w8a8")
                .template(PLAIN)
                .manifest("reasoning_format = 'none'"),
        )
        .model(&ModelDir::demo("bge-m3").manifest("pooling = 'cls'"));
    let config = r#"{"model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 28}"#;
    std::fs::write(setup.models().join("Qwen3-0.6B-w8a8/config.json"), config).unwrap();
    let server = setup.start();
    let listed = OllamaReply::get(&server, "/api/tags").await.object();
    let listed = listed["models"].as_array().unwrap();
    let mut digests: Vec<&str> =
        listed.iter().map(|model| model["digest"].as_str().unwrap()).collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 3, "{listed:?}");
    for model in listed {
        let digest = model["digest"].as_str().unwrap();
        assert!(digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()), "{digest}");
        assert!(!model["details"]["families"].as_array().unwrap().is_empty(), "{model}");
        assert!(model["size"].as_u64().unwrap() > 0);
    }
    let show = async |name: &str| post(&server, "/api/show", json!({"model": name})).await.object();
    let demo = show("demo").await;
    assert_eq!(demo["capabilities"], json!(["completion", "tools", "thinking"]));
    let info = demo["model_info"].as_object().unwrap();
    let keys: Vec<&str> = info.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["general.architecture", "general.basename", "unknown.context_length"],
        "the demo model's files say no more"
    );
    let qwen = show("qwen3-0.6b-w8a8").await;
    assert_eq!(qwen["capabilities"], json!(["completion"]));
    assert_eq!(qwen["details"]["quantization_level"], "W8A8");
    assert_eq!(qwen["details"]["parameter_size"], "600.00M");
    assert_eq!(qwen["model_info"]["qwen3.embedding_length"], 1024);
    let bge = show("bge-m3:latest").await;
    assert_eq!(bge["capabilities"], json!(["embedding"]));
    assert!(bge["details"]["families"].as_array().unwrap().contains(&json!("bert")));
    assert_eq!(server.trace().calls("rkllm_init"), 0, "nothing is loaded for a description");
}

/// Bodies are JSON and nothing in them is rewritten on the way.
#[tokio::test]
async fn apostrophes_arrive_as_they_were_sent() {
    let server = ServerSetup::demo()
        .script("[[rule]]\nuser_is = \"it's 'so' \\\"so\\\"\"\nsay = \"it's\"\n")
        .start();
    let answer = whole(&server, chat("it's 'so' \"so\"")).await;
    assert_eq!(answer["message"]["content"], "it's");
}

#[tokio::test]
async fn the_name_may_stand_under_either_key() {
    let server = ServerSetup::demo().start();
    let mut shown = Vec::new();
    for body in [
        json!({"model": "demo"}),
        json!({"name": "demo"}),
        json!({"model": "", "name": "demo"}),
        json!({"Name": "demo"}),
    ] {
        shown.push(post(&server, "/api/show", body).await.object());
    }
    assert!(shown.iter().all(|one| *one == shown[0]));
    let neither = post(&server, "/api/show", json!({"verbose": true})).await;
    assert_eq!(
        (neither.status, neither.error()),
        (StatusCode::BAD_REQUEST, "model is required".into())
    );
}

#[tokio::test]
async fn thoughts_stand_apart_and_their_marks_never_leak() {
    let script = "[[rule]]\nuser_contains = \"think\"\nthink = \"Why?\"\nsay = \"Because.\"\n\
                  [[rule]]\nuser_contains = \"stray\"\nsay = \"one </think> two\"\n";
    let server = ServerSetup::demo().script(script).start();
    let plain =
        |text: &str| json!({"model": "demo", "messages": [{"role": "user", "content": text}]});
    for think in [json!({}), json!({"think": true}), json!({"think": "high"})] {
        let lines = post(&server, "/api/chat", with(plain("think"), think)).await.lines();
        let thoughts: String =
            lines.iter().filter_map(|line| line["message"]["thinking"].as_str()).collect();
        assert_eq!((content_of(&lines).as_str(), thoughts.as_str()), ("Because.", "Why?"));
        assert!(lines.iter().all(|line| line["message"]["content"].is_string()), "{lines:?}");
    }
    let silent = whole(&server, with(plain("think"), json!({"think": false}))).await;
    assert_eq!(silent["message"], json!({"role": "assistant", "content": "Because."}));
    for think in [true, false] {
        let body = with(plain("stray"), json!({"think": think}));
        let lines = post(&server, "/api/chat", body).await.lines();
        let text: String = lines.iter().map(|line| line["message"].to_string()).collect();
        assert!(!text.contains("think>") && content_of(&lines).contains("two"), "{text}");
    }
}

#[tokio::test]
async fn a_name_is_taken_with_its_tag_and_never_guessed() {
    let server = ServerSetup::demo().model(&ModelDir::demo("other")).start();
    for name in
        ["demo", "demo:latest", "Demo", "library/demo", "registry.ollama.ai/library/demo:latest"]
    {
        let answer = whole(&server, json!({"model": name})).await;
        // Byte for byte as it was asked.
        assert_eq!(answer["model"], name);
    }
    for name in ["dem", "demo2", "demo:7b", "somebody/demo", "hf.co/somebody/demo", "demo:latest2"]
    {
        let reply = post(&server, "/api/chat", with(chat("Hello"), json!({"model": name}))).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{name}");
        assert_eq!(reply.error(), format!("model '{name}' not found"));
    }
}

/// What Home Assistant does: a list within five seconds whatever goes on, and conversations with
/// many tools whose results come back without names and ids.
#[tokio::test]
async fn home_assistants_calls_in_their_order() {
    let script = "[[rule]]\nuser_contains = \"light\"\nafter_tool = false\n\
                  tool_call = { name = \"tool_7\", arguments = { area = \"Küche\" } }\n\
                  [[rule]]\nprompt_contains = \"light\"\nafter_tool = true\nsay = \"It is on.\"\n\
                  [latency]\nload_ms = 3000\nprefill_ms = 0\ndecode_ms_per_token = 1\n";
    let server = ServerSetup::demo().in_real_time(script).start();
    let tools: Vec<Value> = (0..25)
        .map(|number| {
            json!({"type": "function", "function": {
                "name": format!("tool_{number}"), "description": "Does what it says.",
                "parameters": {"type": "object", "properties": {
                    "area": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "level": {"type": ["integer", "null"], "minimum": 0},
                }, "required": []},
            }})
        })
        .collect();
    let turn = |messages: Value, num_ctx: Value| {
        json!({
            "model": "demo:latest", "messages": messages, "tools": tools, "stream": true,
            "think": false, "keep_alive": "-1s", "options": {"num_ctx": num_ctx},
        })
    };
    let mut messages = json!([
        {"role": "system", "content": "You control a house."},
        {"role": "user", "content": "Switch on the light, please."},
    ]);
    let asked = turn(messages.clone(), json!(8192));
    let answer = tokio::spawn(request(&server, "/api/chat", &asked).send());
    eventually("it loads", || (server.trace().calls("rkllm_init") == 1).then_some(())).await;
    // While the model loads.
    let listed = OllamaReply::get(&server, "/api/tags").await.object();
    assert_eq!(listed["models"][0]["model"], "demo:latest");
    assert_eq!(server.trace().returns("rkllm_init"), 0, "the list waited for the load");
    let lines = OllamaReply::read(answer.await.unwrap().unwrap()).await.lines();
    let calls: Vec<Value> = lines
        .iter()
        .filter_map(|line| line["message"]["tool_calls"].as_array())
        .flatten()
        .map(|call| json!({"function": {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}}))
        .collect();
    assert_eq!(calls, [json!({"function": {"name": "tool_7", "arguments": {"area": "Küche"}}})]);
    let list = messages.as_array_mut().unwrap();
    list.push(json!({"role": "assistant", "content": "", "tool_calls": calls}));
    list.push(json!({"role": "tool", "content": "{\"success\": true}"}));
    let last = post(&server, "/api/chat", turn(messages, json!(8192.0))).await.lines();
    assert_eq!(content_of(&last), "It is on.");
    // A task with a form, without tools.
    let schema =
        json!({"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]});
    let task = with(chat("Is it on?"), json!({"format": schema, "keep_alive": -1}));
    let lines = post(&server, "/api/chat", task).await.lines();
    let form: Value = serde_json::from_str(&content_of(&lines)).unwrap();
    assert!(form["on"].is_boolean(), "{form}");
    assert_eq!(server.trace().calls("rkllm_init"), 1, "it was loaded anew");
}

/// What Open WebUI does, with what it sends besides.
#[tokio::test]
async fn open_webuis_calls_in_their_order() {
    let server = ServerSetup::demo().script("[[rule]]\nsay = \"Hi there.\"\n").start();
    let version = OllamaReply::get(&server, "/api/version").await.object();
    let version = version["version"].as_str().unwrap();
    let parts: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
    assert!(parts >= vec![0, 6, 4], "{version}");
    let listed = OllamaReply::get(&server, "/api/tags").await.object()["models"][0].clone();
    assert!(processes(&server).await.is_empty());
    let body = json!({
        "model": listed["model"], "messages": [{"role": "user", "content": "Hello"}],
        "metadata": {"chat_id": "x"}, "system": "ignored here", "stream": true, "think": false,
        "options": {"num_ctx": 16384, "mirostat": 0, "tfs_z": 1, "num_gpu": 1, "num_thread": 4,
                    "repeat_last_n": 64, "min_p": 0.05, "seed": 42, "use_mlock": true},
        "tools": [], "files": [], "template": null, "keep_alive": null,
    });
    let lines = post(&server, "/api/chat", body).await.lines();
    assert_eq!(content_of(&lines), "Hi there.");
    let last = lines.last().unwrap();
    assert!(METRICS.iter().all(|name| last[name].is_u64()) && last["done_reason"] == "stop");
    let process = processes(&server).await.remove(0);
    for key in ["name", "model", "digest"] {
        assert_eq!(process[key], listed[key]);
    }
    assert!(moment(&process["expires_at"]) > Timestamp::now());
    let body = json!({"model": listed["model"], "input": ["a", "b", ""], "truncate": true});
    let read = post(&server, "/api/embed", body).await.object();
    assert_eq!(read["embeddings"].as_array().unwrap().len(), 3);
    let body = json!({"model": listed["model"], "keep_alive": 0, "prompt": ""});
    assert_eq!(post(&server, "/api/generate", body).await.object()["done_reason"], "unload");
    eventually("it has gone", || (server.trace().returns("rkllm_destroy") > 0).then_some(())).await;
}

/// Paths that nobody knows, methods that a path has not.
#[tokio::test]
async fn what_is_not_there_is_told_in_plain_text() {
    let server = ServerSetup::demo().start();
    let send = async |method: Method, path: &str| {
        let request = reqwest::Client::new().request(method, format!("{}{path}", server.url));
        let response = request.send().await.unwrap();
        let allow = response.headers().get("allow").map(|it| it.to_str().unwrap().to_owned());
        (OllamaReply::read(response).await, allow)
    };
    for path in ["/api/nope", "/api/", "/api/chat/x"] {
        let (reply, _) = send(Method::GET, path).await;
        assert_eq!((reply.status, &*reply.text), (StatusCode::NOT_FOUND, "404 page not found"));
        assert!(reply.content_type.starts_with("text/plain"), "{}", reply.content_type);
    }
    for (method, path, allowed) in [
        (Method::PUT, "/api/chat", "POST"),
        (Method::GET, "/api/generate", "POST"),
        (Method::POST, "/api/tags", "GET"),
        (Method::GET, "/api/rerank", "POST"),
    ] {
        let (reply, allow) = send(method, path).await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(reply.text, "405 method not allowed");
        assert!(allow.unwrap().contains(allowed), "{path}");
    }
    for path in ["/api/tags", "/api/version"] {
        let (reply, _) = send(Method::HEAD, path).await;
        assert_eq!((reply.status, &*reply.text), (StatusCode::OK, ""), "{path}");
    }
}
