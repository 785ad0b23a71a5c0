//! A loaded model: safe calls around the vendor's handle.
//!
//! The handle belongs to whoever owns the [`Session`]: everything but aborting takes it by
//! reference, a run by exclusive reference, so no call can reach a handle whose run has not
//! returned.

pub(crate) mod experiment;

use std::{
    ffi::{CStr, CString, c_int, c_void},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr,
    time::{Duration, Instant},
};

use crate::{
    Library, Profile, Sampling,
    abort::AbortHandle,
    callback::{Hidden, Logits, Perf, Piece, Receiver, RunInProgress, on_result},
    params::{self, Extras, Given, Kept},
    raw::{Handle, MODE_GENERATE, MODE_HIDDEN, MODE_LOGITS, ResultCallback, f::SamplingParam},
    table::{GroupFns, Table},
};

/// Entries that `rkllm_get_kv_cache_size` may write: one per batch, and no release has more batches.
/// Ours has one batch; the rest is there in case a release takes its own limit.
const BATCHES_MAX: usize = 100;

/// What to load and how.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadParams {
    /// The `.rkllm` file.
    pub model: PathBuf,
    /// Context in tokens: a multiple of 32, at least 32, at most 16,384.
    pub context_tokens_max: u32,
    /// Sampling where a run does not give its own, or cannot. What is not stated stays the
    /// runtime's own.
    pub sampling: Sampling,
    /// Whether the runtime must not look for the end of sequence itself; see
    /// [`Profile::eos_untrusted`]. Special tokens then arrive with their text.
    pub ignore_eos: bool,
    /// The CPUs the runtime computes on, bit 0 for CPU 0; none leaves the runtime's choice. 1 to 8
    /// of them, and not fewer than the model has NPU cores.
    pub cpu_mask: Option<u32>,
    /// The first address domain of the NPU to put the model into, 0 to 15; none is 0.
    pub base_domain: Option<u8>,
    /// The tokens around and in the place of an image, of a model that is to be shown images. The
    /// runtime's own chat template is then put out of use.
    pub image_tags: Option<ImageTags>,
    /// The adapter that every run is made with, if the model has one.
    pub adapter: Option<Adapter>,
}

/// A LoRA adapter: a file of small weights that change a model's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Its file, which RKLLM-Toolkit makes beside the model's.
    pub file: PathBuf,
    /// What its weights are multiplied with; 1 leaves them as they are.
    pub scale: f32,
}

/// The names of the tokens that the runtime writes where an image stands; each may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageTags {
    /// In front of it.
    pub start: String,
    /// Behind it.
    pub end: String,
    /// In its place, once for each of its vectors.
    pub content: String,
}

/// What a run goes on from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Prompt<'a> {
    /// Token ids.
    Tokens(&'a [i32]),
    /// A text with images in it.
    Pictured(Pictured<'a>),
}

/// A text with images in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pictured<'a> {
    /// The text, with `<image>` in the place of each image. Names of control tokens in it are control
    /// tokens.
    pub text: &'a str,
    /// What the encoder made of the images, one behind the other.
    pub vectors: &'a [f32],
    /// How many images there are.
    pub images: usize,
    /// Vectors of each image.
    pub image_tokens: usize,
    /// Width of an image as the encoder sees it, in pixels.
    pub width: usize,
    /// Its height.
    pub height: usize,
    /// Tokens of all of it, the images' among them.
    pub tokens: usize,
}

impl Prompt<'_> {
    /// How many tokens it has.
    pub const fn len(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Pictured(pictured) => pictured.tokens,
        }
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a model was not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The parameters cannot be right; the runtime was not called.
    #[error("{0}")]
    Invalid(String),
    /// The runtime refused. Its reason stands on its standard output.
    #[error("the runtime refused the model")]
    Refused,
    /// The runtime said that it loaded the model and gave no handle: the NPU has no memory left.
    #[error("the runtime gave no handle: the NPU is out of memory")]
    NoHandle,
    /// The model was loaded, its adapter was not. The runtime's reason stands on its standard output.
    #[error("the runtime refused the adapter {}", .0.display())]
    Adapter(PathBuf),
}

