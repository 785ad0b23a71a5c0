//! The session over a library made of Rust functions.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use pretty_assertions::assert_eq;

use crate::{
    Adapter, CallState, Experiment, ExperimentInput, ExperimentMode, ExperimentParams,
    ExperimentRun, GenerateParams, ImageTags, LoadError, LoadParams, OpenError, Pictured, Prompt,
    Reply, RunError, Sampling, Session, TOKEN_UNKNOWN,
    fake::{self, Call, Script, got},
    raw::call_state,
};

const GROUPS: [&str; 2] = ["1.2.3", "1.3.0"];

fn load_params() -> LoadParams {
    LoadParams {
        model: "/models/a.rkllm".into(),
        context_tokens_max: 64,
        sampling: Sampling::default(),
        ignore_eos: false,
        cpu_mask: None,
        base_domain: None,
        image_tags: None,
        adapter: None,
    }
}

fn prompt(tokens: &[i32]) -> GenerateParams<'_> {
    GenerateParams {
        prompt: Prompt::Tokens(tokens),
        append: false,
        save: None,
        sampling: Sampling::default(),
        tokens_max: 9,
    }
}

fn session(version: &str, script: Script) -> (Session, std::sync::Arc<fake::Seen>) {
    let seen = fake::prepare(script);
    (Session::load(&fake::library(version), &load_params()).unwrap(), seen)
}

/// What a run with `calls` gave: the pieces, and how it ended.
fn pieces(
    version: &str,
    calls: Vec<Call>,
) -> (Vec<(i32, String)>, Result<crate::RunEnd, RunError>) {
    let (mut session, _) = session(version, Script { calls, ..Script::default() });
    let mut pieces = Vec::new();
    let end = session.generate(&prompt(&[1, 2]), &mut |piece| {
        pieces.push((piece.token, String::from_utf8(piece.text.to_vec()).unwrap()));
    });
    (pieces, end)
}

fn owned(pieces: &[(i32, &str)]) -> Vec<(i32, String)> {
    pieces.iter().map(|(token, text)| (*token, (*text).to_owned())).collect()
}

#[test]
fn every_token_becomes_a_piece() {
    for version in GROUPS {
        let (pieces, end) = pieces(
            version,
            vec![
                Call::Normal(5, Some("Hel")),
                Call::Waiting(6),
                Call::Normal(7, Some("日")),
                Call::Normal(8, None),
                Call::Bare(call_state::NORMAL),
                Call::Bare(call_state::WAITING),
                Call::Finish(2),
            ],
        );
        let expected =
            [(5, "Hel"), (6, ""), (7, "日"), (8, ""), (TOKEN_UNKNOWN, ""), (TOKEN_UNKNOWN, "")];
        assert_eq!(pieces, owned(&expected));
        let perf = end.unwrap().perf.unwrap();
        assert_eq!((perf.prefill_tokens, perf.decode_tokens), (2, 3));
    }
}

#[test]
fn a_run_may_end_without_a_last_word() {
    let (pieces, end) = pieces("1.2.3", vec![Call::Normal(5, Some("a"))]);
    assert_eq!(pieces.len(), 1);
    assert_eq!(end.unwrap().perf, None);
}

#[test]
fn states_without_a_result_and_unknown_ones_are_borne() {
    let (pieces, end) = pieces("1.3.0", vec![Call::Bare(call_state::FINISH), Call::Bare(4)]);
    assert_eq!(pieces, []);
    assert_eq!(end.unwrap().perf, None);
}

#[test]
fn an_error_of_the_runtime_is_an_error() {
    for version in GROUPS {
        let calls = vec![Call::Normal(5, Some("a")), Call::Bare(call_state::ERROR)];
        let (pieces, end) = pieces(version, calls);
        assert_eq!(pieces.len(), 1);
        assert_eq!(end, Err(RunError::Reported));
        let (mut session, _) = session(version, Script { run_status: -1, ..Script::default() });
        let end = session.generate(&prompt(&[1]), &mut |_| {});
        assert_eq!(end, Err(RunError::Refused));
    }
}

