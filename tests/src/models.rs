//! Model folders for tests: the demo model with another script, another origin, another tokenizer.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::repository;

/// A model's folder in the making.
pub struct ModelDir {
    name: String,
    /// Where tokenizer and settings come from.
    files: PathBuf,
    weights: String,
    /// End-of-sequence ids, and the text that the runtime has.
    toolkit: String,
    manifest: Option<String>,
    script: String,
    weights_name: String,
    eos_ids: Option<Vec<u32>>,
    /// In place of the tokenizer's own.
    template: Option<String>,
    /// Width and number of the outputs of its encoder.
    encoder: Option<(u32, u32)>,
    /// Its networks for pictures of screens.
    pointer: Option<Pointer>,
}

impl ModelDir {
    /// The demo model under a name.
    pub fn demo(name: &str) -> Self {
        let files = repository().join("mock-npu/demo");
        let weights = fs::read_to_string(files.join("demo.rkllm")).unwrap();
        Self {
            name: name.to_owned(),
            files,
            weights,
            toolkit: "1.3.0".to_owned(),
            manifest: None,
            script: String::new(),
            weights_name: format!("{name}.rkllm"),
            eos_ids: None,
            template: None,
            encoder: None,
            pointer: None,
        }
    }

    /// Says that another toolkit made the weights.
    #[must_use]
    pub fn toolkit(mut self, version: &str) -> Self {
        version.clone_into(&mut self.toolkit);
        self
    }

    /// Names the weights' file.
    #[must_use]
    pub fn weights_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.weights_name);
        self
    }

    /// Takes another model's tokenizer, with its end-of-sequence ids.
    #[must_use]
    pub fn tokenizer(mut self, files: &Path, eos_ids: &[u32]) -> Self {
        files.clone_into(&mut self.files);
        self.eos_ids = Some(eos_ids.to_vec());
        self
    }

    /// Writes its prompts with this Jinja template.
    #[must_use]
    pub fn template(mut self, jinja: &str) -> Self {
        self.template = Some(jinja.to_owned());
        self
    }

    /// Has it see: an encoder that makes of 16x16 pixels four vectors of `width` numbers in each of
    /// its `outputs`, and a model that takes 16 numbers of each.
    #[must_use]
    pub fn seeing(mut self, width: u32, outputs: u32) -> Self {
        self.encoder = Some((width, outputs));
        self
    }

    /// Has it find places on pictures of screens, with a Modelfile as the old RKLLama's models have it.
    #[must_use]
    pub fn pointing(mut self, pointer: Pointer) -> Self {
        self.pointer = Some(pointer);
        self
    }

    /// Gives it this manifest.
    #[must_use]
    pub fn manifest(mut self, toml: &str) -> Self {
        self.manifest = Some(toml.to_owned());
        self
    }

    /// Adds to its script.
    #[must_use]
    pub fn script(mut self, toml: &str) -> Self {
        self.script.push_str(toml);
        self.script.push('\n');
        self
    }

    /// Writes the folder below `models`.
    pub fn write(&self, models: &Path) {
        let dir = models.join(&self.name);
        fs::create_dir(&dir).unwrap();
        for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
            let from = self.files.join(file);
            if from.is_file() {
                fs::copy(from, dir.join(file)).unwrap();
            }
        }
        if let Some(template) = &self.template {
            let file = dir.join("tokenizer_config.json");
            let config = fs::read_to_string(&file).unwrap();
            let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
            config["chat_template"] = template.clone().into();
            fs::write(file, config.to_string()).unwrap();
        }
        fs::write(dir.join(&self.weights_name), self.weights_text()).unwrap();
        if let Some((width, outputs)) = self.encoder {
            fs::write(dir.join("vision.rknn"), encoder_text(width, outputs)).unwrap();
        }
        if let Some(pointer) = &self.pointer {
            pointer.write(&dir, &self.weights_name);
        }
        if let Some(manifest) = &self.manifest {
            fs::write(dir.join("rkllama.toml"), manifest).unwrap();
        }
    }

    fn weights_text(&self) -> String {
        let (header, body) = self.weights.split_once('\n').unwrap();
        let mut body: toml::Table = toml::from_str(body).unwrap();
        body.insert("toolkit_version".into(), self.toolkit.clone().into());
        if let Some(ids) = &self.eos_ids {
            let ids: Vec<i64> = ids.iter().copied().map(i64::from).collect();
            body.insert("eos_ids".into(), ids.into());
        }
        if let Some((_, outputs)) = self.encoder {
            let vision = format!(
                "embedding_size = 16\n[vision]\nstart = '<|vision_start|>'\nend = '<|vision_end|>'\n\
                 content = '<|image_pad|>'\nembedding_size = {}\n",
                16 * outputs
            );
            body.extend(toml::from_str::<toml::Table>(&vision).unwrap());
        }
        if self.pointer.is_some() {
            let vision = format!(
                "embedding_size = {width}\n[vision]\nstart = '<|vision_start|>'\n\
                 end = '<|vision_end|>'\ncontent = '<|image_pad|>'\nembedding_size = {width}\n\
                 mrope_patch = 28\n",
                width = Pointer::WIDTH,
            );
            body.extend(toml::from_str::<toml::Table>(&vision).unwrap());
        }
        let script: toml::Table = toml::from_str(&self.script).unwrap();
        body.extend(script);
        format!("{header}\n{body}")
    }
}

