//! Configuration: built-in defaults < file < environment < flags. An unknown key is an error that
//! names the key and where it came from.

use std::{
    env,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use rkllama_core::KeepAlive;
use rkllama_engine::Pictures;
use rkllama_models::Defaults;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    cli::ServeArgs, keys::KeyLine, ollama_env::OllamaVariables, runtime_profiles::RuntimeProfiles,
};

/// Where a package puts its configuration.
const SYSTEM_FILE: &str = "/etc/rkllama/config.toml";
/// The smallest and the largest context that a runtime takes.
pub(crate) const CONTEXT_TOKENS_MIN: u32 = 32;
pub(crate) const CONTEXT_TOKENS_MAX: u32 = 16_384;
/// Read by the commands that talk to a server, not by the server.
const CLIENT_VARIABLES: [&str; 2] = ["API_KEY", "HOST"];

/// Everything `serve` can be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Addresses to listen on, `host:port`.
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) listen: Vec<String>,
    /// Folder with one folder per model.
    pub(crate) models: PathBuf,
    /// Vendor libraries, or folders of them; empty means the usual places.
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) runtime: Vec<PathBuf>,
    /// Folder for what is learned of this machine and worth keeping.
    pub(crate) state: PathBuf,
    /// Log everything below info too.
    pub(crate) debug: bool,
    /// Refuse what a request asks for in vain, instead of naming it in the answer.
    pub(crate) strict_parameters: bool,
    /// Load a model again for a request whose sampling an older runtime fixes at load.
    pub(crate) reload_for_sampling: bool,
    /// How long a model stays loaded after its last use: seconds, or a text such as `5m`; negative
    /// means for ever.
    #[serde(deserialize_with = "keep_alive", serialize_with = "seconds")]
    pub(crate) keep_alive: KeepAlive,
    /// Tokens of the context of models whose own files do not say: 32 to 16384.
    #[serde(deserialize_with = "context_tokens")]
    pub(crate) context_tokens_max: u32,
    /// Models that are loaded at start and stay.
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) preload: Vec<String>,
    pub(crate) fallback: Fallback,
    pub(crate) auth: Auth,
    pub(crate) browsers: BrowsersConfig,
    pub(crate) memory: Memory,
    pub(crate) limits: Limits,
    pub(crate) saved_prompts: SavedPrompts,
    pub(crate) kept_responses: KeptResponses,
    pub(crate) images: Images,
    pub(crate) board: Board,
    pub(crate) log: LogSection,
    pub(crate) hub: HubSection,
    /// What the built-in profiles of runtime releases cannot know.
    pub(crate) runtime_profiles: RuntimeProfiles,
    /// The variables of Ollama's that were heard.
    #[serde(skip)]
    pub(crate) ollama_variables: Vec<&'static str>,
}

/// What loaded models may take together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Memory {
    /// Megabytes for all models; absent means four fifths of this machine's memory.
    pub(crate) max_mb: Option<u64>,
    /// Megabytes planned into one of the NPU's address domains of 4 GiB.
    pub(crate) domain_max_mb: u64,
    /// Models loaded at once.
    pub(crate) models_max: NonZeroUsize,
}

impl Default for Memory {
    fn default() -> Self {
        Self { max_mb: None, domain_max_mb: 3221, models_max: NonZeroUsize::MIN.saturating_add(15) }
    }
}

/// Models that answer for unknown names, for clients with a name baked in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fallback {
    /// For chat.
    pub(crate) chat: Option<String>,
    /// For embeddings.
    pub(crate) embed: Option<String>,
    /// For reranking.
    pub(crate) rerank: Option<String>,
}

/// Who may ask.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Auth {
    /// Whether to listen beyond this machine without keys, although everybody there could use the
    /// NPU.
    pub(crate) allow_anonymous: bool,
    /// Keys that let clients in, `name:secret`.
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) keys: Vec<KeyLine>,
    /// A file with more keys and their limits.
    pub(crate) keys_file: Option<PathBuf>,
}

/// Which web pages may ask, and by which names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BrowsersConfig {
    /// Origins beside those of this machine, each with at most one `*`; `*` alone lets in all.
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) origins: Vec<String>,
    /// Whether extensions of browsers may ask.
    pub(crate) extensions: bool,
    /// Names of this machine, for a server that listens on it alone: others are refused there.
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) hosts: Vec<String>,
}