#[test]
fn a_failed_init_is_not_destroyed() {
    for version in GROUPS {
        let load = |script| {
            let seen = fake::prepare(script);
            let failed = Session::load(&fake::library(version), &load_params()).err().unwrap();
            (failed, seen.calls())
        };
        let (failed, calls) = load(Script { init_status: -1, ..Script::default() });
        assert_eq!((failed, calls), (LoadError::Refused, vec!["init".to_owned()]));
        let (failed, calls) = load(Script { no_handle: true, ..Script::default() });
        assert_eq!((failed, calls), (LoadError::NoHandle, vec!["init".to_owned()]));
    }
}

#[test]
fn the_handle_is_freed_once_and_what_it_points_to_later() {
    for version in GROUPS {
        let (session, seen) = session(version, Script::default());
        // Moved, so that nothing may point into it.
        let mut session = Box::new(session);
        session.generate(&prompt(&[1]), &mut |_| {}).unwrap();
        drop(session);
        assert_eq!(
            seen.calls(),
            ["init", "run /models/a.rkllm", "run returns", "release_prompt_cache", "destroy"]
        );
    }
}

#[test]
fn a_panic_of_the_receiver_stops_the_run_and_not_the_session() {
    for version in GROUPS {
        let script = Script { calls: vec![Call::UntilAborted], ..Script::default() };
        let (mut session, seen) = session(version, script);
        let mut calls = 0;
        let end = session.generate(&prompt(&[1]), &mut |_| {
            calls += 1;
            panic!("no more");
        });
        assert_eq!(end, Err(RunError::Panicked("no more".to_owned())));
        assert_eq!(calls, 1, "the receiver was called again");
        assert_eq!(seen.aborts.load(Ordering::SeqCst), 1);
        let again = session.generate(&prompt(&[1]), &mut |_| panic!("{}", "again"));
        assert_eq!(again, Err(RunError::Panicked("again".to_owned())));
    }
}

#[test]
fn an_abort_ends_the_run_and_an_idle_runtime_is_left_alone() {
    let script = Script { calls: vec![Call::UntilAborted], ..Script::default() };
    let (mut session, seen) = session("1.2.3", script);
    let abort = session.abort_handle();
    assert!(!abort.abort());
    assert_eq!(seen.aborts.load(Ordering::SeqCst), 0);

    let other = abort.clone();
    let aborting = thread::spawn(move || {
        while !other.abort() {
            thread::yield_now();
        }
    });
    session.generate(&prompt(&[1]), &mut |_| {}).unwrap();
    aborting.join().unwrap();
    assert!(!abort.abort(), "the run has returned");
    assert_eq!(seen.aborts.load(Ordering::SeqCst), 1);

    drop(session);
    assert!(!abort.abort());
    assert_eq!(seen.aborts.load(Ordering::SeqCst), 1);
}

#[test]
fn aborts_race_with_runs_and_the_end_of_the_session() {
    for version in GROUPS {
        let script = Script { calls: vec![Call::UntilAborted], ..Script::default() };
        let (mut session, _) = session(version, script);
        let (abort, done) = (session.abort_handle(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    abort.abort();
                    thread::yield_now();
                }
            });
            for _ in 0..10 {
                session.generate(&prompt(&[1]), &mut |_| {}).unwrap();
            }
            drop(session);
            // The aborts go on without a session.
            for _ in 0..10 {
                thread::yield_now();
            }
            done.store(true, Ordering::SeqCst);
        });
    }
}