/// A prompt and its limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerateParams<'a> {
    /// The prompt: at least one token, fewer than the context holds.
    pub prompt: Prompt<'a>,
    /// Whether the tokens are appended to what the KV cache holds. Otherwise the runtime looks by
    /// itself how much of the prompt it holds. The two ways must not be mixed on one handle without
    /// [`Session::clear_kv_cache`] in between.
    pub append: bool,
    /// The file to which the runtime saves its KV cache at the end of the run.
    pub save: Option<&'a Path>,
    /// Sampling for this run; ignored where the profile says `sampling_per_run: false`.
    pub sampling: Sampling,
    /// Tokens after which the runtime ends the run, at least 1. Where the profile says
    /// `tokens_max_per_run: false` the caller has to count and abort.
    pub tokens_max: u32,
}

/// A run that ended without an error.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RunEnd {
    /// The runtime's measurements; none after most aborts.
    pub perf: Option<Perf>,
}

/// A run that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The parameters cannot be right; the runtime was not called.
    #[error("{0}")]
    Invalid(String),
    /// The runtime reported an error. Its reason stands on its standard output.
    #[error("the runtime reported an error during the run")]
    Reported,
    /// The runtime refused the run without a report. Its reason stands on its standard output.
    #[error("the runtime refused the run")]
    Refused,
    /// The receiver of the pieces panicked; the run was aborted.
    #[error("the receiver of the pieces panicked: {0}")]
    Panicked(String),
}

/// A loaded model. Dropping it frees the model; that call may hang inside the library.
pub struct Session {
    handle: Handle,
    abort: AbortHandle,
    table: Table,
    profile: &'static Profile,
    context_tokens_max: u32,
    sampling: SamplingParam,
    load_time: Duration,
    /// As [`LoadParams::image_tags`].
    image_tags: Option<[CString; 3]>,
    /// Whether runs are made with the adapter that was loaded.
    has_adapter: bool,
    /// What the library may still look at; freed after the handle.
    _kept: Kept,
}

// SAFETY: the library ties nothing to the thread that created the handle, as long as one thread at a
// time uses it: `generate` takes `&mut self`, and without `Sync` the others cannot run beside it.
unsafe impl Send for Session {}

