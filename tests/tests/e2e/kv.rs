//! The KV cache: what was computed for earlier prompts is not computed again, and never shows.
//!
//! The mock's language model speaks from what its cache holds, so a cache that holds anything but the
//! prompt would change the answers.

use rkllama_tests::{Answer, Chat, ModelDir, Server, ServerSetup, until};
use rstest::rstest;
use serde_json::{Value, json};

const PREFIX: (&str, &str) = ("1.3.0", "prefix");
const APPEND: (&str, &str) = ("1.3.0", "append");

fn setup((release, reuse): (&str, &str)) -> ServerSetup {
    ServerSetup::new()
        .mock(release)
        .model(&ModelDir::demo("demo").toolkit("1.2.3").weights_name("demo-v1.2.3.rkllm"))
        .config(&format!("[runtime_profiles.\"{release}\"]\nkv_reuse = \"{reuse}\""))
}

fn cached(answer: &Answer) -> u64 {
    answer.body["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}

fn prompt_tokens(answer: &Answer) -> u64 {
    answer.body["usage"]["prompt_tokens"].as_u64().unwrap()
}

/// The conversation with its answer and a further question.
fn next_turn(chat: &Chat, answer: &Answer, user: &str) -> Chat {
    let mut messages = chat.0["messages"].as_array().unwrap().clone();
    messages.push(json!({"role": "assistant", "content": answer.content()}));
    messages.push(json!({"role": "user", "content": user}));
    chat.clone().with("messages", messages)
}

fn conversation(system: &str, user: &str) -> Chat {
    Chat::user(user).with(
        "messages",
        json!([{"role": "system", "content": system}, {"role": "user", "content": user}]),
    )
}

/// The tokens that the runtime was given in each run.
fn given(server: &Server) -> Vec<Vec<i64>> {
    let tokens = |args: &Value| {
        let tokens = args["input"]["tokens"].as_array().unwrap();
        tokens.iter().map(|token| token.as_i64().unwrap()).collect()
    };
    server.trace().args("rkllm_run").iter().map(tokens).collect()
}

#[rstest]
#[case::prefix_of_1_3(PREFIX)]
#[case::append_on_1_3(APPEND)]
#[case::prefix_of_1_2(("1.2.3", "prefix"))]
#[case::append_on_1_2(("1.2.3", "append"))]
#[tokio::test]
async fn the_second_turn_prefills_only_what_is_new(#[case] how: (&str, &str)) {
    let server = setup(how).env("RKLLM_LOG_LEVEL", "2").start();
    let first = Chat::user("What is an NPU?").with("max_tokens", 20);
    let answer = first.ask(&server).await;
    assert_eq!(cached(&answer), 0);

    let second = next_turn(&first, &answer, "And a GPU?");
    let answer = second.ask(&server).await;

    // All of the first prompt and of its answer but the last token, which was not computed with.
    let runs = given(&server);
    let first_len = u64::try_from(runs[0].len()).unwrap();
    assert!(cached(&answer) >= first_len + 18, "{} of {first_len} + 20", cached(&answer));
    let new = usize::try_from(prompt_tokens(&answer) - cached(&answer)).unwrap();
    if how.1 == "append" {
        assert_eq!(runs[1].len(), new, "the runtime gets what is new and no more");
    } else {
        let total = runs[1].len();
        let line = format!("kv cache matches {} / {total} tokens of prompt", total - new);
        until("the runtime says the same", || server.log().contains(&line).then_some(()));
    }
    assert_eq!(server.trace().calls("rkllm_clear_kv_cache"), 0);
    // The cache was asked after each run, and believed.
    assert_eq!(server.trace().calls("rkllm_get_kv_cache_size"), 2);
    server.stop();
}

/// The next turn's prompt leaves the last one's thoughts out, which are still in the cache.
#[rstest]
#[case::prefix(PREFIX)]
#[case::append(APPEND)]
#[tokio::test]
async fn thoughts_that_the_history_leaves_out_are_computed_away(#[case] how: (&str, &str)) {
    let script = "[[rule]]\nuser_contains = \"NPU\"\nthink = \"They ask about chips.\"\n\
                  say = \"It computes.\"\n";
    let fresh = setup((how.0, "off")).start();
    let server = setup(how).script(script).start();
    let first = Chat::user("What is an NPU?");
    assert_eq!(first.ask(&server).await.finish(), "stop");
    let mut messages = first.0["messages"].as_array().unwrap().clone();
    messages.push(json!({"role": "assistant", "content": "It computes."}));
    messages.push(json!({"role": "user", "content": "Say more."}));
    let second = first.with("messages", messages).with("max_tokens", 8);
    let answer = second.ask(&server).await;
    assert_eq!(answer.content(), second.ask(&fresh).await.content());
    assert!(cached(&answer) < prompt_tokens(&answer) - 5, "{}", answer.body["usage"]);
    server.stop();
}

#[tokio::test]
async fn without_reuse_every_prompt_is_computed_whole() {
    let server = setup(("1.3.0", "off")).start();
    let chat = Chat::user("What is an NPU?").with("max_tokens", 5);
    let first = chat.ask(&server).await;
    let second = chat.ask(&server).await;
    assert_eq!((cached(&first), cached(&second)), (0, 0));
    assert_eq!(first.content(), second.content());
    assert_eq!(server.trace().calls("rkllm_clear_kv_cache"), 1);
}

/// A small generator of its own: the order of requests has to be the same on every machine.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % sides).unwrap()
    }
}