#[test]
fn what_cannot_be_right_does_not_reach_the_library() {
    let (mut session, seen) = session("1.3.0", Script::default());
    let long = [1; 64];
    for bad in [prompt(&[]), prompt(&long), GenerateParams { tokens_max: 0, ..prompt(&[1]) }] {
        let end = session.generate(&bad, &mut |_| {});
        assert!(matches!(end, Err(RunError::Invalid(_))), "{end:?}");
    }
    assert_eq!(seen.calls(), ["init"]);

    let library = fake::library("1.2.3");
    for bad in [
        LoadParams { context_tokens_max: 0, ..load_params() },
        LoadParams { context_tokens_max: 100, ..load_params() },
        LoadParams { context_tokens_max: 32_768, ..load_params() },
        LoadParams { ignore_eos: true, ..load_params() },
        LoadParams { cpu_mask: Some(0), ..load_params() },
        LoadParams { cpu_mask: Some(0x1FF), ..load_params() },
        LoadParams { base_domain: Some(16), ..load_params() },
        LoadParams { model: "/models/a\0b".into(), ..load_params() },
        adapted("/models/a\0b", 1.0),
        adapted("/models/lora.rkllm", f32::NAN),
    ] {
        let refused = Session::load(&library, &bad).err();
        assert!(matches!(refused, Some(LoadError::Invalid(_))), "{bad:?}: {refused:?}");
    }
}

#[test]
fn a_library_with_other_structures_than_its_release_is_refused() {
    let refused = fake::try_library("1.3.0", fake::table_e()).err().unwrap();
    assert!(matches!(refused, OpenError::LayoutDisagrees { .. }));
    assert_eq!(
        refused.to_string(),
        "imitation.so says it is RKLLM runtime 1.3.0, but its structures are those of 1.2.1 to \
         1.2.3: it is not used, because calling it would crash"
    );
    assert!(fake::try_library("1.2.3", fake::table_f()).is_err());
}

#[test]
fn the_kv_cache_is_asked_and_cleared() {
    let (mut session, seen) = session("1.2.3", Script { kv_tokens: 17, ..Script::default() });
    assert_eq!(session.kv_cache_tokens(), Some(17));
    assert!(session.clear_kv_cache());
    assert_eq!(seen.calls(), ["init", "clear_kv_cache 1 true true"]);
    let failing = Script { kv_tokens: -1, clear_status: -1, ..Script::default() };
    let (mut session, _) = self::session("1.3.0", failing);
    assert_eq!(session.kv_cache_tokens(), None);
    assert!(!session.clear_kv_cache());
}

#[test]
fn a_saved_prompt_is_loaded_and_let_go() {
    let (mut session, seen) = session("1.3.0", Script::default());
    assert!(session.load_prompt_cache("/cache/a.kv".as_ref()));
    assert!(session.release_prompt_cache());
    assert_eq!(seen.calls(), ["init", "load_prompt_cache /cache/a.kv", "release_prompt_cache"]);
    let failing = Script { load_cache_status: -1, ..Script::default() };
    let (mut session, seen) = self::session("1.2.3", failing);
    assert!(!session.load_prompt_cache("/cache/a.kv".as_ref()));
    assert!(!session.load_prompt_cache("/cache/\0.kv".as_ref()));
    assert_eq!(seen.calls().len(), 2, "a path with a zero byte never gets to the library");
}

#[test]
fn a_run_can_append_and_save() {
    for version in GROUPS {
        let (mut session, _) = session(version, Script::default());
        let params =
            GenerateParams { append: true, save: Some("/cache/a.kv".as_ref()), ..prompt(&[7]) };
        session.generate(&params, &mut |_| {}).unwrap();
        let got_then = got("RKLLMInferParam");
        assert_eq!(got_then["keep_history"], "1");
        assert_eq!(
            got_then["prompt_cache_params"],
            format!(
                "{:?}",
                fields(&[("save_prompt_cache", "1"), ("prompt_cache_path", "\"/cache/a.kv\""),])
            )
        );
        session.generate(&prompt(&[7]), &mut |_| {}).unwrap();
        let got_then = got("RKLLMInferParam");
        assert_eq!(got_then["keep_history"], "0");
        assert_eq!(got_then["prompt_cache_params"], "null", "nothing is left of the last run");
    }
}

const STATED: Sampling = Sampling {
    temperature: Some(0.5),
    top_p: Some(0.25),
    top_k: Some(3),
    repeat_penalty: Some(1.5),
    frequency_penalty: Some(-1.0),
    presence_penalty: Some(2.0),
};

