//! What the worker's loop needs of a runtime: a seam, so that the loop is tested without a library.

use std::path::Path;

use rkllama_npu::{
    AbortHandle, Adapter, GenerateParams, Hidden, ImageTags, Library, LoadParams, Logits, Piece,
    Profile, Prompt, RunEnd, RunError, Sampling, Session,
};
use rkllama_protocol::{Load, RunSampling, Vision};

use crate::sight::{Eyes, Sight};

/// Loads models.
pub(crate) trait Runtime: Send + 'static {
    /// A loaded model.
    type Model: Model;

    /// Opens the library and loads the model; blocks. The error names what is wrong.
    fn load(&mut self, load: &Load) -> Result<Self::Model, String>;
}

/// A loaded model. Used by one thread; dropping it frees it.
pub(crate) trait Model {
    /// The runtime's release.
    fn version(&self) -> &str;
    /// What is known of that release.
    fn profile(&self) -> &'static Profile;
    /// Time that the runtime took to load, in milliseconds.
    fn load_ms(&self) -> u64;
    /// Aborts the run that is under way, if one is; called from another thread.
    fn aborter(&self) -> Box<dyn Fn() + Send>;
    /// As [`Session::generate`].
    fn generate(
        &mut self,
        params: &GenerateParams<'_>,
        receiver: &mut (dyn FnMut(Piece<'_>) + Send),
    ) -> Result<RunEnd, RunError>;
    /// As [`Session::read`].
    fn read(
        &mut self,
        prompt: Prompt<'_>,
        receiver: &mut (dyn FnMut(Hidden<'_>) + Send),
    ) -> Result<RunEnd, RunError>;
    /// As [`Session::weigh`].
    fn weigh(
        &mut self,
        tokens: &[i32],
        receiver: &mut (dyn FnMut(Logits<'_>) + Send),
    ) -> Result<RunEnd, RunError>;
    /// As [`Session::kv_cache_tokens`].
    fn kv_cache_tokens(&self) -> Option<u32>;
    /// As [`Session::clear_kv_cache`].
    fn clear_kv_cache(&mut self) -> bool;
    /// As [`Session::load_prompt_cache`].
    fn load_prompt_cache(&mut self, file: &Path) -> bool;
    /// As [`Session::release_prompt_cache`].
    fn release_prompt_cache(&mut self) -> bool;
    /// What makes vectors of images, where the model sees.
    fn sight(&mut self) -> Option<&mut dyn Sight>;
}

/// The vendor's library.
pub(crate) struct Vendor;

/// A model loaded by the vendor's library.
pub(crate) struct VendorModel {
    version: String,
    session: Session,
    eyes: Option<Eyes>,
}

impl Runtime for Vendor {
    type Model = VendorModel;

    fn load(&mut self, load: &Load) -> Result<VendorModel, String> {
        let library = Library::open(&load.runtime).map_err(|err| err.to_string())?;
        let params = LoadParams {
            model: load.model.clone(),
            context_tokens_max: load.context_tokens_max,
            sampling: sampling(&load.sampling),
            ignore_eos: load.ignore_eos,
            cpu_mask: None,
            base_domain: Some(load.base_domain),
            image_tags: load.vision.as_ref().map(tags),
            adapter: load.adapter.clone().map(|it| Adapter { file: it.file, scale: it.scale }),
        };
        let mut session = Session::load(&library, &params).map_err(|err| err.to_string())?;
        // Behind the model: what the runtime says of that is then known whatever becomes of this.
        let eyes = match &load.vision {
            None => None,
            Some(vision) => {
                let eyes = Eyes::open(load, vision)?;
                if vision.ask_width {
                    fits(&mut session, &eyes, vision)?;
                }
                Some(eyes)
            }
        };
        Ok(VendorModel { version: library.inspection().version.clone(), session, eyes })
    }
}

impl Model for VendorModel {
    fn version(&self) -> &str {
        &self.version
    }

    fn profile(&self) -> &'static Profile {
        self.session.profile()
    }

    fn load_ms(&self) -> u64 {
        u64::try_from(self.session.load_time().as_millis()).unwrap_or(u64::MAX)
    }

    fn aborter(&self) -> Box<dyn Fn() + Send> {
        let abort: AbortHandle = self.session.abort_handle();
        Box::new(move || {
            abort.abort();
        })
    }

    fn generate(
        &mut self,
        params: &GenerateParams<'_>,
        receiver: &mut (dyn FnMut(Piece<'_>) + Send),
    ) -> Result<RunEnd, RunError> {
        self.session.generate(params, receiver)
    }

    fn read(
        &mut self,
        prompt: Prompt<'_>,
        receiver: &mut (dyn FnMut(Hidden<'_>) + Send),
    ) -> Result<RunEnd, RunError> {
        self.session.read(prompt, receiver)
    }

    fn weigh(
        &mut self,
        tokens: &[i32],
        receiver: &mut (dyn FnMut(Logits<'_>) + Send),
    ) -> Result<RunEnd, RunError> {
        self.session.weigh(tokens, receiver)
    }

    fn kv_cache_tokens(&self) -> Option<u32> {
        self.session.kv_cache_tokens()
    }

    fn clear_kv_cache(&mut self) -> bool {
        self.session.clear_kv_cache()
    }

    fn load_prompt_cache(&mut self, file: &Path) -> bool {
        self.session.load_prompt_cache(file)
    }

    fn release_prompt_cache(&mut self) -> bool {
        self.session.release_prompt_cache()
    }

    fn sight(&mut self) -> Option<&mut dyn Sight> {
        self.eyes.as_mut().map(|eyes| eyes as &mut dyn Sight)
    }
}

/// Whether the encoder's vectors are as wide as the model, which is asked by having it read one token:
/// others would end the process in the middle of an answer.
fn fits(session: &mut Session, eyes: &Eyes, vision: &Vision) -> Result<(), String> {
    let mut width = None;
    let asked = session.read(Prompt::Tokens(&[0]), &mut |hidden| width = Some(hidden.width));
    session.clear_kv_cache();
    match (asked, width) {
        (Ok(_), Some(width)) if width != eyes.width() => Err(format!(
            "{} makes vectors of {} numbers, and the model takes {width}: it belongs to another model",
            vision.encoder.display(),
            eyes.width()
        )),
        // A release that cannot tell is not a reason to refuse.
        _ => Ok(()),
    }
}

fn tags(vision: &Vision) -> ImageTags {
    let Vision { start, end, content, .. } = vision.clone();
    ImageTags { start, end, content }
}

/// The frame's sampling in the domain's terms.
pub(crate) const fn sampling(of: &RunSampling) -> Sampling {
    Sampling {
        temperature: Some(of.temperature),
        top_p: Some(of.top_p),
        top_k: of.top_k,
        repeat_penalty: Some(of.repeat_penalty),
        frequency_penalty: Some(of.frequency_penalty),
        presence_penalty: Some(of.presence_penalty),
    }
}