/// Conversations that go on, branch off, are edited, aborted and come again in any order are answered
/// as on a server that keeps nothing.
#[rstest]
#[case::prefix(PREFIX)]
#[case::append(APPEND)]
#[case::append_on_1_2(("1.2.3", "append"))]
#[tokio::test]
async fn answers_are_those_of_a_fresh_cache(#[case] how: (&str, &str)) {
    const WORDS: [&str; 6] =
        ["What is an NPU?", "Why?", "Tell me more.", "The sun", "and then", "Say it again."];
    let fresh = setup((how.0, "off")).start();
    let reusing = setup(how).start();
    let mut dice = Dice(7);
    let mut conversations = vec![Chat::user(WORDS[0]).with("max_tokens", 8)];
    let mut reused = 0;
    for _ in 0..60 {
        let chat = conversations[dice.throw(conversations.len() as u64)].clone();
        if dice.throw(4) == 0 {
            // Somebody leaves in mid-answer.
            let leaves = chat.clone().with("max_tokens", 200).stream().send(&reusing).await;
            drop(leaves);
            continue;
        }
        let (expected, answer) = tokio::join!(chat.ask(&fresh), chat.ask(&reusing));
        assert_eq!(answer.content(), expected.content(), "{}", chat.0);
        reused += cached(&answer);
        let word = WORDS[dice.throw(WORDS.len() as u64)];
        conversations.push(match dice.throw(3) {
            0 => Chat::user(word).with("max_tokens", 8),
            1 => conversation(word, WORDS[dice.throw(2)]).with("max_tokens", 8),
            _ => next_turn(&chat, &answer, word),
        });
        if conversations.len() > 8 {
            conversations.remove(dice.throw(8));
        }
    }
    assert!(reused > 100, "only {reused} tokens were reused");
    assert_eq!(reusing.trace().call_during_run(), None);
}

/// One token in one callback is what the ledger counts on; a runtime that does otherwise is noticed.
#[tokio::test]
async fn a_cache_of_an_unexpected_size_is_emptied() {
    let server = setup(PREFIX).env("MOCK_NPU_FAULTS", "whole_answer_at_once=true").start();
    let first = Chat::user("What is an NPU?").with("max_tokens", 20);
    let answer = first.ask(&server).await;
    let answer = next_turn(&first, &answer, "Why?").ask(&server).await;
    assert_eq!(cached(&answer), 0);
    assert_eq!(server.trace().calls("rkllm_clear_kv_cache"), 1);
}

/// Two applications with long instructions of their own.
fn application(name: &str) -> Chat {
    let rules = format!("You are {name}. ") + &"Answer in one sentence and be kind. ".repeat(40);
    conversation(&rules, "What is an NPU?").with("max_tokens", 6)
}

fn saving() -> ServerSetup {
    ServerSetup::demo().config("[saved_prompts]\ntokens_min = 64\nmax_mb = 64")
}

async fn take_turns(server: &Server, times: usize) -> Vec<Answer> {
    let mut answers = Vec::new();
    for _ in 0..times {
        for name in ["Ada", "Bob"] {
            let answer = application(name).ask(server).await;
            assert_eq!(answer.finish(), "length", "{}", answer.body);
            answers.push(answer);
        }
    }
    answers
}

fn saves(server: &Server) -> usize {
    let runs = server.trace().args("rkllm_run");
    runs.iter().filter(|args| !args["save_prompt_cache"].is_null()).count()
}

fn loads(server: &Server) -> usize {
    server.trace().calls("rkllm_load_prompt_cache")
}

#[tokio::test]
async fn instructions_of_conversations_that_take_turns_are_saved_and_read_back() {
    let server = saving().start();
    let answers = take_turns(&server, 4).await;
    // Once computed, once more and saved, then read.
    assert_eq!((saves(&server), loads(&server)), (2, 4));
    for pair in answers.chunks(2).skip(1) {
        for answer in pair {
            assert!(cached(answer) + 30 > prompt_tokens(answer), "{}", answer.body["usage"]);
        }
    }
    for (at, answer) in answers.iter().enumerate() {
        assert_eq!(answer.content(), answers[at % 2].content());
    }
    // Let go before the next is read.
    assert_eq!(server.trace().calls("rkllm_release_prompt_cache"), 3);

    // They outlive the server.
    let server = server.restart();
    let again = take_turns(&server, 1).await;
    assert_eq!((saves(&server), loads(&server)), (2, 4 + 2));
    assert_eq!(again[0].content(), answers[0].content());
    assert!(cached(&again[0]) > 64);
}