fn fields(all: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What both groups have in common when everything is stated.
const STATED_PARAM: &[(&str, &str)] = &[
    ("model_path", "\"/models/a.rkllm\""),
    ("max_context_len", "96"),
    ("max_new_tokens", "-1"),
    ("top_k", "3"),
    ("n_keep", "-1"),
    ("top_p", "0.25"),
    ("temperature", "0.5"),
    ("repeat_penalty", "1.5"),
    ("frequency_penalty", "-1"),
    ("presence_penalty", "2"),
    ("mirostat", "0"),
    ("mirostat_tau", "5"),
    ("mirostat_eta", "0.1"),
    ("is_async", "0"),
    ("extend_param.base_domain_id", "2"),
    ("extend_param.embed_flash", "1"),
    ("extend_param.enabled_cpus_num", "3"),
    ("extend_param.enabled_cpus_mask", "0x70"),
    ("extend_param.n_batch", "1"),
    ("extend_param.use_cross_attn", "0"),
];

fn stated() -> LoadParams {
    LoadParams {
        context_tokens_max: 96,
        sampling: STATED,
        cpu_mask: Some(0x70),
        base_domain: Some(2),
        ..load_params()
    }
}

#[test]
fn group_e_gets_its_parameters_at_its_offsets() {
    fake::prepare(Script::default());
    let mut session = Session::load(&fake::library("1.2.3"), &stated()).unwrap();
    let mut expected = fields(STATED_PARAM);
    expected.extend(fields(&[
        ("skip_special_token", "1"),
        ("img_start", "\"\""),
        ("img_end", "\"\""),
        ("img_content", "\"\""),
    ]));
    assert_eq!(got("RKLLMParam"), expected);

    session.generate(&prompt(&[7, 8, 9]), &mut |_| {}).unwrap();
    assert_eq!(got("RKLLMInput"), fields(INPUT));
    assert_eq!(
        got("RKLLMInferParam"),
        fields(&[
            ("mode", "0"),
            ("lora_params", "null"),
            ("prompt_cache_params", "null"),
            ("keep_history", "0"),
        ])
    );
}

const INPUT: &[(&str, &str)] = &[
    ("role", "\"user\""),
    ("enable_thinking", "0"),
    ("input_type", "1"),
    ("token_input.input_ids", "[7, 8, 9]"),
];

#[test]
fn group_f_gets_its_parameters_at_its_offsets() {
    fake::prepare(Script::default());
    let params = LoadParams { ignore_eos: true, ..stated() };
    let mut session = Session::load(&fake::library("1.3.0"), &params).unwrap();
    let mut expected = fields(STATED_PARAM);
    // Without an end of sequence of its own the runtime must not hide special tokens.
    expected.extend(fields(&[("skip_special_token", "0"), ("ignore_eos_token", "1")]));
    assert_eq!(got("RKLLMParam"), expected);
    assert_eq!(
        got("RKLLMCallback"),
        fields(&[
            ("result_callback", "set"),
            ("result_userdata", "null"),
            ("tokenizer_callback", "null"),
            ("tokenizer_userdata", "null"),
            ("embed_callback", "null"),
            ("embed_userdata", "null"),
        ])
    );

    // A run states some of its sampling; the rest is what the model was loaded with.
    let sampling = Sampling { temperature: Some(0.0), ..Sampling::default() };
    let params = GenerateParams { sampling, ..prompt(&[7, 8, 9]) };
    session.generate(&params, &mut |_| {}).unwrap();
    assert_eq!(got("RKLLMInput"), fields(INPUT));
    let sampling = fields(&[
        ("top_k", "1"),
        ("top_p", "0.25"),
        ("temperature", "1"),
        ("repeat_penalty", "1.5"),
        ("frequency_penalty", "-1"),
        ("presence_penalty", "2"),
        ("mirostat", "0"),
        ("mirostat_tau", "5"),
        ("mirostat_eta", "0.1"),
    ]);
    assert_eq!(
        got("RKLLMInferParam"),
        fields(&[
            ("mode", "0"),
            ("lora_params", "null"),
            ("prompt_cache_params", "null"),
            ("sampling_params", &format!("{sampling:?}")),
            ("keep_history", "0"),
            ("max_new_tokens", "9"),
        ])
    );
}

#[test]
fn what_is_not_stated_stays_as_the_library_wrote_it() {
    for version in GROUPS {
        let (_session, _) = session(version, Script::default());
        let got = got("RKLLMParam");
        assert_eq!((got["top_k"].as_str(), got["top_p"].as_str()), ("40", "0.9"));
        assert_eq!(got["skip_special_token"], "1");
        assert_eq!(got["extend_param.enabled_cpus_mask"], "0xf0");
    }
}

fn adapted(file: &str, scale: f32) -> LoadParams {
    LoadParams { adapter: Some(Adapter { file: file.into(), scale }), ..load_params() }
}

#[test]
fn an_adapter_is_loaded_behind_its_model_and_named_in_every_run() {
    for version in GROUPS {
        let seen = fake::prepare(Script::default());
        let params = adapted("/models/lora.rkllm", 0.5);
        let mut session = Session::load(&fake::library(version), &params).unwrap();
        assert_eq!(seen.calls(), ["init", "load_lora"], "{version}");
        let loaded = got("RKLLMLoraAdapter");
        assert_eq!(
            loaded,
            fields(&[
                ("lora_adapter_path", "\"/models/lora.rkllm\""),
                ("lora_adapter_name", "\"adapter\""),
                ("scale", "0.5"),
            ])
        );
        let named = fields(&[("lora_adapter_name", &loaded["lora_adapter_name"])]);
        session.generate(&prompt(&[7]), &mut |_| {}).unwrap();
        assert_eq!(got("RKLLMInferParam")["lora_params"], format!("{named:?}"), "{version}");
        session.read(Prompt::Tokens(&[7]), &mut |_| {}).unwrap();
        assert_eq!(got("RKLLMInferParam")["lora_params"], format!("{named:?}"), "{version}");
    }
}

#[test]
fn a_model_whose_adapter_is_refused_is_freed() {
    for version in GROUPS {
        let seen = fake::prepare(Script { load_lora_status: -1, ..Script::default() });
        let params = adapted("/models/lora.rkllm", 1.0);
        let refused = Session::load(&fake::library(version), &params).err().unwrap();
        assert_eq!(refused, LoadError::Adapter("/models/lora.rkllm".into()));
        assert_eq!(
            seen.calls(),
            ["init", "load_lora", "release_prompt_cache", "destroy"],
            "{version}"
        );
    }
}

fn seeing() -> LoadParams {
    let image_tags = ImageTags { start: "<s>".into(), end: "<e>".into(), content: "<c>".into() };
    LoadParams { image_tags: Some(image_tags), ..load_params() }
}

const PICTURED: Pictured<'_> = Pictured {
    text: "See <image> and <image>.",
    vectors: &[0.5; 12],
    images: 2,
    image_tokens: 3,
    width: 28,
    height: 56,
    tokens: 20,
};

