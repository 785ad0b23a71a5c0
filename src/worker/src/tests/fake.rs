//! A runtime that does what a test tells it, and a server's end of the socket.

use std::{
    collections::VecDeque,
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::Duration,
};

use rkllama_npu::{GenerateParams, Hidden, Logits, Piece, Profile, Prompt, RunEnd, RunError};
use rkllama_protocol::{
    End, FromWorker, Generate, KvOrders, Load, Loaded, Order, RunSampling, Stats, ToWorker,
    VERSION, read_frame, write_frame,
};

use crate::{
    runtime::{Model, Runtime},
    serve::{Leave, serve},
    sight::Sight,
};

/// Longest wait for anything in a test: after it the test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one call of `generate` does.
pub(crate) type Run =
    Box<dyn FnOnce(&mut Stage<'_, '_>) -> Result<RunEnd, RunError> + Send + 'static>;

/// What one call of `read` gives, call by call of its receiver.
pub(crate) type Rows = Result<Vec<Vec<f32>>, RunError>;

/// What a run of the fake can do.
pub(crate) struct Stage<'a, 'p> {
    pub(crate) params: GenerateParams<'p>,
    receiver: &'a mut (dyn FnMut(Piece<'_>) + Send),
    world: Arc<World>,
}

impl Stage<'_, '_> {
    pub(crate) fn piece(&mut self, token: i32, text: &str) {
        (self.receiver)(Piece { token, text: text.as_bytes() });
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.world.state().aborted
    }

    pub(crate) fn wait_for_abort(&self) {
        self.world.wait_until(|state| state.aborted);
    }

    /// As a runtime that may miss an abort at its very beginning: says something now and then.
    pub(crate) fn hesitate_until_aborted(&mut self) {
        while !self.is_aborted() {
            let patience = Duration::from_millis(50);
            let state = self.world.state();
            let waited = self.world.changed.wait_timeout_while(state, patience, |it| !it.aborted);
            drop(waited);
            self.piece(5, "well");
        }
    }

    /// Tokens until an abort comes; returns how many.
    pub(crate) fn until_aborted(&mut self) -> usize {
        let mut count = 0;
        while !self.is_aborted() {
            self.piece(7, "on ");
            count += 1;
        }
        count
    }
}

#[derive(Default)]
struct State {
    /// Whether the run that is under way was aborted.
    aborted: bool,
    notes: Vec<String>,
}

/// What the fake and the test know together.
#[derive(Default)]
pub(crate) struct World {
    state: Mutex<State>,
    changed: Condvar,
}

impl World {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, what: impl Into<String>) {
        self.state().notes.push(what.into());
        self.changed.notify_all();
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.state().notes.clone()
    }

    pub(crate) fn noted(&self, what: &str) -> usize {
        self.state().notes.iter().filter(|note| *note == what).count()
    }

    /// Waits until `what` has been noted.
    pub(crate) fn wait_for(&self, what: &str) {
        self.wait_until(|state| state.notes.iter().any(|note| note == what));
    }

    fn wait_until(&self, done: impl Fn(&State) -> bool) {
        let (_state, timeout) = self
            .changed
            .wait_timeout_while(self.state(), PATIENCE, |state| !done(state))
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "waited in vain");
    }
}

/// A runtime and what it is going to do.
pub(crate) struct Fake {
    version: &'static str,
    load: Box<dyn FnOnce() -> Result<(), String> + Send>,
    runs: VecDeque<Run>,
    rows: VecDeque<Rows>,
    /// Called by an abort, which it may swallow by returning false.
    on_abort: Arc<dyn Fn(&World) -> bool + Send + Sync>,
    on_free: Box<dyn FnOnce() + Send>,
    kv_tokens: Option<u32>,
    /// Whether it refuses whatever is asked about its KV cache.
    refuses: bool,
    world: Arc<World>,
}