#[tokio::test]
async fn one_conversation_alone_writes_nothing() {
    let server = saving().start();
    for _ in 0..3 {
        application("Ada").ask(&server).await;
    }
    assert_eq!((saves(&server), loads(&server)), (0, 0));
}

#[tokio::test]
async fn what_was_saved_with_one_adapter_is_not_read_with_another() {
    let manifest = "[adapter]\nfile = 'lora.bin'\n";
    let setup = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("demo").manifest(manifest))
        .config("[saved_prompts]\ntokens_min = 64\nmax_mb = 64");
    let folder = setup.models().join("demo");
    std::fs::write(folder.join("lora.bin"), "small weights").unwrap();
    let server = setup.start();
    take_turns(&server, 3).await;
    assert_eq!((saves(&server), loads(&server)), (2, 2));
    std::fs::write(folder.join("rkllama.toml"), format!("{manifest}scale = 0.5\n")).unwrap();
    let server = server.restart();
    take_turns(&server, 2).await;
    assert_eq!((saves(&server), loads(&server)), (2 + 2, 2), "saved afresh, and not read");
}

#[tokio::test]
async fn a_damaged_file_is_not_given_to_the_runtime() {
    let server = saving().start();
    let expected = take_turns(&server, 2).await;
    assert_eq!((saves(&server), loads(&server)), (2, 0));
    for file in std::fs::read_dir(server.dir().join(".local/state/rkllama/prompts")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "kv") {
            let mut bytes = std::fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let answers = take_turns(&server, 1).await;
    assert_eq!(loads(&server), 0);
    assert_eq!(saves(&server), 4, "saved afresh");
    assert_eq!(answers[1].content(), expected[1].content());
}

/// What the runtime makes of a saved prompt is its own affair; the client gets its answer.
#[rstest]
#[case::dies("crash_in_load_cache=true")]
#[case::refuses("load_cache_fails=true")]
#[case::writes_nothing("save_cache_fails=true")]
#[tokio::test]
async fn a_runtime_that_fails_over_a_saved_prompt_costs_no_client_an_answer(#[case] fault: &str) {
    let server = saving().env("MOCK_NPU_FAULTS", fault).start();
    let answers = take_turns(&server, 4).await;
    for (at, answer) in answers.iter().enumerate() {
        assert_eq!(answer.content(), answers[at % 2].content());
    }
    until("it is said", || server.log().contains("not saved any more").then_some(()));
    assert!(loads(&server) + saves(&server) <= 3, "and left alone from then on");
}

const LOOP: &str =
    "[[rule]]\nuser_contains = \"loop\"\nsay = \"again and again \"\nno_eos = true\n";

#[tokio::test]
async fn an_endless_repetition_ends_and_the_next_answer_is_untouched() {
    let server = ServerSetup::demo().script(LOOP).start();
    let answer = Chat::user("loop").ask(&server).await;
    assert_eq!(answer.finish(), "length");
    let tokens = answer.body["usage"]["completion_tokens"].as_u64().unwrap();
    assert!((1024..1100).contains(&tokens), "{tokens}");
    assert!(answer.content().starts_with("again and again "), "{}", answer.content());
    until("it is said", || server.log().contains("repeats itself").then_some(()));

    let other = Chat::user("What is an NPU?").with("max_tokens", 5).ask(&server).await;
    let fresh = ServerSetup::demo().start();
    let expected = Chat::user("What is an NPU?").with("max_tokens", 5).ask(&fresh).await;
    assert_eq!(other.content(), expected.content());
    assert_eq!(server.trace().call_during_run(), None);
}

#[tokio::test]
async fn who_asks_for_so_many_tokens_gets_them_however_they_repeat() {
    let server = ServerSetup::demo().script(LOOP).start();
    let answer = Chat::user("loop").with("max_tokens", 2000).ask(&server).await;
    assert_eq!(answer.body["usage"]["completion_tokens"], 2000);
    assert_eq!(server.trace().calls("rkllm_abort"), 0);
}

#[tokio::test]
async fn the_guard_against_repetition_can_be_turned_off() {
    let server = ServerSetup::new()
        .mock("1.3.0")
        .model(&ModelDir::demo("demo").manifest("context_length = 2048"))
        .config("[limits]\nrepetition_tokens_max = 0")
        .script(LOOP)
        .start();
    let answer = Chat::user("loop").ask(&server).await;
    assert_eq!(answer.finish(), "length");
    assert_eq!(answer.body["usage"]["total_tokens"], 2048);
}