#[test]
fn images_reach_the_runtime_in_the_fields_of_its_group() {
    for (version, tags_at_load) in [("1.2.3", true), ("1.3.0", false)] {
        let seen = fake::prepare(Script::default());
        let mut session = Session::load(&fake::library(version), &seeing()).unwrap();
        assert_eq!(seen.calls(), ["init", "set_chat_template [\"\", \"\", \"\"]"], "{version}");
        let param = got("RKLLMParam");
        assert_eq!(param.get("img_start").is_some_and(|tag| tag == "\"<s>\""), tags_at_load);
        let params = GenerateParams { prompt: Prompt::Pictured(PICTURED), ..prompt(&[]) };
        session.generate(&params, &mut |_| {}).unwrap();
        let mut input = got("RKLLMInput");
        input.retain(|name, _| !name.starts_with("video."));
        let image = if tags_at_load { "" } else { "image." };
        let dimension = if tags_at_load { "image_" } else { "image.image_" };
        let mut expected = vec![
            ("prompt".to_owned(), "\"See <image> and <image>.\""),
            (format!("{image}image_embed"), "set"),
            (format!("{image}n_image_tokens"), "3"),
            (format!("{image}n_image"), "2"),
            (format!("{dimension}width"), "28"),
            (format!("{dimension}height"), "56"),
        ];
        if !tags_at_load {
            expected.extend([
                ("image.image_start".to_owned(), "\"<s>\""),
                ("image.image_end".to_owned(), "\"<e>\""),
                ("image.image_content".to_owned(), "\"<c>\""),
            ]);
        }
        let expected = expected.into_iter().map(|(name, text)| (name, text.to_owned())).collect();
        assert_eq!(input, expected, "{version}");
    }
}

