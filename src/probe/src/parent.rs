//! The side that judges: starts a process for each step, waits for its end, and reads what it saw.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde::Serialize;

use crate::{
    experiments,
    judge::{Experiment, Kind, Step, Verdict},
    material::Material,
    seen::{End, Line, Order, Seen, Subject},
};

/// Lines of the runtime's log that are kept of each step. With `RKLLM_LOG_LEVEL=2` a run has some ten.
const LOG_LINES_MAX: usize = 2000;
/// Lines that may wait to be heard.
const LINES_WAITING_MAX: usize = 256;
/// Lines of it that a report quotes.
const LOG_LINES_QUOTED: usize = 40;
/// Characters of a line that are kept: prompts are logged as numbers.
const LINE_CHARS_MAX: usize = 400;
/// How long a process that is killed may take to go; one that waits for its driver may never.
const KILL_TIME_MAX: Duration = Duration::from_secs(10);

/// What to probe.
#[derive(Debug, Clone)]
pub struct Probe {
    /// This program, and what makes it the process of a step.
    pub executable: PathBuf,
    /// Its first argument.
    pub role: &'static str,
    /// The vendor's library.
    pub runtime: PathBuf,
    /// Its release.
    pub release: String,
    /// The models to try it with.
    pub models: Vec<PathBuf>,
    /// Experiments by name; all that are not dangerous where none is named.
    pub only: Vec<String>,
    /// Whether dangerous ones are made without being named.
    pub dangerous: bool,
    /// How long a step may take; none leaves each its own time.
    pub time_max: Option<Duration>,
}

/// What an experiment has shown.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Its name.
    pub experiment: &'static str,
    /// What nobody knew.
    pub question: &'static str,
    /// How it was asked.
    pub how: &'static str,
    /// The model; none where only the library was asked.
    pub model: Option<PathBuf>,
    /// What came out.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What was seen on the way.
    steps: Vec<Seen>,
}

/// Everything that was found out.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// In the order in which it was.
    pub findings: Vec<Finding>,
    /// The toolkit of each model, where the runtime said it.
    pub toolkits: BTreeMap<PathBuf, String>,
}

/// Makes the experiments, and tells of each when it is over.
///
/// # Errors
/// A folder for the steps' files cannot be made.
pub fn probe(probe: &Probe, told: &mut dyn FnMut(&Finding)) -> io::Result<Found> {
    let folder = tempfile::Builder::new().prefix("rkllama-probe.").tempdir()?;
    let mut found = Found { findings: Vec::new(), toolkits: BTreeMap::new() };
    let library = Subject {
        runtime: probe.runtime.clone(),
        release: probe.release.clone(),
        model: None,
        material: Material::default(),
        toolkit: None,
        context_limit: None,
    };
    let mut note = |finding: Finding, findings: &mut Vec<Finding>| {
        told(&finding);
        findings.push(finding);
    };
    for experiment in chosen(probe).filter(|it| !experiments::needs_model(it)) {
        note(examine(probe, experiment, &library, folder.path()), &mut found.findings);
    }
    for model in &probe.models {
        let mut subject = Subject { model: Some(model.clone()), ..library.clone() };
        let unreadable = match Material::beside(model) {
            Ok(material) => {
                subject.material = material;
                None
            }
            Err(why) => Some(why),
        };
        // Always, since it tells what the others have to know.
        let loaded = examine(probe, experiments::loading(), &subject, folder.path());
        subject.learn(&loaded.steps);
        found.toolkits.extend(subject.toolkit.clone().map(|toolkit| (model.clone(), toolkit)));
        let obstacle = (loaded.verdict.kind == Kind::Undecided)
            .then(|| format!("the model does not load: {}", loaded.verdict.words))
            .or(unreadable);
        note(loaded, &mut found.findings);
        for experiment in chosen(probe).filter(|it| experiments::needs_model(it)) {
            let finding = match &obstacle {
                Some(why) => finding(experiment, &subject, Verdict::skipped(why), Vec::new()),
                None => examine(probe, experiment, &subject, folder.path()),
            };
            note(finding, &mut found.findings);
        }
    }
    Ok(found)
}

fn chosen(probe: &Probe) -> impl Iterator<Item = &'static Experiment> {
    let is_chosen = |it: &&Experiment| match probe.only.is_empty() {
        true => probe.dangerous || !it.is_dangerous,
        false => probe.only.iter().any(|name| name == it.name),
    };
    let loading = experiments::loading().name;
    experiments::EXPERIMENTS.iter().filter(is_chosen).filter(move |it| it.name != loading)
}

fn examine(
    probe: &Probe,
    experiment: &'static Experiment,
    subject: &Subject,
    folder: &Path,
) -> Finding {
    if let Some(why) = (experiment.obstacle)(subject) {
        return finding(experiment, subject, Verdict::skipped(why), Vec::new());
    }
    let scratch = folder.join(experiment.name);
    // One that is there is used again: by the next model, whose steps write their files anew.
    let made = fs::create_dir_all(&scratch);
    let steps = (experiment.steps)(subject);
    let seen: Vec<Seen> = steps
        .iter()
        .map(|step| match &made {
            Ok(()) => took(probe, experiment, step, subject, &scratch),
            Err(error) => Seen::failed(step, error.to_string()),
        })
        .collect();
    let verdict = (experiment.judge)(subject, &seen);
    finding(experiment, subject, verdict, seen)
}