impl Default for BrowsersConfig {
    fn default() -> Self {
        Self { origins: Vec::new(), extensions: true, hosts: Vec::new() }
    }
}

/// Beginnings of prompts that are kept on disk, as the runtime has computed them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SavedPrompts {
    /// Megabytes for all of them; 0 keeps none.
    pub(crate) max_mb: u64,
    /// Tokens from which a beginning is worth a file.
    pub(crate) tokens_min: NonZeroUsize,
    /// Days after which a file that nobody used is removed.
    pub(crate) days_max: u32,
}

impl Default for SavedPrompts {
    fn default() -> Self {
        let tokens_min = NonZeroUsize::MIN.saturating_add(255);
        Self { max_mb: 1024, tokens_min, days_max: 30 }
    }
}

/// Responses of `/v1/responses` that clients can go on from and read again. In memory only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KeptResponses {
    /// Megabytes for all of them; 0 keeps none.
    pub(crate) max_mb: u64,
    /// How many of them.
    pub(crate) count_max: usize,
}

impl Default for KeptResponses {
    fn default() -> Self {
        Self { max_mb: 32, count_max: 1024 }
    }
}

/// Images in questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Images {
    /// Whether images may be given as `http` and `https` addresses, which this server then asks for:
    /// of public addresses only.
    pub(crate) allow_urls: bool,
    /// Largest image, in bytes.
    pub(crate) bytes_max: usize,
    /// Largest image, in pixels.
    pub(crate) pixels_max: u64,
    /// Time to fetch an image from its address, in seconds.
    pub(crate) timeout_s: u64,
    /// Time the encoder may take for an image, in seconds: the slowest that is published takes 12.
    pub(crate) encode_timeout_s: u64,
    /// Redirects that an address may have.
    pub(crate) redirects_max: usize,
    /// Images that are fetched at once, those of all requests together: each may take `bytes_max` of
    /// memory, and its server's time.
    pub(crate) fetches_max: NonZeroUsize,
}

impl Default for Images {
    fn default() -> Self {
        let Pictures { bytes_max, pixels_max, .. } = Pictures::default();
        Self {
            allow_urls: false,
            bytes_max,
            pixels_max,
            timeout_s: 20,
            encode_timeout_s: 60,
            redirects_max: 3,
            fetches_max: NonZeroUsize::MIN.saturating_add(7),
        }
    }
}

/// How the board is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Board {
    /// Whether the server keeps to the little cores and its workers to the big ones, where a board
    /// has both.
    pub(crate) affinity: bool,
}

impl Default for Board {
    fn default() -> Self {
        Self { affinity: true }
    }
}

/// How the log is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSection {
    /// What its lines are.
    pub(crate) format: LogFormat,
}

/// What a line of the log is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Words for people.
    #[default]
    Text,
    /// An object, for programs.
    Json,
}

/// Where models are fetched from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HubSection {
    /// The hub or a mirror of it; absent means `HF_ENDPOINT`, else huggingface.co.
    pub(crate) endpoint: Option<String>,
    /// Never ask it; absent means what `HF_HUB_OFFLINE` says.
    pub(crate) offline: Option<bool>,
    /// The chip that models are for, such as `rk3588`; absent means this machine's.
    pub(crate) chip: Option<String>,
    /// A file with more short names, in the form of the built-in list.
    pub(crate) catalog: Option<PathBuf>,
}

/// The limits an operator may want to move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Largest request body, in bytes.
    pub(crate) body_bytes_max: usize,
    /// Requests that may wait for one model.
    pub(crate) queue_len_max: NonZeroUsize,
    /// Requests that may wait for all models together.
    pub(crate) queue_len_total_max: NonZeroUsize,
    /// Time a request may wait for its turn, in milliseconds.
    pub(crate) queue_timeout_ms: u64,
    /// Time a model has to load, in milliseconds.
    pub(crate) load_timeout_ms: u64,
    /// Time a run may go without a token, in milliseconds; prefill gets more by its length.
    pub(crate) stall_timeout_ms: u64,
    /// Time a run has to obey an abort before its worker is killed, in milliseconds.
    pub(crate) abort_timeout_ms: u64,
    /// Tokens of pure repetition after which an answer without a limit of its own ends; 0 for never.
    pub(crate) repetition_tokens_max: u32,
    /// Tokens of prompt and answer together of which probabilities are told.
    pub(crate) logprobs_tokens_max: u32,
    /// Time between two signs of life on a stream that waits, in milliseconds.
    pub(crate) heartbeat_ms: u64,
    /// Time that running answers get at shutdown, in milliseconds.
    pub(crate) drain_ms: u64,
}

