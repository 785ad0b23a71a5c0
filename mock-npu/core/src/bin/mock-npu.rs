//! `mock-npu`: makes models for the mock and lists what it can act out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mock_npu_core::generate::{self, Error, NewModel};

const USAGE: &str = "\
mock-npu new-model FILE.rkllm tokenizer=PATH [KEY=VALUE ...]
    Writes a mock model around a tokenizer.json (relative to the file). Keys: toolkit (1.3.0),
    platform (RK3588), dtype (W8A8), architecture (qwen3), parameters_b (0.6), context (16384),
    eos_ids (comma list; default: the family's tokens in the tokenizer).
mock-npu demo-tokenizer FOLDER
    Trains the demo's tokenizer again and writes FOLDER/tokenizer.json.
mock-npu faults
    Lists the names for MOCK_NPU_FAULTS.
";

fn new_model(file: &Path, settings: &[String]) -> Result<(), Error> {
    let mut model = NewModel::around(Path::new("tokenizer.json"));
    for setting in settings {
        let (key, value) =
            setting.split_once('=').ok_or_else(|| format!("{setting}: KEY=VALUE"))?;
        let value_owned = value.to_owned();
        match key {
            "tokenizer" => model.tokenizer = PathBuf::from(value),
            "toolkit" => model.toolkit = value_owned,
            "platform" => model.platform = value_owned,
            "dtype" => model.dtype = value_owned,
            "architecture" => model.architecture = value_owned,
            "parameters_b" => model.parameters_b = value.parse()?,
            "context" => model.context = value.parse()?,
            "eos_ids" => {
                model.eos_ids = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            other => return Err(format!("{other}: no such key").into()),
        }
    }
    let text = model.text(file.parent().unwrap_or(Path::new(".")))?;
    std::fs::write(file, text)?;
    Ok(())
}

fn run(arguments: &[String]) -> Result<(), Error> {
    match arguments {
        [verb, file, settings @ ..] if verb == "new-model" => new_model(Path::new(file), settings),
        [verb, folder] if verb == "demo-tokenizer" => {
            let text = generate::demo_tokenizer()?;
            Ok(std::fs::write(Path::new(folder).join("tokenizer.json"), text)?)
        }
        [verb] if verb == "faults" => {
            for (name, meaning) in mock_npu_core::FAULTS {
                say(&format!("{name:30}{meaning}\n"))?;
            }
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

fn say(text: &str) -> Result<(), Error> {
    use std::io::Write;
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            // Nobody is left to tell when stderr is closed.
            let _ = std::io::stderr().write_all(format!("{error}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}
