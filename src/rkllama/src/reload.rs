//! A reload: configuration, models and libraries are read again while everything runs.
//!
//! Nothing is stopped for it. What runs goes on under the limits with which it began; what cannot
//! change while the server runs is named in the log. A configuration that cannot be read, that names
//! a model that is not there, or that would let in the whole network changes nothing.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use arc_swap::ArcSwap;
use rkllama_core::{Engine, EngineError, Model, Models, Problem};
use rkllama_engine::{Learned, NpuEngine, RuntimeChoice, Runtimes, WorkerCommand};
use rkllama_http::{ApiKey, Intake, Keys};
use rkllama_models::Store;
use rkllama_openapi::{Fallbacks, KeptResponses};
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::{
    cli::ServeArgs,
    config::Config,
    engine_config::{engine_config, http_limits, kept_limits},
    keys, listen,
    log::Log,
    runtimes::Libraries,
};

/// What counts from the start on: sockets are bound, folders are watched, threads have their cores.
/// A section stands for all that is in it.
const FIXED: [&str; 10] = [
    "context_tokens_max",
    "listen",
    "models",
    "state",
    "strict_parameters",
    "saved_prompts",
    "board.affinity",
    "browsers",
    "hub",
    "log",
];

/// Everything that a reload reaches.
pub(crate) struct Reload {
    pub(crate) args: ServeArgs,
    /// The configuration with which the server was started.
    pub(crate) at_start: Config,
    pub(crate) in_force: Arc<ArcSwap<Config>>,
    pub(crate) worker: WorkerCommand,
    pub(crate) engine: NpuEngine,
    pub(crate) models: Arc<Store>,
    pub(crate) libraries: Arc<CurrentLibraries>,
    pub(crate) intake: Intake,
    pub(crate) fallback: Arc<Fallbacks>,
    pub(crate) keys: Keys,
    pub(crate) responses: KeptResponses,
    /// Where the server listens, which decides whether it may do without keys.
    pub(crate) addresses: Arc<[SocketAddr]>,
    pub(crate) log: Log,
}

/// What a reload has read and found to be good.
struct Read {
    config: Config,
    preload: Vec<Arc<Model>>,
    keys: Vec<ApiKey>,
}

impl Reload {
    /// Reads everything again. What is wrong stands in the log.
    pub(crate) async fn run(&self) {
        tracing::info!("reloading");
        let read = self.read().await;
        let config = match &read {
            Ok(read) => read.config.clone(),
            Err(_) => Config::clone(&self.in_force.load()),
        };
        self.libraries.find_again(config).await;
        match read {
            Ok(read) => self.put_in_force(read),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "not reloaded: the configuration stays as it was");
            }
        }
        for problem in self.engine.problems() {
            tracing::warn!(subject = problem.subject, "{}", problem.detail);
        }
    }

    /// The models of the folder, then the configuration, which may name new ones.
    async fn read(&self) -> anyhow::Result<Read> {
        let (args, models) = (self.args.clone(), Arc::clone(&self.models));
        let addresses = Arc::clone(&self.addresses);
        let read = spawn_blocking(move || {
            models.rescan();
            let config = Config::gather(&args)?;
            let preload = resolve_all(&config.preload, &models)?;
            let keys = keys::load(&config.auth)?;
            let may_be_open = config.auth.allow_anonymous || !keys.is_empty();
            addresses.iter().try_for_each(|address| listen::permit(*address, may_be_open))?;
            Ok(Read { config, preload, keys })
        });
        read.await.context("reading failed")?
    }

    fn put_in_force(&self, Read { config, preload, keys }: Read) {
        let before = self.in_force.load_full();
        let changed = changes(&before, &config).join(", ");
        let fixed: Vec<String> =
            changes(&self.at_start, &config).into_iter().filter(|key| is_fixed(key)).collect();
        if !fixed.is_empty() {
            tracing::warn!(keys = fixed.join(", "), "these count after a restart only");
        }
        if before.debug != config.debug {
            self.log.set_debug(config.debug);
        }
        self.engine.reconfigure(engine_config(&config, &preload, self.worker.clone()));
        self.intake.replace(http_limits(&config));
        self.keys.replace(keys);
        self.responses.limit(kept_limits(&config));
        self.fallback.chat.store(config.fallback.chat.clone().map(Arc::new));
        self.fallback.embed.store(config.fallback.embed.clone().map(Arc::new));
        self.fallback.rerank.store(config.fallback.rerank.clone().map(Arc::new));
        self.in_force.store(Arc::new(config));
        tracing::info!(changed, "reloaded");
        let residents = self.engine.residents();
        let is_there = |model: &Arc<Model>| residents.iter().any(|there| there.model == model.id);
        let missing = preload.into_iter().filter(|model| !is_there(model)).collect();
        preload_one_after_another(self.engine.clone(), missing);
    }
}