#[test]
fn images_that_would_crash_the_runtime_never_reach_it() {
    let seen = fake::prepare(Script::default());
    let mut session = Session::load(&fake::library("1.3.0"), &seeing()).unwrap();
    for (pictured, expected) in [
        (Pictured { text: "None.", ..PICTURED }, "0 places for 2 images"),
        (Pictured { images: 1, ..PICTURED }, "2 places for 1 images"),
        (Pictured { vectors: &[0.5; 13], ..PICTURED }, "13 numbers for 6 vectors of images"),
        (Pictured { vectors: &[], ..PICTURED }, "0 numbers for 6 vectors of images"),
        (Pictured { image_tokens: 0, ..PICTURED }, "12 numbers for 0 vectors of images"),
        (Pictured { tokens: 64, ..PICTURED }, "the prompt has 64 tokens, the context holds 64"),
        (Pictured { text: "<image><image>\0", ..PICTURED }, "a zero byte in the prompt"),
    ] {
        let params = GenerateParams { prompt: Prompt::Pictured(pictured), ..prompt(&[]) };
        let error = session.generate(&params, &mut |_| {}).unwrap_err();
        assert_eq!(error, RunError::Invalid(expected.to_owned()));
    }
    assert!(!seen.calls().iter().any(|call| call.starts_with("run")));

    let (mut blind, _) = self::session("1.3.0", Script::default());
    let params = GenerateParams { prompt: Prompt::Pictured(PICTURED), ..prompt(&[]) };
    let error = blind.generate(&params, &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "the model was not loaded to be shown images");
}

#[test]
fn an_experiment_may_ask_for_what_serving_never_does() {
    for version in GROUPS {
        fake::prepare(Script {
            calls: vec![Call::Normal(5, Some("Hel")), Call::Finish(2)],
            ..Script::default()
        });
        let params = ExperimentParams { load: load_params(), tokens_max: Some(-1), batches: None };
        let mut experiment = Experiment::load(&fake::library(version), &params).unwrap();
        assert_eq!(got("RKLLMParam")["max_new_tokens"], "-1");
        // Longer than the context, which serving refuses.
        let tokens = [1; 65];
        let run = ExperimentRun {
            input: ExperimentInput::Tokens(&tokens),
            mode: ExperimentMode::Generate,
            keep_history: true,
            save: None,
            tokens_max: 0,
        };
        let mut seen = Vec::new();
        let status = experiment.run(&run, &mut |called| {
            seen.push((called.state, called.tokens.clone(), called.text.to_vec()));
            Reply::Continue
        });
        assert_eq!(status, Ok(0), "{version}");
        assert_eq!(
            seen,
            [
                (CallState::Normal, vec![5], b"Hel".to_vec()),
                (CallState::Finish, vec![], Vec::new())
            ]
        );
        let infer = got("RKLLMInferParam");
        assert_eq!(infer["keep_history"], "1");
        let two = ExperimentRun { input: ExperimentInput::Batch(&[&[1], &[2]]), ..run };
        let refused = experiment.run(&two, &mut |_| Reply::Continue);
        assert!(
            matches!(refused, Err(RunError::Invalid(_))),
            "it reads as many as it was loaded for"
        );
    }
}
