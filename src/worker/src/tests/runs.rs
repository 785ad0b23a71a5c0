//! Runs: what is passed on, when they are stopped, how they end.

use rkllama_npu::{Perf, Prompt, RunEnd, RunError};
use rkllama_protocol::{
    Embed, Embedding, End, FromWorker, Generate, KvOrders, Load, Order, Piece, Pooling, Score,
    Scores, Stats, ToWorker,
};

use super::fake::{Fake, generate, load, stats};

const BOTH: [&str; 2] = ["1.2.3", "1.3.0"];

#[test]
fn each_token_is_passed_on_and_the_runtimes_own_end_is_a_stop() {
    for version in BOTH {
        let mut server = Fake::of(version)
            .run(|stage| {
                assert_eq!(stage.params.prompt, Prompt::Tokens(&[1, 2]));
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
        let mut frames =
            rkllama_protocol::encode(&ToWorker::Run(Order::Generate(generate(run)))).unwrap();
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
fn an_error_of_the_runtime_fails_the_run_and_not_the_next() {
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
    server.generate(&generate(2));
    assert_eq!(server.hear_run(2), (vec![6], End::Stop(stats(2, 1))));
    assert_eq!(server.world.noted("clear"), 0, "nobody ordered it");
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
fn what_the_cache_holds_can_be_reckoned_from_the_end() {
    let perf = Perf {
        prefill_ms: 1.0,
        prefill_tokens: 1,
        decode_ms: 1.0,
        decode_tokens: 0,
        memory_mb: 1.0,
    };
    let mut server = Fake::of("1.2.3")
        .run(move |stage| {
            stage.piece(7, "on ");
            stage.piece(99, "<end>");
            stage.wait_for_abort();
            stage.piece(8, "more");
            Ok(RunEnd { perf: Some(perf) })
        })
        .kv_tokens(4)
        .loaded_with(Load { ignore_eos: true, ..load() });
    server.generate(&generate(1));
    let expected = Stats {
        run: 1,
        tokens: 2,
        unsent: vec![99, 8],
        aborted: true,
        kv_tokens: Some(4),
        computed_tokens: Some(1),
    };
    assert_eq!(server.hear_all_of_run(1), (vec![7], End::Stop(expected)));
    server.shut_down();
}

#[test]
fn orders_about_the_cache_are_followed_around_the_run() {
    let mut server = Fake::of("1.3.0")
        .run(|stage| {
            assert!(stage.params.append);
            assert_eq!(stage.params.save, Some("b.kv".as_ref()));
            // The context holds 64: 40 are there, 2 are new.
            assert_eq!(stage.params.tokens_max, 22);
            Ok(RunEnd::default())
        })
        .loaded();
    let kv = KvOrders {
        clear: true,
        load: Some("a.kv".into()),
        append: true,
        held_tokens: 40,
        save: Some("b.kv".into()),
    };
    server.generate(&Generate { kv, ..generate(1) });
    assert_eq!(server.hear_run(1), (vec![], End::Stop(stats(1, 0))));
    let notes = server.world.notes();
    let about: Vec<&str> = notes.iter().map(String::as_str).skip(1).collect();
    assert_eq!(about, ["clear", "load prompt a.kv", "run", "run returns"]);
    server.shut_down();
}

#[test]
fn orders_without_a_prompt_are_followed_and_no_more() {
    let mut server = Fake::of("1.3.0").says(&[5]).says(&[6]).kv_tokens(40).loaded();
    let kv = KvOrders { clear: true, load: Some("a.kv".into()), ..KvOrders::default() };
    server.generate(&Generate { kv, tokens: Vec::new(), ..generate(1) });
    let expected = Stats { kv_tokens: Some(40), ..stats(1, 0) };
    assert_eq!(server.hear_all_of_run(1), (vec![], End::Stop(expected)));
    server.generate(&generate(2));
    server.hear_run(2);
    assert_eq!(server.world.noted("release prompt"), 0, "the cache still holds it");
    let kv = KvOrders { clear: true, ..KvOrders::default() };
    server.generate(&Generate { kv, ..generate(3) });
    server.hear_run(3);
    assert_eq!(server.world.noted("release prompt"), 1);
    assert_eq!(server.world.noted("run"), 2);
    server.shut_down();
}

#[test]
fn a_cache_that_cannot_be_had_as_ordered_fails_the_run_before_it_begins() {
    let clear = KvOrders { clear: true, ..KvOrders::default() };
    let load = KvOrders { load: Some("a.kv".into()), ..KvOrders::default() };
    let append = KvOrders { append: true, ..clear.clone() };
    for kv in [KvOrders { clear: true, ..load.clone() }, load, append] {
        let mut server = Fake::of("1.3.0").refuses().loaded();
        server.generate(&Generate { kv, ..generate(1) });
        assert!(matches!(server.hear_run(1).1, End::Failed { .. }));
        assert_eq!(server.world.noted("run"), 0);
        server.shut_down();
    }
    // Where the runtime matches the prompt by itself nothing wrong can come of it.
    let mut server = Fake::of("1.3.0").refuses().says(&[5]).loaded();
    server.generate(&Generate { kv: clear, ..generate(1) });
    assert_eq!(server.hear_run(1), (vec![5], End::Stop(stats(1, 1))));
    server.shut_down();
}

fn embed(run: u64) -> ToWorker {
    ToWorker::Run(Order::Embed(Embed { run, tokens: vec![1, 2, 3], pooling: Pooling::Last }))
}

#[test]
fn a_text_is_read_into_one_vector_with_an_empty_cache_and_answers_follow() {
    for version in BOTH {
        // As the releases do: rows at once, or behind a call without any.
        let mut server =
            Fake::of(version).reads(Ok(vec![vec![1.0, 0.0, 3.0, 4.0]])).says(&[5]).loaded();
        server.say(&embed(1));
        let vector = vec![0.6, 0.8];
        assert_eq!(server.hear(), FromWorker::Embedding(Embedding { run: 1, vector }));
        assert_eq!(server.hear(), FromWorker::End(End::Stop(stats(1, 0))));
        assert_eq!(server.world.noted("clear"), 1);
        server.generate(&generate(2));
        assert_eq!(server.hear_run(2), (vec![5], End::Stop(stats(2, 1))));
        server.shut_down();
    }
}

fn score(run: u64) -> ToWorker {
    let (tokens, candidates) = (vec![1, 0, 1], vec![1, 0]);
    ToWorker::Run(Order::Score(Score { run, tokens, candidates, last: 1, top: 1 }))
}

#[test]
fn a_text_is_weighed_with_an_empty_cache_and_answers_follow() {
    for version in BOTH {
        let even = vec![0.0, 0.0];
        let rows = [even.clone(), even.clone(), even].concat();
        let mut server = Fake::of(version).reads(Ok(vec![rows])).says(&[5]).loaded();
        server.say(&score(1));
        let half = 0.5f32.ln();
        let FromWorker::Scores(Scores { run: 1, candidates, tokens }) = server.hear() else {
            panic!("no scores");
        };
        assert_eq!(candidates, [half, half]);
        assert_eq!(tokens.len(), 1);
        assert_eq!((tokens[0].logprob, &tokens[0].top), (half, &vec![(0, half)]));
        assert_eq!(server.hear(), FromWorker::End(End::Stop(stats(1, 0))));
        assert_eq!(server.world.noted("clear"), 1);
        server.generate(&generate(2));
        assert_eq!(server.hear_run(2), (vec![5], End::Stop(stats(2, 1))));
        server.shut_down();
    }
}

#[test]
fn a_text_without_logits_is_a_failure_that_says_so() {
    for (rows, reason) in [
        (Ok(vec![]), "no logits"),
        (Ok(vec![vec![0.0, 0.0]]), "1 rows of logits, and 2 are needed"),
        (Err(RunError::Reported), "reported an error"),
    ] {
        let mut server = Fake::of("1.2.3").reads(rows).loaded();
        server.say(&score(1));
        match server.hear() {
            FromWorker::End(End::Failed { run: 1, reason: said }) => {
                assert!(said.contains(reason), "{said}");
            }
            other => panic!("{other:?}"),
        }
        server.shut_down();
    }
}

#[test]
fn a_text_without_a_vector_is_a_failure_that_says_so() {
    for (rows, reason) in [
        (Ok(vec![]), "no hidden layer"),
        (Ok(vec![vec![0.0, 0.0]]), "no hidden layer"),
        (Err(RunError::Reported), "reported an error"),
    ] {
        let mut server = Fake::of("1.2.3").reads(rows).loaded();
        server.say(&embed(1));
        match server.hear() {
            FromWorker::End(End::Failed { run: 1, reason: said }) => {
                assert!(said.contains(reason), "{said}");
            }
            other => panic!("{other:?}"),
        }
        server.shut_down();
    }
}
