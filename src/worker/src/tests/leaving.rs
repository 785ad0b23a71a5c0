//! How the worker leaves, and that it always does.

use std::{
    io::Read,
    net::Shutdown,
    thread,
    time::{Duration, Instant},
};

use rkllama_npu::RunEnd;
use rkllama_protocol::{End, FromWorker, ToWorker, VERSION};

use super::fake::{Fake, generate, load};
use crate::{EXIT_ASKED, EXIT_INTERNAL, serve::Leave};

/// More than the worker may take for leaving, and less than for ever.
const LEAVE_MAX: Duration = Duration::from_secs(8);

/// As long as any test runs.
fn for_ever() {
    thread::sleep(Duration::from_secs(3600));
}

#[test]
fn shutdown_of_an_idle_worker_frees_the_model() {
    let mut server = Fake::of("1.2.3").loaded();
    server.say(&ToWorker::Shutdown);
    assert!(server.hears_the_end());
    assert_eq!(server.leave(), Leave::With(EXIT_ASKED));
    assert_eq!(server.world.noted("freed"), 1);
}

#[test]
fn shutdown_during_a_run_aborts_it_first() {
    let mut server = Fake::of("1.3.0")
        .run(|stage| {
            stage.wait_for_abort();
            Ok(RunEnd::default())
        })
        .loaded();
    server.generate(&generate(1));
    server.world.wait_for("run");
    server.say(&ToWorker::Shutdown);
    let (_, end) = server.hear_run(1);
    assert!(matches!(end, End::Aborted(_)), "{end:?}");
    assert!(server.hears_the_end());
    assert_eq!(server.leave(), Leave::With(EXIT_ASKED));
    assert_eq!(server.world.notes(), ["load a.rkllm", "run", "abort", "run returns", "freed"]);
}

#[test]
fn the_end_of_the_socket_aborts_the_run_and_frees_the_model() {
    let mut server = Fake::of("1.2.3")
        .run(|stage| {
            stage.wait_for_abort();
            Ok(RunEnd::default())
        })
        .loaded();
    server.generate(&generate(1));
    server.world.wait_for("run");
    server.socket.shutdown(Shutdown::Both).unwrap();
    assert_eq!(server.leave(), Leave::With(EXIT_ASKED));
    assert_eq!(server.world.noted("freed"), 1);
}

#[test]
fn a_server_that_dies_while_tokens_flow_ends_the_worker() {
    for _ in 0..10 {
        let mut server = Fake::of("1.2.3").goes_on().loaded();
        server.generate(&generate(1));
        assert!(matches!(server.hear(), FromWorker::Piece(_)));
        let (world, leave) = server.die();
        assert_eq!(leave, Leave::With(EXIT_ASKED));
        assert_eq!(world.noted("freed"), 1);
    }
}

#[test]
fn the_end_of_the_socket_before_anything_ends_the_worker() {
    let server = Fake::of("1.2.3").start();
    server.socket.shutdown(Shutdown::Both).unwrap();
    assert_eq!(server.leave(), Leave::With(EXIT_ASKED));
}

/// The worker that is asked to leave in the given state must give up on its runtime, and in time.
fn gives_up(server: &mut super::fake::Server) {
    let asked = Instant::now();
    server.say(&ToWorker::Shutdown);
    assert_eq!(server.leave(), Leave::Hung);
    let took = asked.elapsed();
    assert!(took < LEAVE_MAX, "left after {took:?}");
}

#[test]
fn a_run_that_does_not_return_is_left() {
    let mut server = Fake::of("1.2.3")
        .run(|_| {
            for_ever();
            Ok(RunEnd::default())
        })
        .loaded();
    server.generate(&generate(1));
    server.world.wait_for("run");
    gives_up(&mut server);
}

#[test]
fn an_abort_that_does_not_return_is_left() {
    let mut server = Fake::of("1.2.3")
        .run(|stage| {
            stage.piece(5, "a");
            stage.wait_for_abort();
            Ok(RunEnd::default())
        })
        .on_abort(|_| {
            for_ever();
            false
        })
        .loaded();
    server.generate(&generate(1));
    assert!(matches!(server.hear(), FromWorker::Piece(_)));
    server.say(&ToWorker::Abort(1));
    server.world.wait_for("abort");
    gives_up(&mut server);
}

#[test]
fn a_model_that_cannot_be_freed_is_left() {
    let mut server = Fake::of("1.2.3").on_free(for_ever).loaded();
    gives_up(&mut server);
}

#[test]
fn a_load_that_does_not_return_is_left() {
    let mut server = Fake::of("1.2.3")
        .load(|| {
            for_ever();
            Ok(())
        })
        .start();
    server.say(&ToWorker::Hello(VERSION));
    assert_eq!(server.hear(), FromWorker::Hello(VERSION));
    server.say(&ToWorker::Load(load()));
    server.world.wait_for("load a.rkllm");
    gives_up(&mut server);
}

#[test]
fn a_server_that_no_longer_reads_does_not_hold_the_worker() {
    let mut server = Fake::of("1.3.0")
        .run(|stage| {
            // More than the socket's buffers hold.
            stage.piece(7, &"x".repeat(8 << 20));
            Ok(RunEnd::default())
        })
        .loaded();
    server.generate(&generate(1));
    // Once a frame has begun to arrive, its writer cannot return.
    server.socket.read_exact(&mut [0]).unwrap();
    gives_up(&mut server);
}

#[test]
fn a_panic_in_the_run_thread_ends_the_worker() {
    let mut server = Fake::of("1.2.3").run(|_| panic!("a fault of ours")).loaded();
    server.generate(&generate(1));
    assert_eq!(server.leave(), Leave::With(EXIT_INTERNAL));
    assert_eq!(server.world.noted("freed"), 1);
}
