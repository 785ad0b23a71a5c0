//! The whole crate against a shared library that exports what the vendor's exports.
//!
//! The libraries are built by `ci/mock` and looked for in `<target>/mock`, or in the folder that
//! `MOCK_NPU_LIBS` names. Without them the tests say so and pass, but fail with `CI=true`. The
//! libraries read their faults from the environment, which a test must not change for its
//! neighbours: faults stand in the model file instead.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test, also outside of its functions"
)]

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use pretty_assertions::assert_eq;
use rkllama_npu::{
    Adapter, GenerateParams, Library, LoadError, LoadParams, Prompt, RunEnd, RunError, Sampling,
    Session, inspect,
};

const RELEASES: [&str; 2] = ["1.2.3", "1.3.0"];

/// The folder with the libraries, or none after saying so.
fn libraries() -> Option<PathBuf> {
    let folder = env::var_os("MOCK_NPU_LIBS").map_or_else(
        || {
            let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
                || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
                PathBuf::from,
            );
            target.join("mock")
        },
        PathBuf::from,
    );
    let complete =
        RELEASES.iter().all(|release| folder.join(release).join("librkllmrt.so").is_file());
    if complete {
        return Some(folder);
    }
    let hint = format!("no libraries in {}: run ci/mock", folder.display());
    assert!(env::var("CI").as_deref() != Ok("true"), "{hint}");
    // Not a print macro: the test harness would keep it to itself.
    io::stderr().write_all(format!("SKIPPED: {hint}\n").as_bytes()).unwrap();
    None
}

/// The library imitates an NPU whose state is the process's: one test at a time.
fn npu() -> MutexGuard<'static, ()> {
    static NPU: Mutex<()> = Mutex::new(());
    NPU.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A model file that answers without delays, with more lines at its end.
fn model(folder: &Path, toolkit: &str, more: &str) -> PathBuf {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mock-npu/demo/demo.rkllm");
    let text = fs::read_to_string(demo).unwrap();
    // Its own delays stand last; the tests give theirs.
    let text = text.split("[latency]").next().unwrap();
    let text =
        text.replace("toolkit_version = \"1.3.0\"", &format!("toolkit_version = {toolkit:?}"));
    let path = folder.join("model.rkllm");
    fs::write(&path, format!("{text}\n{more}")).unwrap();
    // The tokenizer beside it gives the ids their texts.
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mock-npu/demo").join(name);
        fs::copy(demo, folder.join(name)).unwrap();
    }
    path
}

fn load(library: &Path, model: PathBuf) -> Result<Session, LoadError> {
    load_with(library, model, None)
}

fn load_with(
    library: &Path,
    model: PathBuf,
    adapter: Option<Adapter>,
) -> Result<Session, LoadError> {
    let library = Library::open(library).unwrap();
    Session::load(
        &library,
        &LoadParams {
            model,
            context_tokens_max: 512,
            sampling: Sampling { temperature: Some(0.0), ..Sampling::FALLBACK },
            ignore_eos: false,
            cpu_mask: None,
            base_domain: None,
            image_tags: None,
            adapter,
        },
    )
}

const PROMPT: &[i32] = &[1, 105, 110, 120, 2];

fn generate(session: &mut Session, tokens_max: u32) -> (String, u32, Result<RunEnd, RunError>) {
    let sampling = Sampling { temperature: Some(0.0), ..Sampling::FALLBACK };
    let (mut text, mut tokens) = (Vec::new(), 0);
    let params = GenerateParams {
        prompt: Prompt::Tokens(PROMPT),
        append: false,
        save: None,
        sampling,
        tokens_max,
    };
    let end = session.generate(&params, &mut |piece| {
        text.extend_from_slice(piece.text);
        tokens += 1;
    });
    (String::from_utf8(text).unwrap(), tokens, end)
}

/// Runs `body` for each release with a library and a folder for its model.
fn for_each_release(body: impl Fn(&str, &Path, &Path)) {
    let Some(libraries) = libraries() else {
        return;
    };
    let _one_at_a_time = npu();
    for release in RELEASES {
        let folder = tempfile::tempdir().unwrap();
        body(release, &libraries.join(release).join("librkllmrt.so"), folder.path());
    }
}