impl Limits {
    pub(crate) const fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    pub(crate) const fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 32 << 20,
            queue_len_max: NonZeroUsize::MIN.saturating_add(7),
            queue_len_total_max: NonZeroUsize::MIN.saturating_add(63),
            queue_timeout_ms: 600_000,
            load_timeout_ms: 300_000,
            stall_timeout_ms: 60_000,
            abort_timeout_ms: 10_000,
            repetition_tokens_max: 1024,
            logprobs_tokens_max: 2048,
            heartbeat_ms: 3000,
            drain_ms: 10_000,
        }
    }
}

impl Config {
    /// The built-in defaults on this machine.
    fn built_in() -> Self {
        Self {
            listen: vec!["127.0.0.1:8080".to_owned()],
            models: data_home().join("rkllama/models"),
            runtime: Vec::new(),
            state: state_home().join("rkllama"),
            debug: false,
            strict_parameters: false,
            reload_for_sampling: false,
            keep_alive: KeepAlive::For(Duration::from_secs(300)),
            context_tokens_max: Defaults::default().context_tokens_max,
            preload: Vec::new(),
            fallback: Fallback::default(),
            auth: Auth::default(),
            browsers: BrowsersConfig::default(),
            memory: Memory::default(),
            limits: Limits::default(),
            saved_prompts: SavedPrompts::default(),
            kept_responses: KeptResponses::default(),
            images: Images::default(),
            board: Board::default(),
            log: LogSection::default(),
            hub: HubSection::default(),
            runtime_profiles: RuntimeProfiles::default(),
            ollama_variables: Vec::new(),
        }
    }

    /// What is left when file or environment are wrong: the defaults and the flags.
    pub(crate) fn of_flags(args: &ServeArgs) -> Self {
        let defaults = Self::built_in();
        Self {
            models: args.models.clone().unwrap_or(defaults.models),
            runtime: args.runtime.clone(),
            debug: args.debug,
            ..Self::built_in()
        }
    }

    /// All sources together.
    pub(crate) fn gather(args: &ServeArgs) -> anyhow::Result<Self> {
        let mut figment = Figment::from(Serialized::defaults(Self::built_in()));
        let ollama = OllamaVariables::read(args.ollama_env);
        figment = ollama.merge_into(figment);
        if let Some(file) = file(args.config.as_deref())? {
            figment = figment.merge(Toml::file_exact(file));
        }
        figment = figment.merge(Env::prefixed("RKLLAMA_").ignore(&CLIENT_VARIABLES).split("__"));
        let mut config = merge_flags(figment, args).extract::<Self>().map_err(explain)?;
        config.ollama_variables = ollama.names();
        if config.listen.is_empty() {
            bail!("`listen` names no address");
        }
        Ok(config)
    }
}

fn merge_flags(mut figment: Figment, args: &ServeArgs) -> Figment {
    if !args.listen.is_empty() {
        figment = figment.merge(Serialized::global("listen", &args.listen));
    }
    if let Some(models) = &args.models {
        figment = figment.merge(Serialized::global("models", models));
    }
    if !args.runtime.is_empty() {
        figment = figment.merge(Serialized::global("runtime", &args.runtime));
    }
    if args.debug {
        figment = figment.merge(Serialized::global("debug", true));
    }
    figment
}

/// The file to read: the one that was named, which must exist, else the first usual one that does.
pub(crate) fn file(named: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    if let Some(file) = named {
        // Opened here because a missing file is silently nothing to the reader.
        std::fs::File::open(file).with_context(|| format!("--config {}", file.display()))?;
        return Ok(Some(file.to_owned()));
    }
    let usual = [config_home().join("rkllama/config.toml"), PathBuf::from(SYSTEM_FILE)];
    Ok(usual.into_iter().find(|file| file.is_file()))
}

