//! The models in the folder, and whether each fits this machine.

use std::{fs, path::Path, sync::Arc};

use rkllama_core::{Model, ModelState, chip_in_name};
use rkllama_engine::{RuntimeChoice, Runtimes};

use super::{check::Check, tuning::size};
use crate::{board::Board, runtimes::Libraries};

const CHECK: &str = "model";

/// The size of a model's weights. `None` where there are none to be read.
pub(super) fn weights_bytes(model: &Model) -> Option<u64> {
    fs::metadata(&model.weights).ok().filter(fs::Metadata::is_file).map(|file| file.len())
}

pub(super) fn checks(
    board: &Board,
    folder: &Path,
    models: &[Arc<Model>],
    libraries: &Libraries,
) -> Vec<Check> {
    if models.is_empty() {
        let found = format!("none in {}", folder.display());
        let why = "each model is a folder with a .rkllm file and the tokenizer of its origin";
        let folder = quoted(&folder.display().to_string());
        let mend = format!(
            "mkdir -p {folder}/NAME && \
             cp MODEL.rkllm tokenizer.json tokenizer_config.json {folder}/NAME/"
        );
        return vec![Check::warn(CHECK, found, why).mend(mend)];
    }
    models.iter().map(|model| check(board, model, libraries).about(&model.id)).collect()
}

/// As one word of a line for the shell.
fn quoted(path: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "/._-+@%,:".contains(letter);
    if path.chars().all(plain) {
        return path.to_owned();
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

fn check(board: &Board, model: &Model, libraries: &Libraries) -> Check {
    if let ModelState::Incomplete(reason) = &model.state {
        return Check::warn(CHECK, "incomplete", reason);
    }
    let weights = weights_bytes(model).map_or("size unknown".to_owned(), size);
    let found = format!("{weights}, context of {} tokens", model.context_tokens_max);
    let here = board.chip.as_ref().map(ToString::to_string);
    let made_for = chip_in_name(&model.weights);
    if let (Some(here), Some(made_for)) = (here, made_for)
        && here != made_for
    {
        let why = format!(
            "its file's name says that it was converted for {made_for}, and this is {here}: a \
             model runs on the chip only for which it was converted"
        );
        return Check::warn(CHECK, found, why);
    }
    let choices = match libraries.choose(model) {
        Ok(choices) => choices,
        // Without any runtime that row says it once.
        Err(_) if libraries.usable().is_empty() => return Check::ok(CHECK, found),
        Err(error) => return Check::warn(CHECK, found, error.to_string()),
    };
    let Some(RuntimeChoice { version, why, doubt, .. }) = choices.into_iter().next() else {
        return Check::ok(CHECK, found);
    };
    let found = format!("{found}, runtime {version}");
    match doubt {
        Some(doubt) => Check::warn(CHECK, found, format!("{why}. {}", doubt.words())),
        None => Check::ok(CHECK, found).because(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_one_word() {
        assert_eq!(quoted("/srv/models-1.0"), "/srv/models-1.0");
        assert_eq!(quoted("/srv/my models"), "'/srv/my models'");
        assert_eq!(quoted("/srv/$(x)'s"), r"'/srv/$(x)'\''s'");
    }
}
