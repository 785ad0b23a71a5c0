//! What a step has to work with: a loaded model whose every run is written down at once, since the
//! next may be the last.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use rkllama_npu::{
    CallState, Called, Experiment, ExperimentInput, ExperimentMode, ExperimentParams,
    ExperimentRun, ImageTags, Library, LoadParams, Perf, Pictured, Reply, Sampling,
};
use serde::Serialize;

use crate::seen::{Line, MARK, Order, Ran, Rows, Subject};

/// Numbers of a row that are kept: enough to compare two.
const ROW_KEPT: usize = 256;
/// An abort right at the start may be lost, so it is asked for again in this rhythm.
const ABORT_AGAIN: Duration = Duration::from_millis(20);

/// Why a step cannot go on.
pub(crate) type Stop = String;

/// Writes down what is seen.
pub(crate) struct Report(File);

impl Report {
    pub(crate) fn open(file: &Path) -> io::Result<Self> {
        File::options().create(true).append(true).open(file).map(Self)
    }

    pub(crate) fn line(&mut self, line: &Line) {
        let text = serde_json::to_string(line).expect("a line is plain data");
        // Without it the step has been in vain, and nobody is left to be told.
        let _ = writeln!(self.0, "{text}");
    }
}

/// How a model is loaded for a step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Load {
    /// Context in tokens; 0 is what experiments have.
    pub(crate) context: u32,
    /// The limit on each run's tokens.
    pub(crate) tokens_max: i32,
    pub(crate) ignore_eos: bool,
    pub(crate) batches: Option<u8>,
    pub(crate) cpu_mask: Option<u32>,
    pub(crate) image_tags: Option<[String; 3]>,
}

impl Load {
    /// With a limit on each run's tokens.
    pub(crate) fn to(tokens_max: i32) -> Self {
        Self { tokens_max, ..Self::default() }
    }
}

/// Images of a run.
pub(crate) struct Picture<'a> {
    pub(crate) text: &'a str,
    pub(crate) vectors: &'a [f32],
    pub(crate) rows: usize,
}

/// A run to be made.
pub(crate) struct Run<'a> {
    input: ExperimentInput<'a>,
    mode: ExperimentMode,
    keep_history: bool,
    save: Option<PathBuf>,
    /// Pause behind so many tokens.
    pause_after: Option<usize>,
    abort: Option<Abort>,
}

/// When to abort.
#[derive(Clone, Copy)]
enum Abort {
    Tokens(usize),
    After(Duration),
}

impl<'a> Run<'a> {
    fn of(input: ExperimentInput<'a>) -> Self {
        let mode = ExperimentMode::Generate;
        Self { input, mode, keep_history: false, save: None, pause_after: None, abort: None }
    }

    pub(crate) fn tokens(tokens: &'a [i32]) -> Self {
        Self::of(ExperimentInput::Tokens(tokens))
    }

    pub(crate) fn text(text: &'a str) -> Self {
        Self::of(ExperimentInput::Text(text))
    }

    pub(crate) fn batch(prompts: &'a [&'a [i32]]) -> Self {
        Self::of(ExperimentInput::Batch(prompts))
    }

    pub(crate) fn picture(picture: &Picture<'a>) -> Self {
        Self::of(ExperimentInput::Pictured(Pictured {
            text: picture.text,
            vectors: picture.vectors,
            images: 1,
            image_tokens: picture.rows,
            width: 448,
            height: 448,
            tokens: picture.rows,
        }))
    }

    pub(crate) const fn hidden(mut self) -> Self {
        self.mode = ExperimentMode::Hidden;
        self
    }

    pub(crate) const fn logits(mut self) -> Self {
        self.mode = ExperimentMode::Logits;
        self
    }

    pub(crate) const fn keeping_history(mut self) -> Self {
        self.keep_history = true;
        self
    }

    pub(crate) fn saving(mut self, file: PathBuf) -> Self {
        self.save = Some(file);
        self
    }

    pub(crate) const fn pausing_after(mut self, tokens: usize) -> Self {
        self.pause_after = Some(tokens);
        self
    }

    pub(crate) const fn aborted_after_tokens(mut self, tokens: usize) -> Self {
        self.abort = Some(Abort::Tokens(tokens));
        self
    }

    pub(crate) const fn aborted_after(mut self, time: Duration) -> Self {
        self.abort = Some(Abort::After(time));
        self
    }

    fn len(&self) -> usize {
        match self.input {
            ExperimentInput::Tokens(tokens) => tokens.len(),
            ExperimentInput::Batch(prompts) => prompts.iter().map(|it| it.len()).sum(),
            ExperimentInput::Text(_) | ExperimentInput::Pictured(_) => 0,
        }
    }
}

