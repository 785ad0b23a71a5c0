//! What the board's own settings do to speed and memory.

use std::{fs, path::Path};

use crate::{
    bench::{Bench, Load, Run, Stop},
    experiments::nothing_in_the_way,
    judge::{Experiment, Step, Verdict, step, trouble},
    seen::{Seen, Subject},
};

/// Tokens of each answer that is timed.
const TOKENS_MAX: i32 = 48;
/// The masks to compare: the big cores of RK3588 and RK3576, three of them, the little ones.
const MASKS: [u32; 3] = [0xf0, 0x70, 0x0f];
/// The memory's clock.
const DDR: &str = "/sys/class/devfreq/dmc";
/// The governor that was found, while another is tried.
const GOVERNOR_FILE: &str = "governor";
/// Loads after which the NPU's memory is taken for boundless.
const LOADS_MAX: usize = 16;

/// Prefill and decode of a long prompt.
fn speed(bench: &mut Bench, label: &str, load: &Load) -> Result<(), Stop> {
    bench.load(load)?;
    let prompt = bench.subject().material.long.clone();
    bench.fresh(label, Run::tokens(&prompt))?;
    Ok(())
}

/// Tokens a second in prefill and decode.
#[allow(clippy::cast_precision_loss, reason = "some hundred tokens")]
fn speeds(seen: Option<&Seen>, label: &str) -> Option<(f64, f64)> {
    let ran = seen?.ran(label).filter(|ran| ran.is_good() && ran.tokens.len() > 1)?;
    let first_ms = ran.first_ms?;
    let decode_ms = ran.ms - first_ms;
    let rate = |tokens: usize, ms: f64| (ms > 0.0).then(|| tokens as f64 * 1000.0 / ms);
    Some((rate(ran.prompt, first_ms)?, rate(ran.tokens.len() - 1, decode_ms)?))
}

fn words(name: &str, speeds: Option<(f64, f64)>) -> String {
    match speeds {
        Some((prefill, decode)) => format!("{name}: {prefill:.1} and {decode:.1} tokens/s"),
        None => format!("{name}: none"),
    }
}

pub(super) const CPU_MASKS: Experiment = Experiment {
    name: "cpu-masks",
    question: "On which cores is the runtime fastest?",
    how: "a prompt is read and answered with cores 4 to 7, 4 to 6, and 0 to 3",
    is_dangerous: false,
    obstacle: |_| {
        let cores =
            (0..8).filter(|at| Path::new(&format!("/sys/devices/system/cpu/cpu{at}")).exists());
        (cores.count() < 8).then(|| "there are fewer than 8 cores".to_owned())
    },
    steps: |_| {
        MASKS
            .map(|mask| {
                Step::new(format!("{mask:#x}"), move |bench| {
                    speed(bench, "run", &Load { cpu_mask: Some(mask), ..Load::to(TOKENS_MAX) })
                })
            })
            .into()
    },
    judge: masks,
};

fn masks(_: &Subject, seen: &[Seen]) -> Verdict {
    let all = MASKS.map(|mask| {
        let name = format!("{mask:#x}");
        let speeds = speeds(step(seen, &name), "run");
        (name, speeds)
    });
    if all.iter().all(|(_, speeds)| speeds.is_none()) {
        return Verdict::undecided(trouble(seen).unwrap_or_default());
    }
    let said: Vec<String> = all.iter().map(|(name, speeds)| words(name, *speeds)).collect();
    Verdict::observed(said.join(", ")).figure("prefill_and_decode_tokens_per_second", &all)
}