/// One line per fault, naming the key and the source.
fn explain(error: figment::Error) -> anyhow::Error {
    let lines: Vec<String> = error
        .into_iter()
        .map(|fault| {
            let key = fault.path.join(".");
            let source =
                fault.metadata.as_ref().map_or_else(String::new, |metadata| {
                    match metadata.source.as_ref() {
                        Some(source) => format!(" in {source}"),
                        None => format!(" in {}", metadata.name),
                    }
                });
            if key.is_empty() {
                format!("{}{source}", fault.kind)
            } else {
                format!("`{key}`{source}: {}", fault.kind)
            }
        })
        .collect();
    anyhow::anyhow!("configuration: {}", lines.join("; "))
}

/// Where this user's programs keep their data.
pub(crate) fn data_home() -> PathBuf {
    xdg("XDG_DATA_HOME", ".local/share")
}

/// Where this user's programs keep what they have learned.
pub(crate) fn state_home() -> PathBuf {
    xdg("XDG_STATE_HOME", ".local/state")
}

fn config_home() -> PathBuf {
    xdg("XDG_CONFIG_HOME", ".config")
}

/// A base directory of the XDG specification, which says to ignore relative ones.
fn xdg(variable: &str, below_home: &str) -> PathBuf {
    match env::var_os(variable).map(PathBuf::from) {
        Some(dir) if dir.is_absolute() => dir,
        _ => env::home_dir().unwrap_or_else(|| PathBuf::from("/")).join(below_home),
    }
}

/// What a runtime takes as a context.
fn context_tokens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let tokens = u32::deserialize(deserializer)?;
    if (CONTEXT_TOKENS_MIN..=CONTEXT_TOKENS_MAX).contains(&tokens) {
        // The runtime takes multiples of 32.
        return Ok(tokens / 32 * 32);
    }
    let words = format!("expected {CONTEXT_TOKENS_MIN} to {CONTEXT_TOKENS_MAX} tokens");
    Err(de::Error::custom(words))
}

/// Seconds, or a text such as `5m`.
fn keep_alive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeepAlive, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Wire {
        Seconds(f64),
        Text(String),
    }
    match Wire::deserialize(deserializer) {
        Ok(Wire::Seconds(seconds)) => KeepAlive::from_seconds(seconds).map_err(de::Error::custom),
        Ok(Wire::Text(text)) => text.parse().map_err(de::Error::custom),
        Err(_) => Err(de::Error::custom("expected seconds or a text such as \"5m\"")),
    }
}

/// The reverse, for the layer of defaults.
fn seconds<S: Serializer>(time: &KeepAlive, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(match time {
        KeepAlive::For(time) => time.as_secs_f64(),
        KeepAlive::Forever => -1.0,
    })
}

/// A list, or one text with commas: what an environment variable can hold.
fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: From<String>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    let texts = match OneOrMany::deserialize(deserializer) {
        Ok(OneOrMany::One(text)) => text.split(',').map(|one| one.trim().to_owned()).collect(),
        Ok(OneOrMany::Many(texts)) => texts,
        Err(_) => return Err(de::Error::custom("expected a text or a list of texts")),
    };
    Ok(texts.into_iter().filter(|text: &String| !text.is_empty()).map(T::from).collect())
}

#[cfg(test)]
#[allow(clippy::result_large_err, reason = "the signature of figment's test support")]
mod tests {
    use figment::Jail;

    use super::*;

    fn gather(jail: &Jail, args: &ServeArgs) -> Result<Config, String> {
        let args = ServeArgs {
            config: Some(jail.directory().join("config.toml")),
            listen: args.listen.clone(),
            models: args.models.clone(),
            runtime: args.runtime.clone(),
            debug: args.debug,
            ollama_env: args.ollama_env,
        };
        Config::gather(&args).map_err(|err| format!("{err:#}"))
    }