/// A step's means.
pub(crate) struct Bench {
    subject: Subject,
    scratch: PathBuf,
    report: Report,
    library: Library,
    model: Option<Experiment>,
    tokens_max: i32,
}

impl Bench {
    /// Opens the library, whose structures are looked at with that.
    pub(crate) fn open(order: &Order, report: Report) -> Result<Self, (Report, Stop)> {
        let library = match Library::open(&order.subject.runtime) {
            Ok(library) => library,
            Err(error) => return Err((report, error.to_string())),
        };
        Ok(Self {
            subject: order.subject.clone(),
            scratch: order.scratch.clone(),
            report,
            library,
            model: None,
            tokens_max: 0,
        })
    }

    pub(crate) fn into_report(self) -> Report {
        // The model is freed before the step is said to be done.
        drop(self.model);
        self.report
    }

    pub(crate) const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// A file that the experiment's steps share.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// What the library is.
    pub(crate) const fn library(&self) -> &Library {
        &self.library
    }

    pub(crate) fn figure(&mut self, name: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).expect("figures are plain data");
        self.report.line(&Line::Figure(name.to_owned(), value));
    }

    fn begins(&mut self, label: &str) {
        self.report.line(&Line::Begins(label.to_owned()));
        // Between the runtime's own lines, which say what it did in which run.
        let _ = writeln!(io::stdout(), "{MARK}{label}");
    }

    /// Loads the model, to choose the likeliest token always.
    pub(crate) fn load(&mut self, load: &Load) -> Result<(), Stop> {
        // Never two at once.
        self.model = None;
        let loaded = self.loaded(load)?;
        self.model = Some(loaded);
        self.tokens_max = load.tokens_max;
        Ok(())
    }

    /// Loads the model once more and holds neither.
    pub(crate) fn loaded(&mut self, load: &Load) -> Result<Experiment, Stop> {
        let model = self.subject.model.clone().ok_or("there is no model")?;
        self.begins("load");
        let image_tags =
            load.image_tags.clone().map(|[start, end, content]| ImageTags { start, end, content });
        let context = if load.context == 0 { self.subject.context() } else { load.context };
        let params = ExperimentParams {
            load: LoadParams {
                model,
                context_tokens_max: context,
                sampling: Sampling {
                    temperature: Some(0.0),
                    top_k: Some(1),
                    repeat_penalty: Some(1.0),
                    ..Sampling::FALLBACK
                },
                ignore_eos: load.ignore_eos,
                cpu_mask: load.cpu_mask,
                base_domain: None,
                image_tags,
                adapter: None,
            },
            tokens_max: Some(load.tokens_max),
            batches: load.batches,
        };
        let mut loaded =
            Experiment::load(&self.library, &params).map_err(|error| error.to_string())?;
        let load_ms = u64::try_from(loaded.session().load_time().as_millis()).unwrap_or(u64::MAX);
        self.figure("load_ms", load_ms);
        Ok(loaded)
    }

    fn model(&mut self) -> &mut Experiment {
        self.model.as_mut().expect("a step loads before it runs")
    }

    /// Empties the KV cache.
    pub(crate) fn clear(&mut self) {
        self.model().session().clear_kv_cache();
    }

    pub(crate) fn clear_range(&mut self, start: i32, end: i32) -> bool {
        self.begins("clear_range");
        self.model().clear_kv_range(start, end)
    }

    pub(crate) fn kv(&mut self) -> Option<u32> {
        self.model().session().kv_cache_tokens()
    }

    /// Whether the runtime took the file.
    pub(crate) fn load_cache(&mut self, file: &Path) -> bool {
        self.begins("load_cache");
        self.model().session().load_prompt_cache(file)
    }

    pub(crate) fn release_cache(&mut self) -> bool {
        self.begins("release_cache");
        self.model().session().release_prompt_cache()
    }

    /// Makes a run and writes down what came of it.
    pub(crate) fn run(&mut self, label: &str, run: Run<'_>) -> Result<Ran, Stop> {
        self.begins(label);
        let prompt = run.len();
        let tokens_max = self.tokens_max;
        let model = self.model.as_mut().expect("a step loads before it runs");
        let mut ran = watched(model, &run, tokens_max)?;
        ran.prompt = prompt;
        ran.kv = model.session().kv_cache_tokens();
        self.report.line(&Line::Ran(label.to_owned(), Box::new(ran.clone())));
        Ok(ran)
    }

    /// The same behind nothing: with an empty cache.
    pub(crate) fn fresh(&mut self, label: &str, run: Run<'_>) -> Result<Ran, Stop> {
        self.clear();
        self.run(label, run)
    }
}