pub(super) const DDR_GOVERNOR: Experiment = Experiment {
    name: "ddr-governor",
    question: "What does the governor of the memory's clock cost?",
    how: "a prompt is read and answered under the governor that is set and, where this user may set \
          it, under `performance`; the first is set again",
    is_dangerous: false,
    obstacle: |_| {
        let without = format!("there is no {DDR}/governor");
        governor().is_none().then_some(without)
    },
    steps: |_| {
        vec![
            Step::new("as it is", |bench| {
                bench.figure("governor", governor());
                speed(bench, "run", &Load::to(TOKENS_MAX))
            }),
            Step::new("performance", at_full_speed),
            // In a process of its own: the one before may have died.
            Step::new("restore", |bench| {
                let file = bench.file(GOVERNOR_FILE);
                // There is none where nothing was changed.
                let Ok(before) = fs::read_to_string(&file) else { return Ok(()) };
                set_governor(&before)?;
                fs::remove_file(&file).map_err(|error| error.to_string())
            }),
        ]
    },
    judge: ddr,
};

fn governor() -> Option<String> {
    Some(fs::read_to_string(format!("{DDR}/governor")).ok()?.trim().to_owned())
}

fn set_governor(to: &str) -> Result<(), Stop> {
    fs::write(format!("{DDR}/governor"), to).map_err(|error| format!("{DDR}/governor: {error}"))
}

fn at_full_speed(bench: &mut Bench) -> Result<(), Stop> {
    let before = governor().ok_or("it is gone")?;
    if before == "performance" {
        return Ok(());
    }
    let file = bench.file(GOVERNOR_FILE);
    fs::write(&file, before).map_err(|error| error.to_string())?;
    if let Err(error) = set_governor("performance") {
        return fs::remove_file(&file).map_err(|_| error);
    }
    speed(bench, "run", &Load::to(TOKENS_MAX))
}

fn ddr(_: &Subject, seen: &[Seen]) -> Verdict {
    let as_it_is = step(seen, "as it is");
    let found = as_it_is.and_then(|seen| seen.figures.get("governor")?.as_str());
    let (now, full) = (speeds(as_it_is, "run"), speeds(step(seen, "performance"), "run"));
    if now.is_none() {
        return Verdict::undecided(trouble(seen).unwrap_or_default());
    }
    let mut said = words(found.unwrap_or("as it is"), now);
    if full.is_some() {
        said = format!("{said}, {}", words("performance", full));
    }
    Verdict::observed(said)
        .figure("governor", found)
        .figure("prefill_and_decode_tokens_per_second", now)
        .figure("prefill_and_decode_tokens_per_second_at_performance", full)
        .figure("trouble", trouble(seen))
}

pub(super) const MEMORY_LIMIT: Experiment = Experiment {
    name: "memory-limit",
    question: "How often can a process load the model, and does the load that finds no memory fail or \
               kill it?",
    how: "the model is loaded again and again in one process, until that fails",
    is_dangerous: true,
    obstacle: nothing_in_the_way,
    steps: |_| {
        vec![Step::new("loads", |bench| {
            let mut held = Vec::new();
            while held.len() < LOADS_MAX {
                match bench.loaded(&Load { context: 512, ..Load::to(1) }) {
                    Ok(loaded) => held.push(loaded),
                    Err(why) => {
                        bench.figure("failed_with", why);
                        break;
                    }
                }
                bench.figure("loads", held.len());
            }
            Ok(())
        })]
    },
    judge: memory,
};

fn memory(_: &Subject, seen: &[Seen]) -> Verdict {
    let Some(seen) = seen.first() else { return Verdict::undecided("nothing was seen") };
    let figure = |name: &str| seen.figures.get(name);
    let loads = figure("loads").and_then(serde_json::Value::as_u64).unwrap_or_default();
    let verdict = match (seen.trouble(), figure("failed_with").and_then(|it| it.as_str())) {
        (Some(trouble), _) => Verdict::observed(format!("it loads {loads} times; {trouble}")),
        (None, Some(why)) => Verdict::observed(format!("it loads {loads} times, then: {why}")),
        (None, None) => Verdict::observed(format!("it loads {loads} times without an end")),
    };
    verdict.figure("loads", loads)
}
