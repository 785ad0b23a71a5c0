//! `RKLLMInput` of any group, and the cells of the cache that it becomes.

use crate::handle::{Handle, Session};
use crate::log;
use crate::rng;

/// Rows of floats in the caller's memory; how wide they are only the model knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub(crate) values: *const f32,
    pub(crate) rows: usize,
}

// SAFETY: read only while the caller keeps the input alive, which the vendor's API demands until
// the run is over, on whatever thread it runs.
unsafe impl Send for Rows {}

impl Rows {
    /// A hash per row: equal rows become equal cells, so that prefixes of images match.
    fn cells(&self, width: usize, seed: u64) -> Vec<u32> {
        (0..self.rows)
            .map(|row| {
                let start = self.values.wrapping_add(row * width);
                let hash = (0..width).fold(seed, |hash, column| {
                    // SAFETY: `rows` times the model's width floats are the caller's duty; as with
                    // the vendor's library, embeddings of a narrower model end in a fault here.
                    let value = unsafe { start.wrapping_add(column).read_unaligned() };
                    rng::mix(hash, u64::from(value.to_bits()))
                });
                EMBEDDED | hash as u32
            })
            .collect()
    }
}

/// Marks a cell of the cache that holds an embedding and no token.
pub(crate) const EMBEDDED: u32 = 1 << 31;

/// An image prompt.
#[derive(Clone, Debug)]
pub(crate) struct Multimodal {
    pub(crate) role: Option<Vec<u8>>,
    pub(crate) enable_thinking: bool,
    pub(crate) text: Vec<u8>,
    pub(crate) embed: *const f32,
    pub(crate) n_image_tokens: usize,
    pub(crate) n_image: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Start, end and content, where they come with the input.
    pub(crate) tags: Option<[Vec<u8>; 3]>,
    pub(crate) has_video: bool,
}

// SAFETY: as for `Rows`.
unsafe impl Send for Multimodal {}

/// What to run on.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Prompt { role: Option<Vec<u8>>, enable_thinking: bool, text: Vec<u8> },
    Tokens(Vec<i32>),
    Embed(Rows),
    Multimodal(Multimodal),
}

/// Where an image stands in a prompt.
const IMAGE_MARK: &str = "<image>";

/// Cells of an input, and how many of them are the system prompt.
pub(crate) struct Cells {
    pub(crate) cells: Vec<u32>,
    pub(crate) system_len: usize,
}

/// Turns an input into cells; the error is the vendor's line.
pub(crate) fn cells_of(
    handle: &Handle,
    session: &mut Session,
    input: &Input,
    keep_history: bool,
) -> Result<Cells, String> {
    match input {
        Input::Tokens(ids) => {
            let vocab_len = handle.model.language.vocab_len();
            let known = |id: &i32| u32::try_from(*id).ok().filter(|id| (*id as usize) < vocab_len);
            let cells = ids.iter().map(known).collect::<Option<Vec<u32>>>();
            let ids = cells.ok_or("invalid token id in token_input")?;
            Ok(Cells { cells: embed(handle, session, ids)?, system_len: 0 })
        }
        Input::Prompt { role, enable_thinking, text } => {
            let text = String::from_utf8_lossy(text);
            let (system, turn) =
                render(session, role.as_deref(), *enable_thinking, &text, keep_history);
            let mut ids = tokenize(handle, &system)?;
            let system_len = ids.len();
            ids.extend(tokenize(handle, &turn)?);
            Ok(Cells { cells: embed(handle, session, ids)?, system_len })
        }
        Input::Embed(rows) => {
            let width = handle.model.file.embedding_size as usize;
            Ok(Cells { cells: rows.cells(width, 0), system_len: 0 })
        }
        Input::Multimodal(media) => multimodal_cells(handle, session, media, keep_history),
    }
}

fn tokenize(handle: &Handle, text: &str) -> Result<Vec<u32>, String> {
    if !handle.model.file.external_tokenizer {
        return Ok(handle.model.vocabulary.encode(text));
    }
    let ids = handle.services.tokenize(text, handle.param.max_context_len as usize);
    ids.ok_or_else(|| "the tokenizer callback failed".to_owned())
}