/// An encoder that sees 280x224 pixels in 10 columns and 8 rows, and a pointer head behind it.
#[derive(Debug, Clone)]
pub struct Pointer {
    /// Order of the encoder's numbers: `NCHW` or `NHWC`.
    pub order: &'static str,
    /// Patches that the head compares.
    pub patches: u32,
    /// Names of tokens that its tokenizer has besides.
    pub tokens: &'static [&'static str],
}

impl Default for Pointer {
    /// As the makers of GUI-Actor have it.
    fn default() -> Self {
        let tokens = &["<|recipient|>", "<|pointer_start|>", "<|pointer_end|>", "<|pointer_pad|>"];
        Self { order: "NCHW", patches: 80, tokens }
    }
}

impl Pointer {
    /// Numbers of a vector.
    pub const WIDTH: u32 = 256;

    fn write(&self, dir: &Path, weights_name: &str) {
        let Self { order, patches, tokens } = self;
        let width = Self::WIDTH;
        let modelfile = format!(
            "FROM=\"{weights_name}\"\nHUGGINGFACE_PATH=\"microsoft/GUI-Actor\"\n\
             VISION_ENCODER_PATH=\"vision_encoder.rknn\"\nPOINTER_HEAD_PATH=\"pointer_head.rknn\"\n\
             IMAGE_WIDTH=280\nIMAGE_HEIGHT=224\nN_IMAGE_TOKENS=80\n"
        );
        fs::write(dir.join("Modelfile"), modelfile).unwrap();
        let dims = if *order == "NCHW" { "[1, 3, 224, 280]" } else { "[1, 224, 280, 3]" };
        let header = "RKNN-MOCK 1\ntarget_platform = 'RK3588'\nrun_ms = 5\n";
        let encoder = format!(
            "{header}[[input]]\nname = 'pixels'\ndims = {dims}\nfmt = '{order}'\n\
             type = 'float16'\n[[output]]\nname = 'patches'\ndims = [80, {width}]\n"
        );
        fs::write(dir.join("vision_encoder.rknn"), encoder).unwrap();
        let head = format!(
            "{header}kind = 'pointer'\n[[input]]\nname = 'patches'\ndims = [{patches}, {width}]\n\
             type = 'float32'\n[[input]]\nname = 'token'\ndims = [1, {width}]\ntype = 'float32'\n\
             [[output]]\nname = 'scores'\ndims = [1, {patches}]\ntype = 'float32'\n"
        );
        fs::write(dir.join("pointer_head.rknn"), head).unwrap();
        let file = dir.join("tokenizer.json");
        let mut tokenizer: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let added = tokenizer["added_tokens"].as_array_mut().unwrap();
        let mut id = added.iter().filter_map(|token| token["id"].as_u64()).max().unwrap();
        for token in *tokens {
            id += 1;
            added.push(serde_json::json!({
                "id": id, "content": token, "special": true, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            }));
        }
        fs::write(file, tokenizer.to_string()).unwrap();
    }
}

fn encoder_text(width: u32, outputs: u32) -> String {
    let output = format!("[[output]]\nname = 'layer'\ndims = [1, 4, {width}]\n");
    let outputs = usize::try_from(outputs).unwrap();
    format!(
        "RKNN-MOCK 1\ntarget_platform = 'RK3588'\nrun_ms = 5\n[[input]]\nname = 'pixels'\n\
         dims = [1, 16, 16, 3]\nfmt = 'NHWC'\ntype = 'float16'\n{}",
        output.repeat(outputs)
    )
}