#[test]
fn the_release_is_read_from_the_file() {
    for_each_release(|release, library, _| {
        let found = inspect(library).unwrap();
        assert_eq!(found.version, release);
        assert_eq!(found.profile.sampling_per_run, release == "1.3.0");
    });
}

#[test]
fn releases_that_are_not_supported_are_refused_by_name() {
    let Some(libraries) = libraries() else {
        return;
    };
    for (release, why) in
        [("1.1.4", "is too old"), ("1.2.0", "is not supported yet"), ("1.2.1b1", "not supported")]
    {
        let refused = inspect(&libraries.join(release).join("librkllmrt.so")).unwrap_err();
        let refused = refused.to_string();
        assert!(refused.contains(release) && refused.contains(why), "{refused}");
    }
}

/// The library of `release` in a file of its own, with `lie` as its version.
fn lying(libraries: &Path, folder: &Path, release: &str, lie: &str) -> PathBuf {
    let mut bytes = fs::read(libraries.join(release).join("librkllmrt.so")).unwrap();
    let (truth, lie) = (format!("(version: {release} |"), format!("(version: {lie} |"));
    let at = bytes.windows(truth.len()).position(|it| it == truth.as_bytes()).unwrap();
    bytes[at..at + lie.len()].copy_from_slice(lie.as_bytes());
    let path = folder.join(format!("{release}.so"));
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_library_that_is_not_what_it_says_is_refused_before_init() {
    let Some(libraries) = libraries() else {
        return;
    };
    let _one_at_a_time = npu();
    let folder = tempfile::tempdir().unwrap();
    let refused = |release, lie| {
        let path = lying(&libraries, folder.path(), release, lie);
        Library::open(&path).err().unwrap().to_string()
    };
    let by_structures = refused("1.3.0", "1.2.3");
    assert!(by_structures.contains("its structures are those of 1.3"), "{by_structures}");
    let by_structures = refused("1.2.3", "1.3.0");
    assert!(by_structures.contains("its structures are those of 1.2.1"), "{by_structures}");
    let by_functions = refused("1.2.0", "1.2.3");
    assert!(by_functions.contains("does not export rkllm_get_kv_cache_size"), "{by_functions}");
}

#[test]
fn a_library_that_lacks_what_it_needs_is_refused_in_the_loaders_words() {
    let Some(libraries) = libraries() else {
        return;
    };
    // The needed library's name is exchanged in the file for one that does not exist.
    let mut bytes = fs::read(libraries.join("1.2.3/librkllmrt.so")).unwrap();
    let at = bytes.windows(10).position(|it| it == b"\0libc.so.6").unwrap();
    bytes[at + 1..at + 10].copy_from_slice(b"libX.so.6");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("librkllmrt.so");
    fs::write(&path, bytes).unwrap();
    let refused = Library::open(&path).err().unwrap().to_string();
    assert!(refused.starts_with("cannot load "), "{refused}");
    assert!(refused.contains("libX.so.6"), "{refused}");
}

#[test]
fn a_prompt_of_tokens_is_answered_the_same_way_twice() {
    for_each_release(|release, library, folder| {
        let more = "[latency]\nscale = 0.0\n";
        let mut session = load(library, model(folder, release, more)).unwrap();
        let (text, tokens, end) = generate(&mut session, 24);
        assert!(end.is_ok(), "{release}: {end:?}");
        assert!(tokens > 0 && !text.is_empty(), "{release}: {tokens} tokens, {text:?}");
        let (again, ..) = generate(&mut session, 24);
        assert_eq!(again, text, "{release}");
    });
}

#[test]
fn an_adapter_changes_what_the_model_says() {
    for_each_release(|release, library, folder| {
        let plain = "[latency]\nscale = 0.0\n[[rule]]\nsay = \"I am the base.\"\n";
        let model = model(folder, release, plain);
        let file = folder.join("lora.rkllm");
        let load = |scale| {
            let adapter = Adapter { file: file.clone(), scale };
            load_with(library, model.clone(), Some(adapter))
        };
        assert_eq!(load(1.0).err(), Some(LoadError::Adapter(file.clone())), "{release}");
        fs::write(&file, "RKLLM-MOCK-LORA 1\n[[rule]]\nsay = \"I am adapted.\"\n").unwrap();
        let mut session = load(1.0).unwrap();
        let (text, _, end) = generate(&mut session, 24);
        assert_eq!((text.as_str(), end.is_ok()), ("I am adapted.", true), "{release}");
    });
}

#[test]
fn only_1_3_ends_a_run_at_its_own_limit() {
    for_each_release(|release, library, folder| {
        let more = "[latency]\nscale = 0.0\n[[rule]]\nsay = \"again and again \"\nrepeat = 5\n";
        let mut session = load(library, model(folder, release, more)).unwrap();
        let (_, tokens, end) = generate(&mut session, 3);
        assert!(end.is_ok(), "{release}: {end:?}");
        assert_eq!(tokens == 3, session.profile().tokens_max_per_run, "{release}: {tokens} tokens");
    });
}

#[test]
fn an_endless_answer_is_aborted_and_the_next_is_whole() {
    for_each_release(|release, library, folder| {
        let more = "[latency]\nload_ms = 0\nprefill_ms = 0\ndecode_ms_per_token = 20\n[[rule]]\nsay = \"on and on \"\nno_eos = true\nrepeat = 100000\n";
        let mut session = load(library, model(folder, release, more)).unwrap();
        let abort = session.abort_handle();
        let spoke = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !spoke.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                assert!(abort.abort());
            });
            let sampling = Sampling::FALLBACK;
            let params = GenerateParams {
                prompt: Prompt::Tokens(PROMPT),
                append: false,
                save: None,
                sampling,
                tokens_max: 400,
            };
            let mut tokens = 0;
            let end = session.generate(&params, &mut |_| {
                tokens += 1;
                spoke.store(true, Ordering::SeqCst);
                // The abort is on its way; let it come through.
                thread::yield_now();
            });
            assert!(end.is_ok(), "{release}: {end:?}");
            assert!(tokens < 400, "{release}: {tokens} tokens in spite of the abort");
        });
        assert!(session.clear_kv_cache(), "{release}");
        assert_eq!(session.kv_cache_tokens(), Some(0), "{release}");
        // Before 1.3 nothing but an abort or the context would end it.
        if session.profile().tokens_max_per_run {
            let (text, tokens, end) = generate(&mut session, 5);
            assert_eq!((tokens, end.is_ok()), (5, true), "{text:?}");
        }
    });
}

