//! How a model sees: the encoder in its folder, and the names of the tokens around an image.
//!
//! Each family has its own; what no family is known for has to stand in the manifest.

use std::path::{Path, PathBuf};

use rkllama_core::{ImageTags, Normalise, PointerHead, Vision};

use crate::files::ENCODER_EXTENSION;

/// What manifest or Modelfile say of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct VisionSettings {
    /// The encoder, relative to the model's folder.
    pub(crate) encoder: Option<PathBuf>,
    /// The network that finds a place in an image, which is no encoder.
    pub(crate) pointer_head: Option<PathBuf>,
    pub(crate) start: Option<String>,
    pub(crate) end: Option<String>,
    pub(crate) content: Option<String>,
    pub(crate) fill: Option<u8>,
    pub(crate) normalise: Option<Normalise>,
    pub(crate) image_tokens: Option<u32>,
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
}

impl VisionSettings {
    /// Fills what is unset from `lower`.
    pub(crate) fn or(self, lower: Self) -> Self {
        Self {
            encoder: self.encoder.or(lower.encoder),
            pointer_head: self.pointer_head.or(lower.pointer_head),
            start: self.start.or(lower.start),
            end: self.end.or(lower.end),
            content: self.content.or(lower.content),
            fill: self.fill.or(lower.fill),
            normalise: self.normalise.or(lower.normalise),
            image_tokens: self.image_tokens.or(lower.image_tokens),
            width: self.width.or(lower.width),
            height: self.height.or(lower.height),
        }
    }
}

/// What 127.5, the grey that pictures are filled up with, becomes as a byte in the vendor's example.
const FILL: u8 = 128;
/// The same where NumPy made a byte of it, in front of dots.ocr.
const CUT_FILL: u8 = 127;
/// Words in names of models whose encoders are made without normalising.
const NOT_NORMALISED: &[&str] = &["dots", "ocr"];

/// CLIP's numbers, by which pictures of screens are normalised in front of the encoder.
const CLIP: Normalise = Normalise {
    mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
    std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
};

/// Words in names of models, and the tokens that the family has around and in the place of an image.
const FAMILIES: &[(&[&str], [&str; 3])] = &[
    (&["qwen", "vl"], ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]),
    (&["qwen3.5"], ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]),
    (&["gui", "actor"], ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]),
    (&["internvl"], ["<img>", "</img>", "<IMG_CONTEXT>"]),
    (&["minicpm", "v"], ["<image>", "</image>", "<unk>"]),
    (&["deepseek", "ocr"], ["", "", "<\u{ff5c}\u{2581}pad\u{2581}\u{ff5c}>"]),
    (&["dots", "ocr"], ["<|img|>", "<|endofimg|>", "<|imgpad|>"]),
    (&["smolvlm"], ["<fake_token_around_image>", "<fake_token_around_image>", "<image>"]),
];

/// Words in names of models, and how a conversation is written for them: their makers ship no template.
/// DeepSeek-OCR is asked in plain text, dots.ocr answers behind a token.
const TEMPLATES: &[(&[&str], &str)] = &[
    (&["deepseek", "ocr"], "{% for message in messages %}{{ message['content'] }}{% endfor %}"),
    (
        &["dots", "ocr"],
        "{% for message in messages %}{% if message['role'] == 'assistant' %}<|assistant|>{% endif %}\
         {{ message['content'] }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    ),
];

/// The template of a model with one of these names, for where its files have none.
pub(crate) fn template(names: &[&str]) -> Option<&'static str> {
    TEMPLATES.iter().find(|(words, _)| is_called(names, words)).map(|(_, template)| *template)
}

/// How the model in this folder sees; the error says what is missing. `names` are the model's and its
/// weights'.
pub(crate) fn vision(
    folder: &Path,
    stated: &VisionSettings,
    names: &[&str],
) -> Result<Option<Vision>, String> {
    let Some(encoder) = encoder(folder, stated)? else { return Ok(None) };
    let family = family(names);
    let tag = |stated: &Option<String>, place: usize| {
        stated.clone().or_else(|| family.map(|tags| tags[place].to_owned()))
    };
    let tags = (tag(&stated.start, 0), tag(&stated.end, 1), tag(&stated.content, 2));
    let (Some(start), Some(end), Some(content)) = tags else {
        let file = encoder.file_name().map(|name| name.display().to_string()).unwrap_or_default();
        return Err(format!(
            "{file} makes vectors of images, and the tokens around an image are not known for this \
             model: name them with `image_start`, `image_end` and `image_content` under [vision]"
        ));
    };
    let pointer_head = pointer_head(folder, stated)?;
    let is_bare = is_called(names, NOT_NORMALISED);
    Ok(Some(Vision {
        encoder_bytes: bytes_of(&encoder),
        encoder,
        tags: ImageTags { start, end, content },
        fill: stated.fill.unwrap_or(if is_bare { CUT_FILL } else { FILL }),
        normalise: stated.normalise.or((is_bare || pointer_head.is_some()).then_some(CLIP)),
        image_tokens: stated.image_tokens,
        sizes: (stated.width, stated.height),
        pointer_head,
    }))
}

fn bytes_of(file: &Path) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}

/// The network that finds places, if one is named.
fn pointer_head(folder: &Path, stated: &VisionSettings) -> Result<Option<PointerHead>, String> {
    let Some(named) = &stated.pointer_head else { return Ok(None) };
    let file = folder.join(named);
    if file.is_file() {
        return Ok(Some(PointerHead { bytes: bytes_of(&file), file }));
    }
    Err(format!("no file {} in {}", named.display(), folder.display()))
}

