//! Runs: what is passed on, when they are stopped, how they end.

use rkllama_npu::{Perf, RunEnd, RunError};
use rkllama_protocol::{End, FromWorker, Generate, Load, Piece, ToWorker};

use super::fake::{Fake, generate, load, stats};

const BOTH: [&str; 2] = ["1.2.3", "1.3.0"];

#[test]
fn each_token_is_passed_on_and_the_runtimes_own_end_is_a_stop() {
    for version in BOTH {
        let mut server = Fake::of(version)
            .run(|stage| {
                assert_eq!(stage.params.tokens, [1, 2]);
                assert_eq!(stage.params.tokens_max, 50);
                stage.piece(5, "Hel");
                stage.piece(6, "");
                stage.piece(-1, "日");
                Ok(RunEnd::default())
            })
            .loaded();
        server.generate(&generate(1));
        for (token, text) in [(5, "Hel"), (6, ""), (-1, "日")] {
            let piece = Piece { run: 1, token, text: text.into() };
            assert_eq!(server.hear(), FromWorker::Piece(piece));
        }
        assert_eq!(server.hear(), FromWorker::End(End::Stop(stats(1, 3))));
        assert_eq!(server.world.noted("abort"), 0);
        server.shut_down();
    }
}

#[test]
fn runs_follow_each_other() {
    let mut server = Fake::of("1.2.3").says(&[4]).says(&[]).says(&[5, 6]).loaded();
    for (run, tokens) in [(1, vec![4]), (2, vec![]), (9, vec![5, 6])] {
        server.generate(&generate(run));
        let count = u32::try_from(tokens.len()).unwrap();
        assert_eq!(server.hear_run(run), (tokens, End::Stop(stats(run, count))));
    }
    server.shut_down();
}

#[test]
fn before_1_3_the_worker_ends_a_run_at_its_limit() {
    let mut server = Fake::of("1.2.3").goes_on().loaded();
    server.generate(&Generate { tokens_max: 3, ..generate(1) });
    assert_eq!(server.hear_run(1), (vec![7, 7, 7], End::Length(stats(1, 3))));
    assert!(server.world.noted("abort") >= 1);
    server.shut_down();
}

#[test]
fn since_1_3_the_runtime_is_left_to_end_at_its_limit() {
    let mut server = Fake::of("1.3.0")
        .run(|stage| {
            for _ in 0..stage.params.tokens_max {
                stage.piece(7, "on ");
            }
            assert!(!stage.is_aborted());
            Ok(RunEnd::default())
        })
        .loaded();
    server.generate(&Generate { tokens_max: 3, ..generate(1) });
    assert_eq!(server.hear_run(1), (vec![7, 7, 7], End::Length(stats(1, 3))));
    assert_eq!(server.world.noted("abort"), 0);
    server.shut_down();
}

#[test]
fn a_runtime_that_exceeds_its_limit_is_stopped() {
    let mut server = Fake::of("1.3.0").goes_on().loaded();
    server.generate(&Generate { tokens_max: 3, ..generate(1) });
    assert_eq!(server.hear_run(1), (vec![7, 7, 7], End::Length(stats(1, 3))));
    assert!(server.world.noted("abort") >= 1);
    server.shut_down();
}

#[test]
fn the_contexts_end_is_a_length() {
    for version in BOTH {
        let mut server = Fake::of(version)
            .run(|stage| {
                assert_eq!(stage.params.tokens_max, 4);
                stage.until_aborted();
                Ok(RunEnd::default())
            })
            .loaded();
        server.generate(&Generate { tokens: vec![1; 60], ..generate(1) });
        assert_eq!(server.hear_run(1), (vec![7; 4], End::Length(stats(1, 4))));
        server.shut_down();
    }
}