/// Tokens that the thread which aborts may be behind.
const EVENTS_MAX: usize = 1024;

fn watched(model: &mut Experiment, run: &Run<'_>, tokens_max: i32) -> Result<Ran, Stop> {
    let (token, tokens) = mpsc::sync_channel(EVENTS_MAX);
    let asked_at = Mutex::new(None);
    let handle = model.abort_handle();
    thread::scope(|scope| {
        if let Some(abort) = run.abort {
            let (handle, asked_at) = (&handle, &asked_at);
            scope.spawn(move || {
                if !is_time(abort, &tokens) {
                    return;
                }
                asked_at.lock().unwrap_or_else(PoisonError::into_inner).replace(Instant::now());
                loop {
                    handle.abort();
                    if tokens.recv_timeout(ABORT_AGAIN) == Err(RecvTimeoutError::Disconnected) {
                        break;
                    }
                }
            });
        }
        let ran = watch(model, run, tokens_max, &token);
        let returned = Instant::now();
        // So the other thread hears that the run is over.
        drop(token);
        let mut ran = ran?;
        let asked = *asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        ran.abort_ms = asked.map(|asked| ms(returned.saturating_duration_since(asked)));
        Ok(ran)
    })
}

/// Waits until it is time to abort; `false` when the run is over before.
fn is_time(abort: Abort, token: &Receiver<()>) -> bool {
    match abort {
        Abort::Tokens(tokens) => (0..tokens).all(|_| token.recv().is_ok()),
        Abort::After(time) => token.recv_timeout(time) != Err(RecvTimeoutError::Disconnected),
    }
}

fn watch(
    model: &mut Experiment,
    run: &Run<'_>,
    tokens_max: i32,
    token: &SyncSender<()>,
) -> Result<Ran, Stop> {
    let mut ran = Ran::default();
    let mut text = Vec::new();
    let begun = Instant::now();
    let experiment = ExperimentRun {
        input: run.input,
        mode: run.mode,
        keep_history: run.keep_history,
        save: run.save.as_deref(),
        tokens_max,
    };
    let status = model
        .run(&experiment, &mut |called| {
            ran.first_ms.get_or_insert_with(|| ms(begun.elapsed()));
            note(&mut ran, &mut text, called);
            if !called.tokens.is_empty() {
                // Where nobody aborts nobody hears it.
                let _ = token.try_send(());
            }
            match run.pause_after {
                Some(tokens) if ran.tokens.len() >= tokens => Reply::Pause,
                Some(_) | None => Reply::Continue,
            }
        })
        .map_err(|error| error.to_string())?;
    ran.status = Some(status);
    ran.ms = ms(begun.elapsed());
    ran.text = String::from_utf8_lossy(&text).into_owned();
    Ok(ran)
}

fn note(ran: &mut Ran, text: &mut Vec<u8>, called: &Called<'_>) {
    let state = match called.state {
        CallState::Normal => "Normal".to_owned(),
        CallState::Waiting => "Waiting".to_owned(),
        CallState::Finish => "Finish".to_owned(),
        CallState::Error => "Error".to_owned(),
        CallState::Other(number) => number.to_string(),
    };
    if ran.states.last() != Some(&state) {
        ran.states.push(state);
    }
    ran.tokens.extend(called.tokens.first());
    ran.tokens_of_all += called.tokens.iter().filter(|token| **token >= 0).count();
    text.extend_from_slice(called.text);
    if called.width > 0 {
        ran.rows.push(rows(called));
    }
    if let Some(Perf { prefill_ms, prefill_tokens, decode_ms, decode_tokens, .. }) = called.perf {
        ran.perf_prefill_ms = Some(prefill_ms);
        ran.perf_prefill_tokens = Some(prefill_tokens);
        ran.perf_decode_ms = Some(decode_ms);
        ran.perf_decode_tokens = Some(decode_tokens);
    }
}

fn rows(called: &Called<'_>) -> Rows {
    let last = &called.rows[called.rows.len() - called.width..];
    let largest = last.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    let (largest_at, largest) = largest.unwrap_or_default();
    Rows {
        rows: called.rows.len() / called.width,
        width: called.width,
        finite: called.rows.iter().all(|number| number.is_finite()),
        // What is no number has no place in JSON.
        largest: if largest.is_finite() { largest } else { 0.0 },
        largest_at,
        last: last.iter().copied().take(ROW_KEPT).filter(|it| it.is_finite()).collect(),
    }
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