fn is_fixed(key: &str) -> bool {
    let below = |fixed: &str| key.strip_prefix(fixed).is_some_and(|rest| rest.starts_with('.'));
    FIXED.iter().any(|fixed| key == *fixed || below(fixed))
}

/// The models that were named in the configuration; a name that is none is a mistake to know at
/// once.
pub(crate) fn resolve_all(names: &[String], models: &Store) -> anyhow::Result<Vec<Arc<Model>>> {
    names.iter().map(|name| models.resolve(name).context("`preload`")).collect()
}

/// Loads models in the background. A failure is logged where it happens and on `/health`.
pub(crate) fn preload_one_after_another(engine: NpuEngine, models: Vec<Arc<Model>>) {
    tokio::spawn(async move {
        for model in models {
            // It is pinned as long as the configuration names it.
            if let Err(error) = engine.preload(&model).await {
                tracing::warn!(model = model.id, %error, "not preloaded");
            }
        }
    });
}

/// The vendor libraries as they were found the last time.
pub(crate) struct CurrentLibraries(ArcSwap<Libraries>);

impl CurrentLibraries {
    /// Looks for them.
    pub(crate) fn find(config: &Config) -> Self {
        Self(ArcSwap::from_pointee(Libraries::of(config)))
    }

    async fn find_again(self: &Arc<Self>, config: Config) {
        match spawn_blocking(move || Libraries::of(&config)).await {
            Ok(libraries) => self.0.store(Arc::new(libraries)),
            Err(error) => tracing::error!(%error, "looking for runtimes failed"),
        }
    }
}

impl Runtimes for CurrentLibraries {
    fn choose(&self, model: &Model) -> Result<Vec<RuntimeChoice>, EngineError> {
        self.0.load().choose(model)
    }

    fn learned(&self, model: &Model, learned: &Learned) {
        self.0.load().learned(model, learned);
    }

    fn problems(&self) -> Vec<Problem> {
        self.0.load().problems()
    }
}

/// The keys whose values differ, sorted.
fn changes(before: &Config, after: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    compare("", &json(before), &json(after), &mut keys);
    keys.sort_unstable();
    keys
}

fn compare(prefix: &str, before: &Value, after: &Value, keys: &mut Vec<String>) {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        if before != after {
            keys.push(prefix.to_owned());
        }
        return;
    };
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let value = |of: &serde_json::Map<String, Value>| of.get(key).cloned().unwrap_or_default();
        compare(&path, &value(old), &value(new), keys);
    }
}

fn json(config: &Config) -> Value {
    // It is written by the layer of defaults on every start.
    serde_json::to_value(config).expect("a configuration can be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_keys_are_named_with_their_section() {
        let before = Config::of_flags(&ServeArgs::default());
        assert_eq!(changes(&before, &before), [""; 0]);
        let mut after = before.clone();
        after.memory.max_mb = Some(1);
        after.fallback.chat = Some("x".to_owned());
        after.listen = Vec::new();
        assert_eq!(changes(&before, &after), ["fallback.chat", "listen", "memory.max_mb"]);
    }

    #[test]
    fn what_is_fixed_exists_and_counts_with_all_that_is_in_it() {
        assert!(is_fixed("saved_prompts.max_mb") && !is_fixed("models_max"));
        let config = json(&Config::of_flags(&ServeArgs::default()));
        for key in FIXED {
            let pointer = format!("/{}", key.replace('.', "/"));
            assert!(config.pointer(&pointer).is_some() && is_fixed(key), "{key}");
        }
    }
}