#[test]
fn a_stop_token_ends_the_answer_and_is_counted_but_not_passed_on() {
    // The runtime ends by itself behind it.
    let mut server = Fake::of("1.3.0").says(&[5, 99]).loaded();
    server.generate(&generate(1));
    assert_eq!(server.hear_run(1), (vec![5], End::Stop(stats(1, 2))));
    assert_eq!(server.world.noted("abort"), 0);
    server.shut_down();

    // The runtime does not know it.
    let mut server = Fake::of("1.3.0")
        .run(|stage| {
            stage.piece(99, "<end>");
            stage.until_aborted();
            Ok(RunEnd::default())
        })
        .loaded();
    server.generate(&generate(1));
    assert_eq!(server.hear_run(1), (vec![], End::Stop(stats(1, 1))));
    assert!(server.world.noted("abort") >= 1);
    server.shut_down();
}

#[test]
fn where_the_end_of_sequence_is_ignored_a_stop_token_aborts_at_once() {
    let mut server = Fake::of("1.3.0")
        .run(|stage| {
            stage.piece(99, "<end>");
            stage.wait_for_abort();
            Ok(RunEnd::default())
        })
        .loaded_with(Load { ignore_eos: true, ..load() });
    server.generate(&generate(1));
    assert_eq!(server.hear_run(1), (vec![], End::Stop(stats(1, 1))));
    server.shut_down();
}

#[test]
fn a_stop_token_at_the_limit_is_a_stop() {
    let mut server = Fake::of("1.2.3").says(&[5, 99]).loaded();
    server.generate(&Generate { tokens_max: 2, ..generate(1) });
    assert_eq!(server.hear_run(1), (vec![5], End::Stop(stats(1, 2))));
    server.shut_down();
}

#[test]
fn an_abort_ends_the_run_and_not_the_next() {
    for version in BOTH {
        let mut server = Fake::of(version)
            .run(|stage| {
                stage.piece(5, "a");
                stage.wait_for_abort();
                // What the runtime still says after it.
                stage.piece(6, "b");
                Ok(RunEnd::default())
            })
            .says(&[5])
            .loaded();
        server.generate(&generate(1));
        assert!(matches!(server.hear(), FromWorker::Piece(Piece { token: 5, .. })));
        server.say(&ToWorker::Abort(1));
        assert_eq!(server.hear_run(1), (vec![], End::Aborted(stats(1, 1))));
        server.generate(&generate(2));
        assert_eq!(server.hear_run(2), (vec![5], End::Stop(stats(2, 1))));
        server.shut_down();
    }
}

#[test]
fn an_abort_during_the_prefill_gives_no_token() {
    let mut server = Fake::of("1.2.3")
        .run(|stage| {
            stage.wait_for_abort();
            // The prefill could not be broken off, and its token comes.
            stage.piece(5, "late");
            Ok(RunEnd::default())
        })
        .loaded();
    server.generate(&generate(1));
    server.world.wait_for("run");
    server.say(&ToWorker::Abort(1));
    assert_eq!(server.hear_run(1), (vec![], End::Aborted(stats(1, 0))));
    server.shut_down();
}

#[test]
fn an_abort_that_the_runtime_missed_is_repeated_at_the_next_token() {
    let missed = std::sync::atomic::AtomicBool::new(false);
    let mut server = Fake::of("1.2.3")
        .run(|stage| {
            stage.until_aborted();
            Ok(RunEnd::default())
        })
        .on_abort(move |_| missed.swap(true, std::sync::atomic::Ordering::SeqCst))
        .loaded();
    server.generate(&Generate { tokens_max: 2, ..generate(1) });
    assert_eq!(server.hear_run(1), (vec![7, 7], End::Length(stats(1, 2))));
    assert!(server.world.noted("abort") >= 2);
    server.shut_down();
}

#[test]
fn an_abort_right_behind_its_generate_is_not_lost() {
    // Whether the run has begun when the abort is read is left to chance; often enough it has not.
    for run in 1..=50 {
        let mut server = Fake::of("1.2.3")
            .run(|stage| {
                stage.hesitate_until_aborted();
                Ok(RunEnd::default())
            })
            .loaded();
        let mut frames = rkllama_protocol::encode(&ToWorker::Generate(generate(run))).unwrap();
        frames.extend(rkllama_protocol::encode(&ToWorker::Abort(run)).unwrap());
        std::io::Write::write_all(&mut server.socket, &frames).unwrap();
        assert_eq!(server.hear_run(run), (vec![], End::Aborted(stats(run, 0))));
        server.shut_down();
    }
}

