//! What the server costs: the same questions to a bare loop of C on the vendor's library, to our
//! server and to others, in turns, in one run. Ratios hold on a machine that does other things too;
//! absolute values may not.

mod bare;
mod figures;
mod heard;
mod processes;
mod questions;
mod sides;
mod table;

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use self::{
    bare::{BareLoop, HEADERS, SOURCE, Sources},
    figures::{BARE, Notes},
    processes::{described, library, processes, weights},
    questions::{ENDLESS, Effort, Questions},
    sides::{Said, Served},
};
pub use self::{
    figures::{Bench, Kind, Part, Side},
    table::{put_into, table},
};
use crate::{
    api::{Api, text},
    args::ServerArgs,
    machine::Machine,
    server::{Built, MockServer, Setup},
    ssh::{Board, Places, quoted},
    target::Target,
};

/// Most tokens of a long prompt, and its words.
const LONG_TOKENS_MAX: u64 = 1000;
const LONG_WORDS: &str = "Words of memory and board. ";
/// Tokens of the context that questions and their template may take.
const QUESTION_TOKENS_MAX: u64 = 256;
/// On releases that fix sampling at load the model has to be greedy by itself.
const GREEDY: &str = "[sampling]\ntemperature = 0\n";

/// What to measure
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to measure: http://HOST:PORT, mock, or ssh:[user@]host
    #[arg(long)]
    target: Target,
    /// The model [default: the first that holds conversations]
    #[arg(long)]
    model: Option<String>,
    /// Another server with `/v1/chat/completions`, to be asked the same; may be given several times
    #[arg(long, value_name = "URL")]
    peer: Vec<String>,
    /// The model of these servers [default: the first that each lists]
    #[arg(long, value_name = "NAME")]
    peer_model: Option<String>,
    /// The key that these servers want
    #[arg(long, value_name = "KEY")]
    peer_key: Option<String>,
    /// Rounds: in each, every side is asked everything
    #[arg(long, default_value = "3")]
    runs: NonZeroU32,
    /// Tokens of a streamed answer [default: 300; 3500 where the mock takes no time]
    #[arg(long)]
    tokens: Option<NonZeroU32>,
    /// Only this pace of the mock
    #[arg(long)]
    pace: Option<Pace>,
    /// As little as shows that everything works
    #[arg(long)]
    short: bool,
    #[command(flatten)]
    server: ServerArgs,
    /// The bare loop's source
    #[arg(long, default_value = SOURCE)]
    loop_source: PathBuf,
    /// The folder of the vendor's interface in C
    #[arg(long, default_value = HEADERS)]
    headers: PathBuf,
    /// A folder with the bare loop built for the board, `loop-e` and `loop-f` [default: the board's
    /// own compiler makes it]
    #[arg(long)]
    loops: Option<PathBuf>,
    /// File for the figures, for programs
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// A page of Markdown between whose marks the tables are put [default: they are printed]
    #[arg(long)]
    pub output: Option<PathBuf>,
}

impl Args {
    fn sources(&self) -> Sources {
        Sources {
            source: self.loop_source.clone(),
            headers: self.headers.clone(),
            built: self.loops.clone(),
        }
    }

    fn effort(&self, usual: Effort) -> Effort {
        let effort = if self.short { usual.short() } else { usual };
        let stream_tokens = self.tokens.map_or(effort.stream_tokens, NonZeroU32::get);
        Effort { stream_tokens, ..effort }
    }
}

