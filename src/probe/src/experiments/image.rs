//! Whether an image is taken for the one before it.

use crate::{
    bench::{Bench, Load, Picture, Run, Stop},
    judge::{Experiment, Step, Verdict, is_same, step, trouble},
    seen::{Ran, Seen, Subject},
};

/// Tokens of each answer.
const TOKENS_MAX: i32 = 16;
/// Vectors of an image: what models make of one of 448 pixels by 448.
const ROWS: usize = 196;

pub(super) const STALE_IMAGE: Experiment = Experiment {
    name: "stale-image",
    question: "Is an image taken for the one before it, where only the image differs?",
    how: "the same question is asked about two images made of numbers, behind one another and behind \
          an empty cache",
    is_dangerous: false,
    obstacle: |subject| {
        let without = "the vocabulary has no tokens for images".to_owned();
        subject.material.image_tags.is_none().then_some(without)
    },
    steps: |_| vec![Step::new("images", images)],
    judge,
};

/// How wide the model is, from a row of its hidden layer.
fn ask_width(bench: &mut Bench) -> Result<usize, Stop> {
    bench.load(&Load::to(1))?;
    let text = bench.subject().material.of_len(1);
    let ran = bench.fresh("row", Run::tokens(&text).hidden())?;
    let width = ran.rows.last().map(|rows| rows.width).ok_or("it does not tell how wide it is")?;
    bench.figure("width", width);
    Ok(width)
}

/// Numbers as an encoder's are: small, of both signs, the same for the same image.
fn vectors(image: u32, width: usize) -> Vec<f32> {
    let mut state = image;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let share = f32::from(u16::try_from(state >> 16).unwrap_or(0)) / f32::from(u16::MAX);
        (share - 0.5) * 0.5
    };
    (0..ROWS * width).map(|_| next()).collect()
}

fn images(bench: &mut Bench) -> Result<(), Stop> {
    let width = ask_width(bench)?;
    let image_tags = bench.subject().material.image_tags.clone();
    bench.load(&Load { image_tags, ..Load::to(TOKENS_MAX) })?;
    let (one, other) = (vectors(1, width), vectors(2, width));
    let text = bench.subject().material.picture.clone();
    let of = |vectors| Picture { text: &text, vectors, rows: ROWS };
    bench.fresh("one alone", Run::picture(&of(&one)))?;
    bench.run("other behind one", Run::picture(&of(&other)))?;
    bench.fresh("other alone", Run::picture(&of(&other)))?;
    bench.run("one behind other", Run::picture(&of(&one)))?;
    Ok(())
}

fn judge(_: &Subject, seen: &[Seen]) -> Verdict {
    let images = step(seen, "images");
    let ran = |label| images.and_then(|seen| seen.ran(label)).filter(|ran| ran.is_good());
    let all = ["one alone", "other alone", "other behind one", "one behind other"].map(ran);
    let [Some(one), Some(other), Some(other_behind), Some(one_behind)] = all else {
        return Verdict::undecided(
            trouble(seen).unwrap_or_else(|| "it does not answer about images".to_owned()),
        );
    };
    let verdict = if one.tokens.is_empty() || other.tokens.is_empty() {
        Verdict::undecided("it says nothing about images")
    } else if is_same(&one.tokens, &other.tokens) {
        Verdict::undecided("both images are answered alike in any case")
    } else {
        let stale = |behind: &Ran, own: &Ran, before: &Ran| {
            is_same(&behind.tokens, &before.tokens) && !is_same(&behind.tokens, &own.tokens)
        };
        let own = |behind: &Ran, alone: &Ran| is_same(&behind.tokens, &alone.tokens);
        if stale(other_behind, other, one) || stale(one_behind, one, other) {
            Verdict::decided("stale_image", true, "an image is answered as the one before it")
        } else if own(other_behind, other) && own(one_behind, one) {
            Verdict::decided("stale_image", false, "each image is answered as behind nothing")
        } else {
            Verdict::undecided("behind another image it is answered as neither of them")
        }
    };
    verdict.figure("width", images.and_then(|seen| seen.figures.get("width")))
}
