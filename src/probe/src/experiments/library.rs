//! What the library is, and whether it loads the model at all.

use crate::{
    bench::Load,
    experiments::nothing_in_the_way,
    judge::{Experiment, Step, Verdict, trouble},
    seen::{End, Seen, Subject},
};

/// Do the structures in memory belong to the release?
pub(super) const LAYOUT: Experiment = Experiment {
    name: "layout",
    question: "Are the library's structures those of the release that it says it is?",
    how: "its own default parameters are compared with those of each known layout",
    is_dangerous: false,
    obstacle: nothing_in_the_way,
    steps: |_| {
        vec![Step::new("open", |bench| {
            let inspection = bench.library().inspection();
            let (version, build) = (inspection.version.clone(), inspection.build.clone());
            bench.figure("version", version);
            bench.figure("build", build);
            Ok(())
        })]
    },
    judge: layout,
};

fn layout(subject: &Subject, seen: &[Seen]) -> Verdict {
    let figures = seen.first().map(|seen| seen.figures.clone()).unwrap_or_default();
    let mut verdict = match seen.first().map(|seen| &seen.end) {
        Some(End::Done) => Verdict::observed(format!("they are those of {}", subject.release)),
        Some(End::Failed(why)) => Verdict::observed(why),
        Some(End::Died(_) | End::TimedOut) | None => {
            Verdict::undecided(trouble(seen).unwrap_or_default())
        }
    };
    verdict.figures = figures;
    verdict
}

/// Does it load the model?
pub(super) const LOAD: Experiment = Experiment {
    name: "load",
    question: "Does the runtime load the model, or die of it?",
    how: "the model is loaded in a process of its own",
    is_dangerous: false,
    obstacle: nothing_in_the_way,
    steps: |_| vec![Step::new("load", |bench| bench.load(&Load { context: 512, ..Load::to(16) }))],
    judge: load,
};

fn load(_: &Subject, seen: &[Seen]) -> Verdict {
    let figures = seen.first().map(|seen| seen.figures.clone()).unwrap_or_default();
    let mut verdict = match trouble(seen) {
        None => Verdict::observed("it loads it"),
        Some(why) => Verdict::undecided(why),
    };
    verdict.figures = figures;
    verdict
}