/// Measures, and tells what it is at.
///
/// # Errors
/// A side cannot be had or does not answer, or the loop and the server on the mock differ.
pub async fn run(args: &Args, tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Bench> {
    if let Some(file) = bare::missing(&args.sources()) {
        bail!("{} is not there", file.display());
    }
    match &args.target {
        Target::Url(url) => at_url(args, url, tell).await,
        Target::Mock => on_mock(args, tell).await,
        Target::Ssh(host) => on_board(args, host, tell).await,
    }
}

async fn at_url(args: &Args, url: &str, tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Bench> {
    let measuring = Measuring::new(args, url, None).await?;
    let part = measuring.part("as it is", Effort::PACED, None, Notes::default(), tell).await?;
    Ok(Bench {
        target: url.to_owned(),
        version: measuring.version().await?,
        machine: vec![today(), "machine: not known, a server at an address".to_owned()],
        runs: args.runs.get(),
        parts: vec![part],
    })
}

/// How long the mock takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pace {
    /// As long as a board
    Board,
    /// No time: what is left is our own cost
    None,
}

impl Pace {
    /// What it is called, the factor on all times, and how much is asked.
    fn settings(self) -> (&'static str, &'static str, Effort) {
        match self {
            Self::Board => ("At the pace of a board, 60 tokens/s", "1", Effort::PACED),
            Self::None => ("As fast as it can", "0", Effort::AT_ONCE),
        }
    }
}

async fn on_mock(args: &Args, tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Bench> {
    let mut bench = Bench {
        target: format!("the mock of {}", args.server.release),
        version: String::new(),
        machine: Vec::new(),
        runs: args.runs.get(),
        parts: Vec::new(),
    };
    let paces = [Pace::Board, Pace::None].into_iter();
    for pace in paces.filter(|it| args.pace.is_none_or(|only| only == *it)) {
        let (name, scale, effort) = pace.settings();
        let setup = mock_setup(scale);
        let built = Built::of(&args.server);
        let mut notes = Notes::default();
        for _ in 0..args.effort(effort).starts {
            let server = MockServer::start(&built, &setup)?;
            plain(&server.url, None)?.get("/health").await?.good()?;
            notes.add(Kind::StartMs, server.began.elapsed().as_secs_f64() * 1e3);
            notes.add(Kind::IdleRssMb, idle_mb(&server.machine()).await?);
        }
        let server = MockServer::start(&built, &setup)?;
        if bench.machine.is_empty() {
            bench.machine = [vec![today()], described(&server.machine()).await?].concat();
        }
        let measuring = Measuring::new(args, &server.url, Some(server.machine())).await?;
        bench.version = measuring.version().await?;
        let variables = setup.environment.iter();
        let variables: String =
            variables.map(|(name, value)| format!("{name}={} ", quoted(value))).collect();
        let folder = server.folder().display().to_string();
        let bare = measuring.bare(&folder, &format!("{folder}/models"), &variables).await?;
        bench.parts.push(measuring.part(name, effort, Some(&bare), notes, tell).await?);
    }
    Ok(bench)
}

fn mock_setup(scale: &str) -> Setup {
    let script = format!(
        "[[rule]]\nuser_contains = \"{ENDLESS}\"\nsay = \"on and on and \"\nno_eos = true\n"
    );
    let environment = vec![("MOCK_NPU_SCRIPT", script), ("MOCK_NPU_SCALE", scale.to_owned())];
    Setup { models: vec![("demo", GREEDY)], environment, hub: None }
}

async fn on_board(args: &Args, host: &str, tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Bench> {
    let places = Places {
        models: args.server.board_models.clone(),
        runtime: args.server.board_runtime.clone(),
        hub_port: None,
    };
    let board = Arc::new(Board::prepare(host, &args.server.executable, places).await?);
    // Whatever comes of it, the board is left as it was.
    let bench = through_tunnel(args, host, &board, tell).await;
    let log = if bench.is_err() { board.log().await.unwrap_or_default() } else { String::new() };
    board.clean().await?;
    bench.with_context(|| format!("the server's log: {log}"))
}

async fn through_tunnel(
    args: &Args,
    host: &str,
    board: &Arc<Board>,
    tell: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Bench> {
    let mut notes = Notes::default();
    for _ in 0..args.effort(Effort::PACED).starts {
        notes.add(Kind::StartMs, board.start_ms().await?);
    }
    let machine = Machine::Board(Arc::clone(board));
    let facts = [vec![today()], described(&machine).await?].concat();
    let address = board.start().await?;
    let tunnel = board.tunnel(&address, None).await?;
    notes.add(Kind::IdleRssMb, idle_mb(&machine).await?);
    let measuring = Measuring::new(args, &tunnel.url, Some(machine)).await?;
    let bare = match board.models() {
        Some(models) => measuring.bare(board.folder(), models, "").await,
        None => Err(anyhow::anyhow!("--board-models does not say where the weights are")),
    };
    let mut part =
        measuring.part("as it is", Effort::PACED, bare.as_ref().ok(), notes, tell).await?;
    if let Err(why) = bare {
        part.notes.push(format!("There is no bare loop: {why:#}."));
    }
    Ok(Bench {
        target: format!("ssh:{host}"),
        version: measuring.version().await?,
        machine: facts,
        runs: args.runs.get(),
        parts: vec![part],
    })
}

async fn idle_mb(machine: &Machine) -> anyhow::Result<Option<f64>> {
    Ok(processes(machine).await?.first().map(|it| it.rss_mb))
}

fn today() -> String {
    format!("date: {}", jiff::Timestamp::now().strftime("%F"))
}

fn plain(url: &str, key: Option<String>) -> anyhow::Result<Api> {
    Api::new(url, key).with_context(|| url.to_owned())
}

/// A server of ours that is ready, and those that are asked beside it.
struct Measuring<'a> {
    args: &'a Args,
    ours: Served,
    context_tokens: u64,
    peers: Vec<(String, Served)>,
    long: String,
}

impl<'a> Measuring<'a> {
    async fn new(args: &'a Args, url: &str, machine: Option<Machine>) -> anyhow::Result<Self> {
        let mut peers = Vec::new();
        for url in &args.peer {
            let peer = peer(args, url).await.with_context(|| format!("the peer {url}"))?;
            peers.push((format!("{} at {url}", peer.model), peer));
        }
        let api = plain(url, args.server.key.clone())?;
        let model = chosen(&api, args.model.as_deref()).await.with_context(|| url.to_owned())?;
        let context_tokens = model["max_model_len"].as_u64().unwrap_or(4096);
        let model = text(&model, "/id")?.to_owned();
        let ours = Served { api, model, machine };
        let words = ours.count(LONG_WORDS).await? as u64;
        let long_tokens = LONG_TOKENS_MAX.min(context_tokens / 4);
        let long = LONG_WORDS.repeat((long_tokens / words).max(1) as usize);
        Ok(Self { args, ours, context_tokens, peers, long })
    }

    async fn version(&self) -> anyhow::Result<String> {
        let health = self.ours.api.get("/health").await?.good()?;
        Ok(text(&health, "/version")?.to_owned())
    }

    /// The bare loop for the library with which the server has loaded the model.
    async fn bare(
        &self,
        folder: &str,
        models: &str,
        environment: &str,
    ) -> anyhow::Result<BareLoop> {
        let machine = self.ours.machine.as_ref().context("no shell on the target's machine")?;
        self.ours.load(&Questions::new(0, ""), &mut Notes::default()).await?;
        let library = library(machine).await?;
        self.ours.unload().await?;
        let shown = self.ours.api.post("/api/show", &json!({"model": self.ours.model})).await?;
        let modelfile = shown.good()?;
        let file = text(&modelfile, "/modelfile")?;
        let file = file.lines().find_map(|it| it.strip_prefix("FROM ")).context("no FROM")?;
        let weights = weights(machine, models, file).await?;
        let bare = BareLoop::make(&self.args.sources(), machine, folder, &library).await?;
        Ok(bare.on(&weights, self.context_tokens, environment))
    }

    /// All rounds: the loop, the server, the others, and again.
    async fn part(
        &self,
        name: &str,
        effort: Effort,
        bare: Option<&BareLoop>,
        ours: Notes,
        tell: &(dyn Fn(&str) + Sync),
    ) -> anyhow::Result<Part> {
        let mut effort = self.args.effort(effort);
        let room = self.context_tokens.saturating_sub(QUESTION_TOKENS_MAX).max(2);
        effort.stream_tokens = effort.stream_tokens.min(u32::try_from(room).unwrap_or(u32::MAX));
        let mut compared = Sameness::default();
        let (mut of_bare, mut of_ours) = (Notes::default(), ours);
        let mut of_peers: Vec<Notes> = self.peers.iter().map(|_| Notes::default()).collect();
        let rounds = self.args.runs.get();
        for round in 1..=rounds {
            let questions = Questions::new(round, &self.long);
            let at = Instant::now();
            let from_bare = match bare {
                Some(bare) => bare.round(&questions, effort, &self.ours, &mut of_bare).await?,
                None => Vec::new(),
            };
            let from_ours = self.ours.round(&questions, effort, &mut of_ours).await?;
            if bare.is_some() {
                compared.add(&self.ours, &from_bare, &from_ours).await?;
            }
            compared.asked = from_ours;
            for ((url, peer), notes) in self.peers.iter().zip(&mut of_peers) {
                peer.round(&questions, effort, notes).await.with_context(|| url.clone())?;
            }
            let took_s = at.elapsed().as_secs_f64();
            tell(&format!("{name}: round {round} of {rounds}, {took_s:.1} s"));
        }
        if matches!(self.args.target, Target::Mock) {
            ensure!(compared.differing.is_empty(), "not the same: {}", compared.differing[0]);
        }
        let mut sides: Vec<Side> = bare.map(|_| Side::new(BARE, &of_bare)).into_iter().collect();
        sides.push(Side::new("rkllama", &of_ours));
        sides.extend(self.peers.iter().zip(&of_peers).map(|((name, _), it)| Side::new(name, it)));
        let notes = [vec![asked(effort, &compared.asked)], compared.told(bare.is_some())].concat();
        Ok(Part { name: name.to_owned(), sides, notes })
    }
}

/// Answers of the loop beside those of the server.
#[derive(Default)]
struct Sameness {
    same: usize,
    differing: Vec<String>,
    asked: Vec<Said>,
}

impl Sameness {
    async fn add(&mut self, ours: &Served, bare: &[Said], server: &[Said]) -> anyhow::Result<()> {
        ensure!(bare.len() == server.len(), "{} answers and {}", bare.len(), server.len());
        for (bare, server) in bare.iter().zip(server) {
            let of_ids = ours.detokenize(&bare.ids).await?;
            let same = (&bare.text, bare.tokens, bare.prompt_tokens)
                == (&server.text, server.tokens, server.prompt_tokens);
            if same && of_ids == server.text {
                self.same += 1;
            } else {
                self.differing.push(format!("{bare:?} and {server:?}"));
            }
        }
        Ok(())
    }

    fn told(&self, is_compared: bool) -> Vec<String> {
        let all = self.same + self.differing.len();
        let words = format!("{} of {all} answers are the same, token for token.", self.same);
        is_compared.then_some(words).into_iter().collect()
    }
}

/// What was asked in each round.
fn asked(effort: Effort, said: &[Said]) -> String {
    let Effort { streams, stream_tokens, firsts, conversations, requests, .. } = effort;
    let prompt = |at: u32| {
        let said = said.get(at as usize).and_then(|it| it.prompt_tokens);
        said.map_or("?".to_owned(), |it| it.to_string())
    };
    let (short, long, second) =
        (prompt(streams), prompt(streams + firsts), prompt(streams + firsts + 1));
    format!(
        "In each round: streamed answers of at most {stream_tokens} tokens: {streams}; first tokens \
         after a prompt of {short} tokens: {firsts}; conversations that begin with a prompt of {long} \
         tokens and whose second turn has {second} with it: {conversations}; short answers, for each \
         number of clients: {requests}."
    )
}

async fn peer(args: &Args, url: &str) -> anyhow::Result<Served> {
    let api = plain(url, args.peer_key.clone())?;
    let model = match &args.peer_model {
        Some(model) => model.clone(),
        None => text(&api.get("/v1/models").await?.good()?, "/data/0/id")?.to_owned(),
    };
    Ok(Served { api, model, machine: None })
}

/// The model of this name as it is listed, else the first that holds conversations.
async fn chosen(api: &Api, name: Option<&str>) -> anyhow::Result<Value> {
    let list = api.get("/v1/models").await?.good()?;
    let models = list["data"].as_array().context("/v1/models gives no list")?;
    for model in models {
        let id = text(model, "/id")?;
        if name == Some(id) {
            return Ok(model.clone());
        }
        if name.is_none() {
            let shown = api.post("/api/show", &json!({"model": id})).await?.good()?;
            let can = shown["capabilities"].as_array().into_iter().flatten();
            if can.into_iter().any(|it| it == "completion") {
                return Ok(model.clone());
            }
        }
    }
    let ids: Vec<&str> = models.iter().filter_map(|it| it["id"].as_str()).collect();
    let wanted = name.unwrap_or("that holds conversations");
    bail!("there is no model {wanted}, only: {}", ids.join(", "))
}