    #[test]
    fn ollamas_variables_win_over_defaults_and_nothing_else() {
        Jail::expect_with(|jail| {
            jail.create_file("config.toml", "[browsers]\norigins = [\"http://ours\"]\n")?;
            jail.set_env("OLLAMA_KEEP_ALIVE", "-1");
            jail.set_env("OLLAMA_MODELS", "/theirs");
            jail.set_env("OLLAMA_ORIGINS", "http://theirs");
            jail.set_env("OLLAMA_CONTEXT_LENGTH", "8192");
            jail.set_env("OLLAMA_MAX_LOADED_MODELS", "2");
            jail.set_env("OLLAMA_HOST", "0.0.0.0");
            let config = gather(jail, &ServeArgs::default())?;
            assert_eq!(config.keep_alive, KeepAlive::Forever);
            assert_eq!(config.models, PathBuf::from("/theirs"));
            assert_eq!(config.browsers.origins, ["http://ours"]);
            assert_eq!((config.context_tokens_max, config.memory.models_max.get()), (8192, 2));
            assert_eq!(config.listen, ["127.0.0.1:8080"]);
            let args = ServeArgs { ollama_env: true, ..ServeArgs::default() };
            assert_eq!(gather(jail, &args)?.listen, ["0.0.0.0:11434"]);
            jail.set_env("RKLLAMA_MODELS", "/ours");
            assert_eq!(gather(jail, &ServeArgs::default())?.models, PathBuf::from("/ours"));
            Ok(())
        });
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        Jail::expect_with(|jail| {
            jail.create_file(
                "config.toml",
                "listen = \"127.0.0.1:1\"\nmodels = \"/file\"\n[limits]\nqueue_len_max = 3\n",
            )?;
            jail.set_env("RKLLAMA_LISTEN", "127.0.0.1:2, [::1]:2");
            jail.set_env("RKLLAMA_FALLBACK__CHAT", "demo");
            jail.set_env("RKLLAMA_BOARD__AFFINITY", "false");
            jail.set_env("RKLLAMA_HOST", "http://127.0.0.1:8080");
            jail.set_env("RKLLAMA_API_KEY", "secret");
            let args = ServeArgs { listen: vec!["127.0.0.1:3".into()], ..ServeArgs::default() };

            let config = gather(jail, &args)?;

            assert_eq!(config.listen, ["127.0.0.1:3"]);
            assert_eq!(config.models, PathBuf::from("/file"));
            assert_eq!(config.fallback.chat.as_deref(), Some("demo"));
            assert_eq!(config.limits.queue_len_max.get(), 3);
            assert_eq!(config.limits.heartbeat_ms, 3000);
            assert!(!config.board.affinity && Board::default().affinity);

            let without_flags = gather(jail, &ServeArgs::default())?;
            assert_eq!(without_flags.listen, ["127.0.0.1:2", "[::1]:2"]);
            Ok(())
        });
    }

    #[test]
    fn unknown_keys_and_wrong_types_name_the_key_and_the_source() {
        let mut texts = Vec::new();
        Jail::expect_with(|jail| {
            for (file, variable) in [
                ("lisen = \"127.0.0.1:1\"", None),
                ("[limits]\nqueue_len_max = 0", None),
                ("[limits]\nbody_bytes_max = \"big\"", None),
                ("", Some(("RKLLAMA_FALLBACK__CHATT", "x"))),
                ("[runtime_profiles.\"1.3.1\"]\neos_gard = true", None),
                ("[runtime_profiles.\"1.3.1\"]\nkv_reuse = \"some\"", None),
                ("[runtime_profiles.\"1.3.1\"]\ncontext_margin_tokens = 0", None),
                ("[runtime_profiles.\"1.1\"]\nsaved_prompts = false", None),
                ("[runtime_profiles.\"1.2.3\"]\neos_guard = true", None),
            ] {
                jail.clear_env();
                jail.create_file("config.toml", file)?;
                if let Some((name, value)) = variable {
                    jail.set_env(name, value);
                }
                let text = gather(jail, &ServeArgs::default()).unwrap_err();
                texts.push(text.replace(&jail.directory().display().to_string(), "[dir]"));
            }
            Ok(())
        });
        insta::assert_snapshot!(texts.join("\n"));
    }

    #[test]
    fn a_named_file_must_exist() {
        let args = ServeArgs { config: Some("/nowhere/x.toml".into()), ..ServeArgs::default() };
        let text = format!("{:#}", Config::gather(&args).unwrap_err());
        assert!(text.starts_with("--config /nowhere/x.toml: No such file"), "{text}");
    }
}
