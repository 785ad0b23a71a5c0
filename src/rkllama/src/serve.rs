//! The `serve` role: puts the rooms together and keeps them until a signal.
//!
//! SIGHUP reads configuration, models and libraries again (`reload`). The end has three steps. New
//! requests are refused, `/ready` says no, and running answers get `limits.drain_ms`; then the
//! engine ends what still runs with an error event; then the workers free the NPU. A second signal
//! skips the first step.

use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use arc_swap::{ArcSwap, ArcSwapOption};
use rkllama_core::Engine;
use rkllama_engine::NpuEngine;
use rkllama_http::{BrowserRules, Browsers, Intake, Keys, Metrics};
use rkllama_models::{Defaults, Library, Store, TemplateCheck};
use rkllama_openapi::{Fallbacks, KeptResponses, Others};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use crate::{
    board::{
        Cpus,
        affinity::{self, Affinity},
        limits,
    },
    cli::ServeArgs,
    config::Config,
    engine_config::{engine_config, http_limits, kept_limits, worker_command},
    hub, keys, listen,
    log::Log,
    reload::{CurrentLibraries, Reload, preload_one_after_another, resolve_all},
    signals::{Signals, Wish},
};

/// Threads for requests. They parse, render and pass tokens on; the NPU is what is slow.
const REQUEST_THREADS: usize = 2;
/// Threads for what blocks: disks and tokenizers.
const BLOCKING_THREADS_MAX: usize = 16;
/// Time after which such a thread leaves if there is nothing to do. Longer than the time between two
/// looks at the folder would be for ever: those alone would keep several.
const BLOCKING_THREAD_REST: Duration = Duration::from_secs(1);
/// Time for the last error events to leave after the engine has stopped.
const FAREWELL: Duration = Duration::from_secs(2);
/// Time between two looks at the models' folder. What is put there can be used after it.
const RESCAN_EVERY: Duration = Duration::from_secs(2);

