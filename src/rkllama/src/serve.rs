//! The `serve` role: puts the rooms together and keeps them until a signal.
//!
//! The end has three steps. New connections are refused and running answers get `limits.drain_ms`;
//! then the engine ends what still runs with an error event; then the workers free the NPU. A
//! second signal skips the first step.

use std::{
    io::{IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use rkllama_core::{Engine, KeepAlive, Model, Models};
use rkllama_engine::NpuEngine;
use rkllama_http::Keys;
use rkllama_models::{Defaults, Store};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing_subscriber::EnvFilter;

use crate::{
    board::{
        Cpus,
        affinity::{self, Affinity},
        limits,
    },
    cli::ServeArgs,
    config::Config,
    engine_config::engine_config,
    keys, listen,
    runtimes::Libraries,
};

/// Threads for requests. They parse, render and pass tokens on; the NPU is what is slow.
const REQUEST_THREADS: usize = 2;
/// Threads for what blocks: disks and tokenizers.
const BLOCKING_THREADS_MAX: usize = 16;
/// Time for the last error events to leave after the engine has stopped.
const FAREWELL: Duration = Duration::from_secs(2);
/// Time between two looks at the models' folder. What is put there can be used after it.
const RESCAN_EVERY: Duration = Duration::from_secs(2);

/// Runs the server until it is told to end.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let config = Config::gather(args)?;
    log_to_stderr(config.debug);
    raise_open_files();
    // Before there is a second thread: each begins with the mask of the one that starts it.
    let worker_cpus = if config.board.affinity { pin() } else { None };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(REQUEST_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(serve(config, worker_cpus))
}

fn raise_open_files() {
    match limits::raise_nofile() {
        Ok(limit) => tracing::info!(soft = limit.soft, hard = limit.hard, "open files"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}

/// Puts this thread where the server belongs; where its workers belong.
fn pin() -> Option<Cpus> {
    let Affinity { server, workers } = affinity::here()?;
    match server.pin() {
        Ok(()) => tracing::info!(%server, %workers, "little cores serve, big cores drive the NPU"),
        Err(error) => tracing::warn!(%error, %server, "cannot keep to the little cores"),
    }
    Some(workers)
}

fn log_to_stderr(debug: bool) {
    let level = if debug { "debug,hyper=info" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // Otherwise it complains of a lost standard error on standard error, and panics.
        .log_internal_errors(false)
        .init();
}

async fn serve(config: Config, worker_cpus: Option<Cpus>) -> anyhow::Result<()> {
    let signals = Signals::new()?;
    let keys = Keys::new(keys::load(&config.auth)?);
    let may_be_open = config.auth.allow_anonymous || !keys.is_empty();
    let listeners = listen::bind(&config.listen, may_be_open).await?;
    let models = Arc::new(Store::open(config.models.clone(), Defaults::default()));
    let libraries = Arc::new(Libraries::find(&config.runtime));
    let preload = resolve_all(&config.preload, &models)?;
    let engine_config = engine_config(&config, &preload, worker_cpus.as_ref())?;
    let engine = NpuEngine::new(engine_config, models.clone(), libraries);
    for problem in engine.problems() {
        tracing::warn!(subject = problem.subject, "{}", problem.detail);
    }
    rescan_in_background(models.clone());
    let state = rkllama_openapi::State {
        engine: Arc::new(engine.clone()),
        models,
        fallback: config.fallback.chat.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        keys,
        strict_parameters: false,
        empty_store_hint: Some(format!(
            "put a folder with a .rkllm file and its tokenizer into {}",
            config.models.display()
        )),
    };
    let limits = rkllama_http::Limits {
        body_bytes_max: config.limits.body_bytes_max,
        heartbeat: config.limits.heartbeat(),
        ..rkllama_http::Limits::default()
    };
    let app = rkllama_openapi::app(state, limits.clone());
    announce(&listeners)?;
    preload_one_after_another(engine.clone(), preload);

    let drain = config.limits.drain();
    let (stages, stage) = watch::channel(Stage::Serving);
    let ender = tokio::spawn(end(signals, stages, drain, engine.clone()));
    let stop = reached(stage, Stage::Draining);
    let cut = rkllama_http::serve(listeners, app, &limits, stop, drain + FAREWELL).await;
    if cut > 0 {
        tracing::warn!(connections = cut, "cut off at the end of the drain");
    }
    // Without anything to drain this comes before `end` gets to it.
    engine.shut_down().await;
    ender.abort();
    tracing::info!("stopped");
    Ok(())
}

/// The models that were named in the configuration; a name that is none is a mistake to know at
/// start.
fn resolve_all(names: &[String], models: &Store) -> anyhow::Result<Vec<Arc<Model>>> {
    names.iter().map(|name| models.resolve(name).context("`preload`")).collect()
}

/// Keeps the list of models true to their folder.
fn rescan_in_background(models: Arc<Store>) {
    tokio::spawn(async move {
        let mut ticks = interval(RESCAN_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let models = Arc::clone(&models);
            if spawn_blocking(move || models.rescan()).await.is_err() {
                tracing::error!("looking for models failed; the list stays as it is");
                return;
            }
        }
    });
}

/// Loads models in the background. A failure is logged where it happens and on `/health`.
fn preload_one_after_another(engine: NpuEngine, models: Vec<Arc<Model>>) {
    tokio::spawn(async move {
        for model in models {
            if let Err(error) = engine.load(&model, Some(KeepAlive::Forever)).await {
                tracing::warn!(model = model.id, %error, "not preloaded");
            }
        }
    });
}

/// One line for each address on standard output, for people and for programs that start this one.
fn announce(listeners: &[TcpListener]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for listener in listeners {
        writeln!(out, "rkllama: listening on http://{}", listener.local_addr()?)?;
    }
    out.flush()?;
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    Draining,
}

async fn reached(mut stage: watch::Receiver<Stage>, wanted: Stage) {
    // The sender is gone only when the end has been reached.
    let _ = stage.wait_for(|stage| *stage >= wanted).await;
}

/// Waits for a signal, then for the drain or another signal, then stops the engine, which gives
/// every stream that still runs its error event.
async fn end(
    mut signals: Signals,
    stages: watch::Sender<Stage>,
    drain: Duration,
    engine: NpuEngine,
) {
    signals.next().await;
    tracing::info!(drain_ms = drain.as_millis(), "stopping");
    stages.send_replace(Stage::Draining);
    tokio::select! {
        () = tokio::time::sleep(drain) => {}
        () = signals.next() => tracing::info!("stopping at once"),
    }
    engine.shut_down().await;
}

/// The two signals that mean "end".
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