impl Session {
    /// Loads a model. Blocks for seconds; may block for ever while another process loads one.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(library: &Library, params: &LoadParams) -> Result<Self, LoadError> {
        Self::load_with(library, params, Extras::default(), on_result)
    }

    /// The same, with a callback that every run passes what it needs.
    fn load_with(
        library: &Library,
        params: &LoadParams,
        extras: Extras,
        callback: ResultCallback,
    ) -> Result<Self, LoadError> {
        let profile = library.profile();
        check(profile, params)?;
        let model_path = CString::new(params.model.as_os_str().as_bytes())
            .map_err(|_| LoadError::Invalid("the model's path contains a zero byte".to_owned()))?;
        let adapter = params.adapter.as_ref().map(c_adapter).transpose()?;
        let tags = params.image_tags.as_ref().map(c_tags).transpose()?;
        let table = *library.table();
        let kept = Kept::new(model_path, tags.as_ref(), callback);
        let begun = Instant::now();
        let (status, handle, sampling) = match table.group {
            GroupFns::E { init, .. } => params::init_e(&table, init, params, extras, &kept),
            GroupFns::F { init, .. } => params::init_f(&table, init, params, extras, &kept),
        };
        let load_time = begun.elapsed();
        if status != 0 {
            // The library frees what it made itself, so there is nothing to destroy.
            return Err(LoadError::Refused);
        }
        if handle.is_null() {
            return Err(LoadError::NoHandle);
        }
        let abort = AbortHandle::new(handle, table.abort);
        let context_tokens_max = params.context_tokens_max;
        let session = Self {
            handle,
            abort,
            table,
            profile,
            context_tokens_max,
            sampling,
            load_time,
            image_tags: tags,
            has_adapter: adapter.is_some(),
            _kept: kept,
        };
        if let (Some(adapter), Some((path, scale))) = (&params.adapter, adapter)
            && !session.load_adapter(&path, scale)
        {
            return Err(LoadError::Adapter(adapter.file.clone()));
        }
        Ok(session.without_template())
    }

    /// Loads the adapter for all runs; returns whether the runtime did.
    fn load_adapter(&self, path: &CStr, scale: f32) -> bool {
        let mut adapter = params::adapter(path, scale);
        // SAFETY: the handle is live and idle; the structure and its strings live until the call has
        // returned.
        unsafe { (self.table.load_lora)(self.handle, &raw mut adapter) == 0 }
    }

    /// Puts the runtime's own template out of use where images are shown: their prompts are texts, and it
    /// would be written around them once more.
    fn without_template(self) -> Self {
        if self.image_tags.is_some() {
            let nothing = c"".as_ptr();
            // SAFETY: the handle is live and idle; the strings live for ever. Where the runtime refuses,
            // answers about images suffer and nothing else.
            let _: c_int =
                unsafe { (self.table.set_chat_template)(self.handle, nothing, nothing, nothing) };
        }
        self
    }

    /// What is known of the runtime's release.
    pub const fn profile(&self) -> &'static Profile {
        self.profile
    }

    /// Time from the call of init to its return.
    pub const fn load_time(&self) -> Duration {
        self.load_time
    }

    /// The context that was asked for at load, in tokens.
    pub const fn context_tokens_max(&self) -> u32 {
        self.context_tokens_max
    }

    /// Stops runs of this session, from any thread but the one inside the receiver.
    pub fn abort_handle(&self) -> AbortHandle {
        self.abort.clone()
    }

    /// Answers a prompt; `receiver` gets each token as it is generated. Returns when the library's
    /// own call has returned, and not before: then the handle can be used again.
    ///
    /// After an abort it returns as after an end, or with an error: which of them is the runtime's
    /// affair.
    ///
    /// # Errors
    /// [`RunError`]. After [`RunError::Invalid`] nothing has happened.
    pub fn generate(
        &mut self,
        params: &GenerateParams<'_>,
        receiver: &mut (dyn FnMut(Piece<'_>) + Send),
    ) -> Result<RunEnd, RunError> {
        self.check_run(params)?;
        self.run(MODE_GENERATE, params, Receiver::Pieces(receiver))
    }

    /// Has the model read a text; `receiver` gets the last hidden layer over it, in one piece or in
    /// several. What the KV cache holds is not read again, and there are no rows of it: empty it
    /// first with [`Session::clear_kv_cache`]. Otherwise as [`Session::generate`].
    ///
    /// # Errors
    /// [`RunError`]. After [`RunError::Invalid`] nothing has happened.
    pub fn read(
        &mut self,
        prompt: Prompt<'_>,
        receiver: &mut (dyn FnMut(Hidden<'_>) + Send),
    ) -> Result<RunEnd, RunError> {
        let params = reading(prompt);
        self.check_run(&params)?;
        self.run(MODE_HIDDEN, &params, Receiver::Hidden(receiver))
    }

    /// Has the model read a text; `receiver` gets the logits behind those of its tokens that were
    /// computed. Otherwise as [`Session::read`].
    ///
    /// # Errors
    /// [`RunError`]. After [`RunError::Invalid`] nothing has happened.
    pub fn weigh(
        &mut self,
        tokens: &[i32],
        receiver: &mut (dyn FnMut(Logits<'_>) + Send),
    ) -> Result<RunEnd, RunError> {
        let params = reading(Prompt::Tokens(tokens));
        self.check_run(&params)?;
        self.run(MODE_LOGITS, &params, Receiver::Logits(receiver))
    }

    fn run(
        &mut self,
        mode: c_int,
        params: &GenerateParams<'_>,
        receiver: Receiver<'_>,
    ) -> Result<RunEnd, RunError> {
        let save = params.save.map(c_path).transpose().map_err(RunError::Invalid)?;
        let given = Given::of(&params.prompt).map_err(RunError::Invalid)?;
        let number = self.abort.run_begins();
        let mut run = RunInProgress {
            receiver,
            abort: self.abort.clone(),
            number,
            panic: None,
            failed: false,
            perf: None,
        };
        let status = self.call_run(mode, params, given, save.as_deref(), (&raw mut run).cast());
        self.abort.run_ended();
        outcome(status, run)
    }

    fn call_run(
        &self,
        mode: c_int,
        params: &GenerateParams<'_>,
        mut given: Given,
        save: Option<&CStr>,
        userdata: *mut c_void,
    ) -> c_int {
        let mut cache = save.map(params::save_to);
        let cache = cache.as_mut().map_or(ptr::null_mut(), |cache| &raw mut *cache);
        let mut lora = self.has_adapter.then(params::with_adapter);
        let lora = lora.as_mut().map_or(ptr::null_mut(), |lora| &raw mut *lora);
        match self.table.group {
            GroupFns::E { run, .. } => {
                let mut input = params::input_e(&mut given);
                let mut infer = params::infer_e(mode, params.append, lora, cache);
                // SAFETY: the handle is live (we own it) and idle (`&mut` in `generate`); the
                // structures are this group's and live, like all they point to, until it returns.
                unsafe { run(self.handle, &raw mut input, &raw mut infer, userdata) }
            }
            GroupFns::F { run, .. } => {
                let mut input = params::input_f(&mut given, self.image_tags.as_ref());
                let mut sampling = self.sampling.with(&params.sampling);
                let tokens_max = i32::try_from(params.tokens_max).unwrap_or(i32::MAX);
                let mut infer =
                    params::infer_f(mode, &mut sampling, tokens_max, params.append, lora, cache);
                // SAFETY: as above.
                unsafe { run(self.handle, &raw mut input, &raw mut infer, userdata) }
            }
        }
    }

    fn check_run(&self, params: &GenerateParams<'_>) -> Result<(), RunError> {
        let invalid = |reason: String| Err(RunError::Invalid(reason));
        let context = self.context_tokens_max;
        if params.prompt.is_empty() {
            return invalid("the prompt is empty".to_owned());
        }
        if let Prompt::Pictured(pictured) = &params.prompt {
            self.check_images(pictured)?;
        }
        // The library may crash on a prompt that does not fit.
        if u32::try_from(params.prompt.len()).is_ok_and(|tokens| tokens < context) {
            return if params.tokens_max == 0 {
                invalid("a run needs room for at least one token".to_owned())
            } else {
                Ok(())
            };
        }
        let tokens = params.prompt.len();
        invalid(format!("the prompt has {tokens} tokens, the context holds {context}"))
    }

    /// What the library would crash on, or answer wrongly.
    fn check_images(&self, pictured: &Pictured<'_>) -> Result<(), RunError> {
        let invalid = |reason: String| Err(RunError::Invalid(reason));
        let Pictured { text, vectors, images, image_tokens, tokens, .. } = *pictured;
        if self.image_tags.is_none() {
            return invalid("the model was not loaded to be shown images".to_owned());
        }
        let marks = text.matches(IMAGE_MARK).count();
        if images == 0 || marks != images {
            return invalid(format!("{marks} places for {images} images"));
        }
        let rows = images.saturating_mul(image_tokens);
        if rows == 0 || vectors.is_empty() || !vectors.len().is_multiple_of(rows) || tokens < rows {
            return invalid(format!("{} numbers for {rows} vectors of images", vectors.len()));
        }
        Ok(())
    }

    /// Tokens in the KV cache; none where the runtime does not say.
    pub fn kv_cache_tokens(&self) -> Option<u32> {
        if !self.profile.kv_cache_size {
            return None;
        }
        let mut sizes: [c_int; BATCHES_MAX] = [0; BATCHES_MAX];
        // SAFETY: the handle is live and idle (a run takes `&mut self`); there is room for every
        // batch.
        let status = unsafe { (self.table.kv_cache_size)(self.handle, sizes.as_mut_ptr()) };
        if status == 0 { u32::try_from(sizes[0]).ok() } else { None }
    }

    /// Empties the KV cache but for the system prompt; returns whether the runtime did.
    pub fn clear_kv_cache(&mut self) -> bool {
        const KEEP_SYSTEM: c_int = 1;
        let all: *mut c_int = ptr::null_mut();
        // SAFETY: the handle is live and idle; null ranges mean everything.
        unsafe { (self.table.clear_kv_cache)(self.handle, KEEP_SYSTEM, all, all) == 0 }
    }
}

impl Session {
    /// Fills the KV cache from a file that [`GenerateParams::save`] named; returns whether the
    /// runtime did. Empty the cache first: after an abort this call has ended the process.
    pub fn load_prompt_cache(&mut self, file: &Path) -> bool {
        let Ok(path) = c_path(file) else { return false };
        // SAFETY: the handle is live and idle; the path lives until the call has returned.
        unsafe { (self.table.load_prompt_cache)(self.handle, path.as_ptr()) == 0 }
    }

    /// Lets go of what [`Session::load_prompt_cache`] loaded, once a run has used it.
    pub fn release_prompt_cache(&mut self) -> bool {
        // SAFETY: the handle is live and idle.
        unsafe { (self.table.release_prompt_cache)(self.handle) == 0 }
    }
}

/// A run that reads a text and generates nothing.
const fn reading(prompt: Prompt<'_>) -> GenerateParams<'_> {
    let sampling = Sampling {
        temperature: None,
        top_p: None,
        top_k: None,
        repeat_penalty: None,
        frequency_penalty: None,
        presence_penalty: None,
    };
    GenerateParams { prompt, append: false, save: None, sampling, tokens_max: 1 }
}

/// The mark in a text where an image stands.
const IMAGE_MARK: &str = "<image>";

/// Start, end and content, as the library takes them.
fn c_tags(tags: &ImageTags) -> Result<[CString; 3], LoadError> {
    let tag = |tag: &String| {
        CString::new(tag.as_str())
            .map_err(|_| LoadError::Invalid(format!("a zero byte in the image tag {tag:?}")))
    };
    Ok([tag(&tags.start)?, tag(&tags.end)?, tag(&tags.content)?])
}

/// An adapter's path and scale, as the library takes them.
fn c_adapter(adapter: &Adapter) -> Result<(CString, f32), LoadError> {
    let path = c_path(&adapter.file).map_err(LoadError::Invalid)?;
    if !adapter.scale.is_finite() {
        let scale = adapter.scale;
        return Err(LoadError::Invalid(format!("an adapter's scale of {scale}")));
    }
    Ok((path, adapter.scale))
}

/// A path as the library takes it.
fn c_path(path: &Path) -> Result<CString, String> {
    let bytes = path.as_os_str().as_bytes();
    CString::new(bytes).map_err(|_| format!("a zero byte in the path {}", path.display()))
}

impl Drop for Session {
    fn drop(&mut self) {
        // First nobody may abort any more; the lock is free again before the calls that may hang.
        self.abort.forget();
        // SAFETY: the handle is live and idle.
        let _: c_int = unsafe { (self.table.release_prompt_cache)(self.handle) };
        // SAFETY: last use of the handle, and no copy is left: the abort handle's is null.
        let _: c_int = unsafe { (self.table.destroy)(self.handle) };
    }
}

/// What became of a run whose call has returned.
fn outcome(status: c_int, run: RunInProgress<'_>) -> Result<RunEnd, RunError> {
    if let Some(panic) = run.panic {
        let words = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        return Err(RunError::Panicked(words.unwrap_or_else(|| "no message".to_owned())));
    }
    if run.failed {
        return Err(RunError::Reported);
    }
    if status != 0 {
        return Err(RunError::Refused);
    }
    Ok(RunEnd { perf: run.perf })
}

/// Refuses what the runtime would refuse without a word, or crash on.
fn check(profile: &Profile, params: &LoadParams) -> Result<(), LoadError> {
    let (max, step) = (profile.context_tokens_max, profile.context_tokens_step);
    let context = params.context_tokens_max;
    if context == 0 || context > max || !context.is_multiple_of(step) {
        return Err(LoadError::Invalid(format!(
            "a context of {context} tokens: the runtime takes multiples of {step} up to {max}"
        )));
    }
    if params.ignore_eos && !profile.ignore_eos {
        return Err(LoadError::Invalid(
            "this release of the runtime cannot ignore the end of sequence".to_owned(),
        ));
    }
    if params.cpu_mask.is_some_and(|mask| !(1..=8).contains(&mask.count_ones())) {
        return Err(LoadError::Invalid("the runtime computes on 1 to 8 CPUs".to_owned()));
    }
    if params.base_domain.is_some_and(|domain| domain > 15) {
        return Err(LoadError::Invalid("the NPU's address domains are 0 to 15".to_owned()));
    }
    Ok(())
}
