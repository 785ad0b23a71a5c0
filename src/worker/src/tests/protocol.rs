//! What the worker answers before there is a model, and what it does not put up with.

use std::io::Write;

use rkllama_protocol::{FromWorker, Loaded, ToWorker, VERSION};

use super::fake::{Fake, generate, load};
use crate::{EXIT_LOAD_FAILED, EXIT_PROTOCOL, serve::Leave};

#[test]
fn a_loaded_model_is_described() {
    for (version, sampling_per_run) in [("1.2.3", false), ("1.3.0", true)] {
        let mut server = Fake::of(version).start();
        server.say(&ToWorker::Hello(VERSION));
        assert_eq!(server.hear(), FromWorker::Hello(VERSION));
        server.say(&ToWorker::Load(load()));
        let runtime_version = version.to_owned();
        let loaded = Loaded {
            runtime_version,
            sampling_per_run,
            load_ms: 3,
            encoder: None,
            encoder_notes: None,
        };
        assert_eq!(server.hear(), FromWorker::Loaded(loaded));
        assert_eq!(server.world.notes(), ["load a.rkllm"]);
        server.shut_down();
    }
}

#[test]
fn another_version_is_told_ours_and_left() {
    let mut server = Fake::of("1.2.3").start();
    server.say(&ToWorker::Hello(VERSION + 1));
    assert_eq!(server.hear(), FromWorker::Hello(VERSION));
    assert!(server.hears_the_end());
    assert_eq!(server.leave(), Leave::With(EXIT_PROTOCOL));
}

#[test]
fn a_model_that_cannot_be_loaded_is_reported_and_left() {
    let mut server = Fake::of("1.2.3").load(|| Err("out of memory".to_owned())).start();
    server.say(&ToWorker::Hello(VERSION));
    assert_eq!(server.hear(), FromWorker::Hello(VERSION));
    server.say(&ToWorker::Load(load()));
    assert_eq!(server.hear(), FromWorker::LoadFailed("out of memory".to_owned()));
    assert!(server.hears_the_end());
    assert_eq!(server.leave(), Leave::With(EXIT_LOAD_FAILED));
}

#[test]
fn frames_out_of_sequence_are_a_breach() {
    let greeted = || {
        let mut server = Fake::of("1.2.3").start();
        server.say(&ToWorker::Hello(VERSION));
        assert_eq!(server.hear(), FromWorker::Hello(VERSION));
        server
    };
    let mut not_greeted = Fake::of("1.2.3").start();
    not_greeted.say(&ToWorker::Load(load()));
    let mut greeted_twice = greeted();
    greeted_twice.say(&ToWorker::Hello(VERSION));
    let mut not_loaded = greeted();
    not_loaded.generate(&generate(1));
    let mut loaded_twice = Fake::of("1.2.3").loaded();
    loaded_twice.say(&ToWorker::Load(load()));
    let mut busy = Fake::of("1.2.3").goes_on().loaded();
    busy.generate(&generate(1));
    busy.generate(&generate(2));
    for server in [not_greeted, greeted_twice, not_loaded, loaded_twice, busy] {
        assert_eq!(server.leave(), Leave::With(EXIT_PROTOCOL));
    }
}

#[test]
fn garbage_is_a_breach_and_still_frees_the_model() {
    for garbage in [&[3, 0, 0, 0, 77, 77, 77][..], &[0xFF; 8]] {
        let mut server = Fake::of("1.2.3").goes_on().loaded();
        server.generate(&generate(1));
        server.world.wait_for("run");
        server.socket.write_all(garbage).unwrap();
        assert_eq!(server.leave(), Leave::With(EXIT_PROTOCOL));
        assert_eq!(server.world.noted("freed"), 1);
    }
}