#[test]
fn an_abort_of_another_run_is_ignored() {
    let mut server = Fake::of("1.2.3")
        .says(&[4])
        .run(|stage| {
            stage.piece(5, "a");
            // The aborts are read before the shutdown of the test could be.
            stage.wait_for_abort();
            Ok(RunEnd::default())
        })
        .loaded();
    server.say(&ToWorker::Abort(1));
    server.generate(&generate(1));
    assert_eq!(server.hear_run(1), (vec![4], End::Stop(stats(1, 1))));
    server.say(&ToWorker::Abort(1));
    server.generate(&generate(2));
    assert!(matches!(server.hear(), FromWorker::Piece(_)));
    for other in [1, 3] {
        server.say(&ToWorker::Abort(other));
    }
    assert_eq!(server.world.noted("abort"), 0);
    server.say(&ToWorker::Abort(2));
    assert_eq!(server.hear_run(2), (vec![], End::Aborted(stats(2, 1))));
    // Frames are obeyed in their order, so the others were read and did nothing.
    assert_eq!(server.world.noted("abort"), 1);
    server.shut_down();
}

#[test]
fn an_error_of_the_runtime_fails_the_run_and_clears_the_cache() {
    let mut server = Fake::of("1.3.0")
        .run(|stage| {
            stage.piece(5, "a");
            Err(RunError::Reported)
        })
        .says(&[6])
        .loaded();
    server.generate(&generate(1));
    let reason = RunError::Reported.to_string();
    assert_eq!(server.hear_run(1), (vec![5], End::Failed { run: 1, reason }));
    assert_eq!(server.world.noted("clear"), 1);
    server.generate(&generate(2));
    assert_eq!(server.hear_run(2), (vec![6], End::Stop(stats(2, 1))));
    assert_eq!(server.world.noted("clear"), 1);
    server.shut_down();
}

#[test]
fn an_error_that_follows_an_abort_is_the_abort() {
    let mut server = Fake::of("1.2.3")
        .run(|stage| {
            stage.until_aborted();
            Err(RunError::Refused)
        })
        .loaded();
    server.generate(&Generate { tokens_max: 1, ..generate(1) });
    assert_eq!(server.hear_run(1), (vec![7], End::Length(stats(1, 1))));
    server.shut_down();
}

#[test]
fn after_an_abort_the_cache_is_cleared_unless_it_holds_what_it_should() {
    // Two prompt tokens and three generated, the last of which is not in the cache yet.
    for (held, cleared) in [(4, 0), (5, 1), (0, 1)] {
        let mut server = Fake::of("1.2.3")
            .run(|stage| {
                for _ in 0..3 {
                    stage.piece(7, "on ");
                }
                stage.wait_for_abort();
                Ok(RunEnd::default())
            })
            .kv_tokens(held)
            .loaded();
        server.generate(&Generate { tokens_max: 3, ..generate(1) });
        assert_eq!(server.hear_run(1), (vec![7; 3], End::Length(stats(1, 3))));
        assert_eq!(server.world.noted("clear"), cleared, "{held} tokens held");
        server.shut_down();
    }
}

#[test]
fn cached_tokens_are_not_guessed_from_figures_that_are_not_proven() {
    let perf = Perf {
        prefill_ms: 1.0,
        prefill_tokens: 1,
        decode_ms: 1.0,
        decode_tokens: 0,
        memory_mb: 1.0,
    };
    for version in BOTH {
        let mut server = Fake::of(version).run(move |_| Ok(RunEnd { perf: Some(perf) })).loaded();
        server.generate(&generate(1));
        assert_eq!(server.hear_run(1), (vec![], End::Stop(stats(1, 0))));
        server.shut_down();
    }
}