fn finding(
    experiment: &'static Experiment,
    subject: &Subject,
    verdict: Verdict,
    mut steps: Vec<Seen>,
) -> Finding {
    for step in &mut steps {
        let from = step.log.len().saturating_sub(LOG_LINES_QUOTED);
        step.log.drain(..from);
    }
    let &Experiment { name, question, how, .. } = experiment;
    Finding { experiment: name, question, how, model: subject.model.clone(), verdict, steps }
}

/// Has a process take the step.
fn took(
    probe: &Probe,
    experiment: &Experiment,
    step: &Step,
    subject: &Subject,
    scratch: &Path,
) -> Seen {
    let report = scratch.join(format!("{}.seen", step.name));
    // Of an earlier model.
    let _ = fs::remove_file(&report);
    let order = Order {
        experiment: experiment.name.to_owned(),
        step: step.name.clone(),
        subject: subject.clone(),
        report: report.clone(),
        scratch: scratch.to_owned(),
    };
    let time_max = probe.time_max.unwrap_or(step.time_max);
    match watched(probe, &order, time_max) {
        Ok((ended, log)) => read(step, ended, &report, log),
        Err(error) => Seen::failed(step, error.to_string()),
    }
}

/// How the process ended, `None` where its time was over; and what the runtime said.
fn watched(
    probe: &Probe,
    order: &Order,
    time_max: Duration,
) -> io::Result<(Option<ExitStatus>, Vec<String>)> {
    let mut child = Command::new(&probe.executable)
        .arg(probe.role)
        .env("RKLLM_LOG_LEVEL", "2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (lines, heard) = mpsc::sync_channel(LINES_WAITING_MAX);
    let outputs: [Option<Box<dyn io::Read + Send>>; 2] = [
        child.stdout.take().map(|it| Box::new(it) as Box<_>),
        child.stderr.take().map(|it| Box::new(it) as Box<_>),
    ];
    for output in outputs.into_iter().flatten() {
        let lines = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).chars().take(LINE_CHARS_MAX).collect();
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
    }
    drop(lines);
    let told = serde_json::to_string(order).map_err(io::Error::other)?;
    // One that has died before it was told shows how below. The input stays open: its end is the
    // order to leave.
    let _ = writeln!(stdin, "{told}");
    let mut log = VecDeque::new();
    let is_over = hear(&heard, &mut log, time_max);
    let ended = if is_over { Some(child.wait()?) } else { kill(&mut child)? };
    Ok((ended.filter(|_| is_over), log.into()))
}

/// Hears what is said until both outputs are closed; `false` where the time is over before.
fn hear(heard: &mpsc::Receiver<String>, log: &mut VecDeque<String>, time_max: Duration) -> bool {
    let deadline = std::time::Instant::now() + time_max;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        match heard.recv_timeout(left) {
            Ok(line) => {
                if log.len() == LOG_LINES_MAX {
                    log.pop_front();
                }
                log.push_back(line);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return true,
            Err(mpsc::RecvTimeoutError::Timeout) => return false,
        }
    }
}

/// Kills the process. One that its driver holds back is left behind.
fn kill(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    child.kill()?;
    let deadline = std::time::Instant::now() + KILL_TIME_MAX;
    while std::time::Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(None)
}

impl Seen {
    fn failed(step: &Step, why: String) -> Self {
        Self {
            step: step.name.clone(),
            end: End::Failed(why),
            at: None,
            ran: BTreeMap::new(),
            figures: BTreeMap::new(),
            log: Vec::new(),
        }
    }
}

fn read(step: &Step, ended: Option<ExitStatus>, report: &Path, log: Vec<String>) -> Seen {
    let mut seen = Seen::failed(step, String::new());
    seen.log = log;
    seen.end = match ended {
        None => End::TimedOut,
        Some(status) => End::Died(how(status)),
    };
    // None where the process died before it wrote.
    let text = fs::read_to_string(report).unwrap_or_default();
    // The last line may be half a line.
    for line in text.lines().map_while(|line| serde_json::from_str(line).ok()) {
        match line {
            Line::Begins(label) => seen.at = Some(label),
            Line::Ran(label, ran) => {
                seen.ran.insert(label, *ran);
            }
            Line::Figure(name, value) => {
                seen.figures.insert(name, value);
            }
            Line::Failed(why) => seen.end = End::Failed(why),
            Line::Done => {
                seen.at = None;
                // One that crashed only when it left has still seen everything.
                seen.end = End::Done;
            }
        }
    }
    seen
}

fn how(status: ExitStatus) -> String {
    let name = |signal: i32| match signal {
        4 => "SIGILL".to_owned(),
        6 => "SIGABRT".to_owned(),
        7 => "SIGBUS".to_owned(),
        8 => "SIGFPE".to_owned(),
        9 => "SIGKILL".to_owned(),
        11 => "SIGSEGV".to_owned(),
        other => format!("signal {other}"),
    };
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("killed by {}", name(signal)),
        (None, Some(code)) => format!("left with exit code {code}"),
        (None, None) => "ended without a reason".to_owned(),
    }
}