/// Runs the server until it is told to end.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let config = Config::gather(args)?;
    let log = Log::to_stderr(config.debug, config.log.format);
    raise_open_files();
    // Before there is a second thread: each begins with the mask of the one that starts it.
    let worker_cpus = if config.board.affinity { pin() } else { None };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(REQUEST_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(BLOCKING_THREAD_REST)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(serve(args.clone(), config, log, worker_cpus))
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

async fn serve(
    args: ServeArgs,
    config: Config,
    log: Log,
    worker_cpus: Option<Cpus>,
) -> anyhow::Result<()> {
    let signals = Signals::new()?;
    if !config.ollama_variables.is_empty() {
        let names = config.ollama_variables.join(", ");
        tracing::info!(
            names,
            "variables of Ollama's are heard, below what is said in our own words"
        );
    }
    let keys = Keys::new(keys::load(&config.auth)?);
    let may_be_open = config.auth.allow_anonymous || !keys.is_empty();
    let listeners = listen::bind(&config.listen, may_be_open).await?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let browsers = browsers(&config, &addresses)?;
    let models = Arc::new(Store::open(config.models.clone(), defaults(&config)));
    let libraries = Arc::new(CurrentLibraries::find(&config));
    let preload = resolve_all(&config.preload, &models)?;
    let worker = worker_command(worker_cpus.as_ref())?;
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
    let engine = NpuEngine::new(
        engine_config(&config, &preload, worker.clone()),
        models.clone(),
        libraries.clone(),
        metrics.clone(),
    );
    for problem in engine.problems() {
        tracing::warn!(subject = problem.subject, "{}", problem.detail);
    }
    rescan_in_background(models.clone());
    let fallback = Arc::new(Fallbacks {
        chat: ArcSwapOption::from_pointee(config.fallback.chat.clone()),
        embed: ArcSwapOption::from_pointee(config.fallback.embed.clone()),
        rerank: ArcSwapOption::from_pointee(config.fallback.rerank.clone()),
    });
    let sources = hub::sources(&config)?;
    let responses = KeptResponses::new(kept_limits(&config));
    let state = rkllama_openapi::State {
        engine: Arc::new(engine.clone()),
        texts: Arc::new(engine.clone()),
        models: models.clone(),
        metrics,
        fallback: fallback.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        keys: keys.clone(),
        browsers,
        responses: responses.clone(),
        strict_parameters: config.strict_parameters,
        empty_store_hint: Some(format!(
            "`rkllama pull {}` fetches one, or put a folder with a .rkllm file and its tokenizer into {}",
            sources.suggestion(),
            config.models.display()
        )),
    };
    let intake = Intake::new(http_limits(&config));
    let compat = rkllama_compat::State {
        engine: Arc::new(engine.clone()),
        texts: Arc::new(engine.clone()),
        models: models.clone(),
        store: Arc::new(Library::new(models.clone(), sources, template_check())),
        fallback: fallback.clone(),
        intake: intake.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        debug: config.debug,
    };
    let others =
        Others { operations: rkllama_compat::operations(compat), shapes: rkllama_compat::shapes() };
    let app = rkllama_openapi::app_with(state, intake.clone(), others);
    announce(&listeners)?;
    preload_one_after_another(engine.clone(), preload);

    let limits = intake.limits();
    let in_force = Arc::new(ArcSwap::from_pointee(config.clone()));
    let reload = Reload {
        args,
        at_start: config,
        in_force: in_force.clone(),
        worker,
        engine: engine.clone(),
        models,
        libraries,
        intake,
        fallback,
        keys,
        responses,
        addresses: addresses.into(),
        log,
    };
    let (draining, drain) = oneshot::channel();
    let ender = tokio::spawn(heed(signals, reload, in_force, draining, engine.clone()));
    let stop = async move { drain.await.unwrap_or_default() + FAREWELL };
    let cut = rkllama_http::serve(listeners, app, &limits, stop).await;
    if cut > 0 {
        tracing::warn!(connections = cut, "cut off at the end of the drain");
    }
    // Without anything to drain this comes before `heed` gets to it.
    engine.shut_down().await;
    ender.abort();
    tracing::info!("stopped");
    Ok(())
}

/// What applies where a model's files say nothing.
pub(crate) const fn defaults(config: &Config) -> Defaults {
    Defaults { context_tokens_max: config.context_tokens_max }
}

/// Which pages may ask. By which name a server is called matters only where nobody else can reach it:
/// that is where a page that renames itself would get in.
fn browsers(config: &Config, addresses: &[SocketAddr]) -> anyhow::Result<Browsers> {
    let is_local = addresses.iter().all(|address| address.ip().is_loopback());
    let node = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let names = config.browsers.hosts.iter().map(|name| name.to_ascii_lowercase());
    let rules = BrowserRules {
        origins: config.browsers.origins.clone(),
        extensions: config.browsers.extensions,
        hosts: is_local.then(|| names.chain([node]).collect()),
    };
    Browsers::new(rules).context("`browsers.origins`")
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

/// One line for each address on standard output, for people and for programs that start this one.
fn announce(listeners: &[TcpListener]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for listener in listeners {
        writeln!(out, "rkllama: listening on http://{}", listener.local_addr()?)?;
    }
    out.flush()?;
    Ok(())
}

/// Reloads until it is told to end; then waits for the drain or another signal and stops the engine,
/// which gives every stream that still runs its error event.
async fn heed(
    mut signals: Signals,
    reload: Reload,
    in_force: Arc<ArcSwap<Config>>,
    draining: oneshot::Sender<Duration>,
    engine: NpuEngine,
) {
    // Not here: a disk that hangs must not keep the server from ending.
    let (wishes, wish) = watch::channel(());
    let reloader = tokio::spawn(reload_on(wish, reload));
    while signals.next().await == Wish::Reload {
        wishes.send_replace(());
    }
    reloader.abort();
    let drain = in_force.load().limits.drain();
    tracing::info!(drain_ms = drain.as_millis(), "stopping");
    engine.drain();
    // The other side waits for nothing else.
    let _ = draining.send(drain);
    tokio::select! {
        () = tokio::time::sleep(drain) => {}
        () = signals.end() => tracing::info!("stopping at once"),
    }
    engine.shut_down().await;
}

/// One reload after the other; wishes that come during one are one more.
async fn reload_on(mut wish: watch::Receiver<()>, reload: Reload) {
    while wish.changed().await.is_ok() {
        reload.run().await;
    }
}

/// What templates of new models must stand, in either language.
fn template_check() -> TemplateCheck {
    Box::new(|template| {
        rkllama_compat::ollama::check_template(rkllama_engine::check_template, template)
    })
}