/// Cells of ids: the ids themselves, or the caller's embeddings of them.
pub(crate) fn embed(
    handle: &Handle,
    session: &mut Session,
    ids: Vec<u32>,
) -> Result<Vec<u32>, String> {
    if !handle.model.file.external_embedding || ids.is_empty() {
        return Ok(ids);
    }
    let width = handle.model.file.embedding_size as usize;
    let values = handle.services.embed(&ids, width).ok_or("the embedding callback failed")?;
    let cells = Rows { values: values.as_ptr(), rows: ids.len() }.cells(width, 2);
    session.embedded.extend(cells.iter().copied().zip(ids));
    Ok(cells)
}

/// The template around a prompt: its system part only where a conversation begins.
fn render(
    session: &Session,
    role: Option<&[u8]>,
    enable_thinking: bool,
    text: &str,
    keep_history: bool,
) -> (String, String) {
    let template = &session.template;
    let goes_on = keep_history && session.last_keep_history && !session.kv.is_empty();
    let system = if goes_on { String::new() } else { template.system.clone() };
    let is_tool = role == Some(b"tool".as_slice());
    let (prefix, postfix) = match (is_tool, &template.tool_prefix, &template.tool_postfix) {
        (true, Some(prefix), Some(postfix)) => (prefix, postfix),
        _ => (&template.prefix, &template.postfix),
    };
    let off =
        if enable_thinking || session.template_is_custom { "" } else { &template.no_thinking };
    (system, format!("{prefix}{text}{postfix}{off}"))
}

fn multimodal_cells(
    handle: &Handle,
    session: &Session,
    media: &Multimodal,
    keep_history: bool,
) -> Result<Cells, String> {
    let text = String::from_utf8_lossy(&media.text);
    let marks = text.matches(IMAGE_MARK).count();
    if marks == 0 {
        return Err("multimodal input must contain the <image> tag, for plain text input, please \
                    use prompt_input"
            .to_owned());
    }
    if media.n_image_tokens == 0 || media.n_image == 0 || marks != media.n_image {
        return Err("The n_image/n_image_token of multimodal_input is not set".to_owned());
    }
    if media.embed.is_null() {
        return Err("The image_embed of multimodal_input is empty".to_owned());
    }
    if media.has_video {
        return Err("video input is not supported by this mock".to_owned());
    }
    check_patches(handle, media)?;
    let vision = handle.model.file.vision.as_ref();
    let width = vision.map_or(handle.model.file.embedding_size, |vision| vision.embedding_size);
    let rows = Rows { values: media.embed, rows: media.n_image * media.n_image_tokens };
    let images = rows.cells(width as usize, 1);
    if log::level() >= 2 && images.iter().all(|cell| session.kv.contains(cell)) {
        let total = images.len();
        log::info(&format!("match same image, so keep the image_embed cache, total {total}"));
    }
    let (system, turn) =
        render(session, media.role.as_deref(), media.enable_thinking, &text, keep_history);
    let mut cells = handle.model.vocabulary.encode(&system);
    let system_len = cells.len();
    let tags = tags_of(handle, media);
    for (index, part) in turn.split(IMAGE_MARK).enumerate() {
        if index > 0 {
            cells.extend(handle.model.vocabulary.encode(&tags[0]));
            let start = (index - 1) * media.n_image_tokens;
            cells.extend(images.iter().skip(start).take(media.n_image_tokens));
            cells.extend(handle.model.vocabulary.encode(&tags[1]));
        }
        cells.extend(handle.model.vocabulary.encode(part));
    }
    Ok(Cells { cells, system_len })
}

/// Models with mrope place their tokens by the image's size.
fn check_patches(handle: &Handle, media: &Multimodal) -> Result<(), String> {
    let patch = handle.model.file.vision.as_ref().and_then(|vision| vision.mrope_patch);
    let Some(patch) = patch.map(|patch| patch.max(1) as usize) else { return Ok(()) };
    let (h, w) = (media.height / patch, media.width / patch);
    if h * w == media.n_image_tokens {
        return Ok(());
    }
    Err(format!("patch_h[{h}] * patch_w[{w}] != n_image_token[{}]!", media.n_image_tokens))
}

fn tags_of(handle: &Handle, media: &Multimodal) -> [String; 2] {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let init = || {
        let tags = handle.param.image_tags.as_ref()?;
        Some([text(tags[0].as_deref()?), text(tags[1].as_deref()?)])
    };
    let own = media.tags.as_ref().map(|[start, end, _]| [text(start), text(end)]);
    own.or_else(init).unwrap_or_default()
}