#[test]
fn the_kv_cache_holds_the_prompt_and_all_tokens_but_the_last() {
    for_each_release(|release, library, folder| {
        let more = "[latency]\nscale = 0.0\n[[rule]]\nsay = \"one two three four\"\n";
        let mut session = load(library, model(folder, release, more)).unwrap();
        let (text, tokens, end) = generate(&mut session, 50);
        assert!(end.is_ok(), "{release}: {end:?}");
        // The end of sequence was sampled last and did not reach the callback.
        let prompt = u32::try_from(PROMPT.len()).unwrap();
        assert_eq!(session.kv_cache_tokens(), Some(prompt + tokens), "{release}: {text:?}");
    });
}

#[test]
fn faults_of_the_runtime_become_errors() {
    for_each_release(|release, library, folder| {
        let with = |fault: &str| model(folder, release, &format!("[faults]\n{fault}\n"));
        let refused = load(library, with("init_fails = true")).err();
        assert_eq!(refused, Some(LoadError::Refused), "{release}");
        let refused = load(library, with("init_null_handle = true")).err();
        assert_eq!(refused, Some(LoadError::NoHandle), "{release}");
        let more = "error_at_token = 2\nerror_result_null = true\n[latency]\nscale = 0.0";
        let mut session = load(library, with(more)).unwrap();
        let (_, tokens, end) = generate(&mut session, 9);
        assert_eq!((tokens < 3, end), (true, Err(RunError::Reported)), "{release}");
    });
}