/// The encoder that is named, else the only network in the folder that nothing else is named for.
fn encoder(folder: &Path, stated: &VisionSettings) -> Result<Option<PathBuf>, String> {
    if let Some(named) = &stated.encoder {
        let path = folder.join(named);
        if path.is_file() {
            return Ok(Some(path));
        }
        return Err(format!("no file {} in {}", named.display(), folder.display()));
    }
    let Ok(entries) = folder.read_dir() else { return Ok(None) };
    let head = stated.pointer_head.as_ref().map(|head| folder.join(head));
    let is_network = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|it| it.eq_ignore_ascii_case(ENCODER_EXTENSION)) && path.is_file()
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_network(path) && Some(path) != head.as_ref())
        .collect();
    found.sort_unstable();
    match found.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        several => {
            let names = several.iter().filter_map(|path| path.file_name());
            let names: Vec<String> = names.map(|name| name.display().to_string()).collect();
            Err(format!(
                "several networks ({}): name the one that sees with `encoder` under [vision]",
                names.join(", ")
            ))
        }
    }
}

fn family(names: &[&str]) -> Option<&'static [&'static str; 3]> {
    FAMILIES.iter().find(|(words, _)| is_called(names, words)).map(|(_, tags)| tags)
}

/// Whether one of the names has all the words.
fn is_called(names: &[&str], words: &[&str]) -> bool {
    let has = |name: &str| words.iter().all(|word| name.contains(word));
    names.iter().any(|name| has(&name.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(folder.path().join(file), "12345").unwrap();
        }
        folder
    }

    #[test]
    fn the_encoder_of_dots_ocr_is_given_numbers_unless_somebody_says_otherwise() {
        let folder = folder(&["a.rkllm", "vision.rknn"]);
        let seen = |name: &str, stated: &VisionSettings| {
            vision(folder.path(), stated, &[name]).unwrap().unwrap()
        };
        let none = VisionSettings::default();
        let dots = seen("dots.ocr-W8A8", &none);
        assert_eq!((dots.fill, dots.normalise), (127, Some(CLIP)));
        let other = seen("DeepSeek-OCR", &none);
        assert_eq!((other.fill, other.normalise), (128, None));
        let raw = Normalise { mean: [0.0; 3], std: [1.0; 3] };
        let stated = VisionSettings { fill: Some(0), normalise: Some(raw), ..none };
        let dots = seen("dots.ocr", &stated);
        assert_eq!((dots.fill, dots.normalise), (0, Some(raw)));
    }

    #[test]
    fn families_are_known_by_their_names() {
        let folder = folder(&["a.rkllm", "vision.rknn"]);
        let start = |name: &str| {
            let seen = vision(folder.path(), &VisionSettings::default(), &[name]);
            seen.map(|seen| seen.unwrap().tags.start)
        };
        for (name, expected) in [
            ("Qwen2.5-VL-3B_W8A8_RK3588", "<|vision_start|>"),
            ("qwen3-vl-2b", "<|vision_start|>"),
            ("InternVL3-1B", "<img>"),
            ("MiniCPM-V-2_6", "<image>"),
            ("DeepSeek-OCR-3B", ""),
            ("dots.ocr", "<|img|>"),
            ("SmolVLM-256M", "<fake_token_around_image>"),
        ] {
            assert_eq!(start(name).as_deref(), Ok(expected), "{name}");
        }
        assert!(start("demo").unwrap_err().contains("`image_start`"), "no family is guessed");
    }

    #[test]
    fn what_is_stated_wins_and_stands_for_a_family() {
        let folder = folder(&["a.rkllm", "vision.rknn"]);
        let stated = VisionSettings {
            start: Some("<s>".to_owned()),
            end: Some(String::new()),
            content: Some("<c>".to_owned()),
            image_tokens: Some(64),
            ..VisionSettings::default()
        };
        let seen = vision(folder.path(), &stated, &["Qwen3-VL"]).unwrap().unwrap();
        let tags = ImageTags { start: "<s>".into(), end: String::new(), content: "<c>".into() };
        assert_eq!((seen.tags, seen.fill, seen.image_tokens), (tags, FILL, Some(64)));
        assert_eq!(seen.encoder_bytes, 5);
    }

    #[test]
    fn one_network_is_the_encoder_and_several_have_to_be_told_apart() {
        let stated = VisionSettings::default();
        let names = ["qwen3-vl"];
        let none = folder(&["a.rkllm"]);
        assert_eq!(vision(none.path(), &stated, &names), Ok(None));
        let two = folder(&["eye.rknn", "head.rknn"]);
        let fault = vision(two.path(), &stated, &names).unwrap_err();
        assert!(fault.starts_with("several networks (eye.rknn, head.rknn)"), "{fault}");
        let pointer = VisionSettings { pointer_head: Some("head.rknn".into()), ..stated.clone() };
        let seen = vision(two.path(), &pointer, &names).unwrap().unwrap();
        assert_eq!(seen.encoder, two.path().join("eye.rknn"));
        let named = VisionSettings { encoder: Some("nose.rknn".into()), ..stated };
        let fault = vision(two.path(), &named, &names).unwrap_err();
        assert!(fault.starts_with("no file nose.rknn in"), "{fault}");
    }
}