impl Fake {
    pub(crate) fn of(version: &'static str) -> Self {
        Self {
            version,
            load: Box::new(|| Ok(())),
            runs: VecDeque::new(),
            rows: VecDeque::new(),
            on_abort: Arc::new(|_| true),
            on_free: Box::new(|| {}),
            kv_tokens: None,
            refuses: false,
            world: Arc::default(),
        }
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    pub(crate) fn run(
        mut self,
        run: impl FnOnce(&mut Stage<'_, '_>) -> Result<RunEnd, RunError> + Send + 'static,
    ) -> Self {
        self.runs.push_back(Box::new(run));
        self
    }

    /// A run that gives these tokens and ends by itself.
    pub(crate) fn says(self, tokens: &'static [i32]) -> Self {
        self.run(move |stage| {
            for token in tokens {
                stage.piece(*token, "x");
            }
            Ok(RunEnd::default())
        })
    }

    /// A text that gives these rows of two numbers, call by call.
    pub(crate) fn reads(mut self, rows: Rows) -> Self {
        self.rows.push_back(rows);
        self
    }

    /// A run that gives tokens until it is aborted.
    pub(crate) fn goes_on(self) -> Self {
        self.run(|stage| {
            stage.until_aborted();
            Ok(RunEnd::default())
        })
    }

    pub(crate) fn load(
        mut self,
        load: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Self {
        self.load = Box::new(load);
        self
    }

    pub(crate) fn on_abort(
        mut self,
        on_abort: impl Fn(&World) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.on_abort = Arc::new(on_abort);
        self
    }

    pub(crate) fn on_free(mut self, on_free: impl FnOnce() + Send + 'static) -> Self {
        self.on_free = Box::new(on_free);
        self
    }

    pub(crate) fn kv_tokens(mut self, tokens: u32) -> Self {
        self.kv_tokens = Some(tokens);
        self
    }

    pub(crate) fn refuses(mut self) -> Self {
        self.refuses = true;
        self
    }

    /// Starts a worker with it.
    pub(crate) fn start(self) -> Server {
        let world = Arc::clone(&self.world);
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let (left, leave) = sync_channel(1);
        thread::spawn(move || left.send(serve(theirs, self)));
        Server { socket: ours, world, leave }
    }

    /// Starts a worker with it, as far as a loaded model.
    pub(crate) fn loaded(self) -> Server {
        self.loaded_with(load())
    }

    pub(crate) fn loaded_with(self, load: Load) -> Server {
        let mut server = self.start();
        server.say(&ToWorker::Hello(VERSION));
        assert_eq!(server.hear(), FromWorker::Hello(VERSION));
        server.say(&ToWorker::Load(load));
        assert!(matches!(server.hear(), FromWorker::Loaded(Loaded { load_ms: 3, .. })));
        server
    }
}

pub(crate) struct FakeModel {
    version: &'static str,
    runs: VecDeque<Run>,
    rows: VecDeque<Rows>,
    on_abort: Arc<dyn Fn(&World) -> bool + Send + Sync>,
    on_free: Option<Box<dyn FnOnce() + Send>>,
    kv_tokens: Option<u32>,
    refuses: bool,
    world: Arc<World>,
}

impl Runtime for Fake {
    type Model = FakeModel;

    fn load(&mut self, load: &Load) -> Result<FakeModel, String> {
        self.world.note(format!("load {}", load.model.display()));
        std::mem::replace(&mut self.load, Box::new(|| Ok(())))()?;
        Ok(FakeModel {
            version: self.version,
            runs: std::mem::take(&mut self.runs),
            rows: std::mem::take(&mut self.rows),
            on_abort: Arc::clone(&self.on_abort),
            on_free: Some(std::mem::replace(&mut self.on_free, Box::new(|| {}))),
            kv_tokens: self.kv_tokens,
            refuses: self.refuses,
            world: Arc::clone(&self.world),
        })
    }
}

impl Model for FakeModel {
    fn version(&self) -> &str {
        self.version
    }

    fn profile(&self) -> &'static Profile {
        Profile::of(self.version).unwrap()
    }

    fn load_ms(&self) -> u64 {
        3
    }

    fn aborter(&self) -> Box<dyn Fn() + Send> {
        let (world, on_abort) = (Arc::clone(&self.world), Arc::clone(&self.on_abort));
        Box::new(move || {
            world.note("abort");
            if on_abort(&world) {
                world.state().aborted = true;
                world.changed.notify_all();
            }
        })
    }

    fn generate(
        &mut self,
        params: &GenerateParams<'_>,
        receiver: &mut (dyn FnMut(Piece<'_>) + Send),
    ) -> Result<RunEnd, RunError> {
        self.world.state().aborted = false;
        self.world.note("run");
        let run = self.runs.pop_front().expect("no more runs were expected");
        let mut stage = Stage { params: *params, receiver, world: Arc::clone(&self.world) };
        let end = run(&mut stage);
        self.world.note("run returns");
        end
    }

    fn read(
        &mut self,
        prompt: Prompt<'_>,
        receiver: &mut (dyn FnMut(Hidden<'_>) + Send),
    ) -> Result<RunEnd, RunError> {
        self.world.note("read");
        let rows = self.rows.pop_front().expect("no more texts were expected");
        for values in rows? {
            assert!(values.len() <= 2 * prompt.len());
            receiver(Hidden { values: &values, width: 2 });
        }
        Ok(RunEnd::default())
    }

    fn weigh(
        &mut self,
        tokens: &[i32],
        receiver: &mut (dyn FnMut(Logits<'_>) + Send),
    ) -> Result<RunEnd, RunError> {
        self.world.note("weigh");
        let rows = self.rows.pop_front().expect("no more texts were expected");
        for values in rows? {
            assert!(values.len() <= 2 * tokens.len());
            receiver(Logits { values: &values, width: 2 });
        }
        Ok(RunEnd::default())
    }

    fn kv_cache_tokens(&self) -> Option<u32> {
        self.kv_tokens
    }

    fn clear_kv_cache(&mut self) -> bool {
        self.world.note("clear");
        !self.refuses
    }

    fn load_prompt_cache(&mut self, file: &Path) -> bool {
        self.world.note(format!("load prompt {}", file.display()));
        !self.refuses
    }

    fn release_prompt_cache(&mut self) -> bool {
        self.world.note("release prompt");
        true
    }

    fn sight(&mut self) -> Option<&mut dyn Sight> {
        None
    }
}

impl Drop for FakeModel {
    fn drop(&mut self) {
        if let Some(on_free) = self.on_free.take() {
            on_free();
        }
        self.world.note("freed");
    }
}

/// The server's end.
pub(crate) struct Server {
    pub(crate) socket: UnixStream,
    pub(crate) world: Arc<World>,
    leave: Receiver<Leave>,
}

impl Server {
    pub(crate) fn say(&mut self, frame: &ToWorker) {
        write_frame(&mut self.socket, frame).unwrap();
    }

    pub(crate) fn hear(&mut self) -> FromWorker {
        read_frame(&mut self.socket).unwrap().expect("the worker has closed the socket")
    }

    /// Whether nothing follows.
    pub(crate) fn hears_the_end(&mut self) -> bool {
        read_frame::<FromWorker>(&mut self.socket).unwrap().is_none()
    }

    pub(crate) fn generate(&mut self, generate: &Generate) {
        self.say(&ToWorker::Run(Order::Generate(generate.clone())));
    }

    /// The tokens of the run, and how it ended, without what the end says besides.
    pub(crate) fn hear_run(&mut self, run: u64) -> (Vec<i32>, End) {
        let bare = |of: Stats| stats(of.run, of.tokens);
        let (tokens, end) = self.hear_all_of_run(run);
        let end = match end {
            End::Stop(stats) => End::Stop(bare(stats)),
            End::Length(stats) => End::Length(bare(stats)),
            End::Aborted(stats) => End::Aborted(bare(stats)),
            failed @ End::Failed { .. } => failed,
        };
        (tokens, end)
    }

    /// The tokens of the run, and how it ended.
    pub(crate) fn hear_all_of_run(&mut self, run: u64) -> (Vec<i32>, End) {
        let mut tokens = Vec::new();
        loop {
            match self.hear() {
                FromWorker::Piece(piece) => {
                    assert_eq!(piece.run, run, "a token of another run");
                    tokens.push(piece.token);
                }
                FromWorker::End(end) => {
                    assert_eq!(end.run(), run, "the end of another run");
                    return (tokens, end);
                }
                other => panic!("{other:?} during a run"),
            }
        }
    }

    /// How the worker left.
    pub(crate) fn leave(&self) -> Leave {
        self.leave.recv_timeout(PATIENCE).expect("the worker did not leave")
    }

    /// Closes the socket without a word; returns how the worker left.
    pub(crate) fn die(self) -> (Arc<World>, Leave) {
        let Self { socket, world, leave } = self;
        drop(socket);
        (world, leave.recv_timeout(PATIENCE).expect("the worker did not leave"))
    }

    /// Says farewell and checks that everything was freed.
    pub(crate) fn shut_down(mut self) {
        self.say(&ToWorker::Shutdown);
        assert_eq!(self.leave(), Leave::With(0));
        assert_eq!(self.world.noted("freed"), 1);
    }
}

pub(crate) fn load() -> Load {
    Load {
        runtime: "librkllmrt.so".into(),
        model: "a.rkllm".into(),
        context_tokens_max: 64,
        sampling: SAMPLING,
        ignore_eos: false,
        base_domain: 0,
        vision: None,
        adapter: None,
    }
}

const SAMPLING: RunSampling = RunSampling {
    temperature: 1.0,
    top_p: 1.0,
    top_k: None,
    repeat_penalty: 1.0,
    frequency_penalty: 0.0,
    presence_penalty: 0.0,
};

/// A prompt of two tokens with room for many and the stop token 99.
pub(crate) fn generate(run: u64) -> Generate {
    Generate {
        run,
        tokens: vec![1, 2],
        pictured: None,
        kv: KvOrders::default(),
        sampling: SAMPLING,
        tokens_max: 50,
        stop_tokens: vec![99],
    }
}

pub(crate) fn stats(run: u64, tokens: u32) -> Stats {
    Stats { run, tokens, ..Stats::default() }
}
