//! Whether prompt-cache files hold what they should.

use std::{fs::File, io::Read, path::Path};

use crate::{
    bench::{Bench, Load, Run, Stop},
    experiments::nothing_in_the_way,
    judge::{Experiment, Step, Verdict, explains_kv, is_same, step, trouble},
    seen::{Seen, Subject},
};

/// Tokens of each answer.
const TOKENS_MAX: i32 = 16;
/// The file that is saved by one process and loaded by another.
const FILE: &str = "prompt.cache";
/// Tokens that are read of a file's head: no context is longer.
const HEAD_TOKENS_MAX: u32 = 16_384;

pub(super) const SAVED_PROMPTS: Experiment = Experiment {
    name: "saved-prompts",
    question: "Can a prompt's computation be saved to a file and used by another process, and what \
               stands in that file's head?",
    how: "a prompt is saved; another process loads it and goes on with it: the answer must be that of \
          an empty cache, and less computed",
    is_dangerous: false,
    obstacle: nothing_in_the_way,
    steps: |_| vec![Step::new("save", save), Step::new("load", load)],
    judge,
};

/// The first words of a file and the tokens behind them.
pub(super) fn head(file: &Path) -> Option<([u32; 3], Vec<i32>)> {
    let mut file = File::open(file).ok()?;
    let mut word = || {
        let mut bytes = [0; 4];
        file.read_exact(&mut bytes).ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    let words = [word()?, word()?, word()?];
    let tokens = (0..words[2].min(HEAD_TOKENS_MAX))
        .map(|_| Some(word()?.cast_signed()))
        .collect::<Option<_>>()?;
    Some((words, tokens))
}

fn save(bench: &mut Bench) -> Result<(), Stop> {
    bench.load(&Load::to(1))?;
    let prompt = bench.subject().material.long.clone();
    let file = bench.file(FILE);
    // Of an earlier model.
    let _ = std::fs::remove_file(&file);
    bench.run("saving", Run::tokens(&prompt).saving(file.clone()))?;
    bench.figure("file_bytes", std::fs::metadata(&file).map(|it| it.len()).ok());
    let Some((words, tokens)) = head(&file) else { return Ok(()) };
    bench.figure("file_words", words);
    bench.figure("file_tokens", tokens.len());
    bench.figure("file_has_prompt", tokens.starts_with(&prompt) || prompt.starts_with(&tokens));
    Ok(())
}

fn load(bench: &mut Bench) -> Result<(), Stop> {
    bench.load(&Load::to(TOKENS_MAX))?;
    let material = bench.subject().material.clone();
    let goes_on = [&material.long[..], &material.follow_up].concat();
    bench.fresh("alone", Run::tokens(&goes_on))?;
    bench.clear();
    let file = bench.file(FILE);
    if !file.exists() {
        return Err("there is no file".to_owned());
    }
    let taken = bench.load_cache(&file);
    bench.figure("taken", taken);
    if !taken {
        return Ok(());
    }
    let kv = bench.kv();
    bench.figure("kv_tokens_loaded", kv);
    bench.run("behind the file", Run::tokens(&goes_on))?;
    let released = bench.release_cache();
    bench.figure("released", released);
    bench.fresh("another behind it", Run::tokens(&material.questions[0]))?;
    Ok(())
}

fn judge(_: &Subject, seen: &[Seen]) -> Verdict {
    let (Some(saved), Some(loaded)) = (step(seen, "save"), step(seen, "load")) else {
        return Verdict::undecided("nothing was seen");
    };
    let decided = |usable: bool, words: String| Verdict::decided("saved_prompts", usable, words);
    let verdict = match (saved.ran("saving"), loaded.ran("alone")) {
        // Nothing is said about files where not even a run without one comes to its end.
        (None, _) | (_, None) => Verdict::undecided(trouble(seen).unwrap_or_default()),
        (Some(saving), Some(alone)) => {
            let behind = loaded.ran("behind the file");
            if !saving.is_good() || saved.figures.get("file_bytes").is_none_or(|it| it.is_null()) {
                decided(false, "no file was written".to_owned())
            } else if saved.figures.get("file_has_prompt").is_some_and(|it| it == false) {
                decided(false, "the file names other tokens than the prompt's".to_owned())
            } else if let Some(trouble) = loaded.trouble() {
                decided(false, trouble)
            } else if let Some(behind) = behind {
                let right = behind.is_good()
                    && is_same(&behind.tokens, &alone.tokens)
                    && explains_kv(behind, 0);
                let words = if right { "as" } else { "otherwise than" };
                decided(right, format!("behind the file it answers {words} behind nothing"))
            } else {
                decided(false, "the file was not taken".to_owned())
            }
        }
    };
    let mut verdict = verdict;
    verdict.figures.extend(saved.figures.clone());
    verdict.figures.extend(loaded.figures.clone());
    let first = |label| loaded.ran(label).and_then(|ran| ran.first_ms);
    verdict
        .figure("first_ms_alone", first("alone"))
        .figure("first_ms_behind", first("behind the file"))
}
