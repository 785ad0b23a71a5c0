//! One worker process: its start, its frames, its end.
//!
//! The child's standard input is one end of a socket pair; nothing else is inherited (the standard
//! library opens descriptors close-on-exec). So the child sees the end of its socket when this
//! process ends, even by SIGKILL, and this side sees the end when the child does. The child is
//! its own process group: Ctrl-C in a terminal is for the server, which then ends its workers.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream as StdUnixStream, process::ExitStatusExt},
    },
    process::{ExitStatus, Stdio},
    time::Duration,
};

use futures_util::StreamExt;
use rkllama_protocol::{FRAME_BYTES_MAX, FrameError, FromWorker, Load, Loaded, ToWorker, VERSION};
use tokio::{
    io::AsyncWriteExt,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{
    codec::{FramedRead, LengthDelimitedCodec},
    sync::CancellationToken,
};

use crate::{config::EngineConfig, runtimes::ModelHeader, worker_log::WorkerLog};

/// Time to write a frame. A worker always reads, so a full socket means that it hangs.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a killed process to end. Longer means that it sticks in a call of the driver.
const REAP_TIMEOUT: Duration = Duration::from_secs(2);
/// Time to collect what a dead worker has written. Its pipes end with it.
const LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// A worker with a loaded model.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) worker: Worker,
    pub(crate) loaded: Loaded,
    /// What the runtime said of the model.
    pub(crate) header: Option<ModelHeader>,
}

/// Whether another library may do better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// It may.
    Library,
    /// It may, but this attempt took so long that nobody can wait for another one.
    LibraryNextTime,
    /// None would: the model's file, the chip, the NPU's memory or this server is at fault.
    Circumstances,
}

/// A load that failed.
#[derive(Debug)]
pub(crate) struct LoadFailure {
    /// What happened, in the runtime's words where it gave any.
    pub(crate) reason: String,
    /// The model's own context limit, if more was asked for.
    pub(crate) context_limit_tokens: Option<u32>,
    /// What the runtime said of the model, if it came that far.
    pub(crate) header: Option<ModelHeader>,
    /// Whether the worker died or hung, rather than that the runtime refused.
    pub(crate) crashed: bool,
    pub(crate) blame: Blame,
}

/// What kept a process from having a loaded model.
enum Trouble {
    /// It says so itself.
    Refused(String),
    /// It did not come to an end in time.
    Slow(String),
    /// It is gone or not to be trusted; the text says why if this side knows, else its exit
    /// status will.
    Lost(Option<String>),
    /// The server stops; whether the model was loaded in the time that was left.
    Stopped(bool),
}

/// The signal with which the kernel ends a process when memory runs out.
const SIGKILL: i32 = 9;
/// What a worker says when the NPU has no memory left. No other library has more.
const OUT_OF_MEMORY: &str = "out of memory";
/// What it says of an adapter, whose file is at fault: the model itself was loaded.
const ADAPTER_REFUSED: &str = "refused the adapter";

/// A worker process and its socket. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    frames: FramedRead<OwnedReadHalf, LengthDelimitedCodec>,
    writer: OwnedWriteHalf,
    log: WorkerLog,
    followers: Vec<JoinHandle<()>>,
}

impl Worker {
    /// Starts a process and loads a model into it. `None` when the server stops meanwhile; the
    /// process has ended then.
    pub(crate) async fn start(
        config: &EngineConfig,
        model: &str,
        load: Load,
        stop: &CancellationToken,
    ) -> Option<Result<Started, LoadFailure>> {
        let mut worker = match Self::spawn(config, model) {
            Ok(worker) => worker,
            Err(err) => {
                return Some(Err(LoadFailure {
                    reason: format!("cannot start {}: {err}", config.worker.program.display()),
                    context_limit_tokens: None,
                    header: None,
                    crashed: false,
                    blame: Blame::Circumstances,
                }));
            }
        };
        if let Err(trouble) = worker.greet(config, stop).await {
            if matches!(trouble, Trouble::Stopped(_)) {
                worker.kill().await;
                return None;
            }
            // No library has been opened yet.
            let failure = worker.autopsy(trouble).await;
            return Some(Err(LoadFailure { blame: Blame::Circumstances, ..failure }));
        }
        match worker.load(config, load, stop).await {
            Ok(loaded) => {
                let header = worker.log.header_of_loaded().await;
                Some(Ok(Started { worker, loaded, header }))
            }
            Err(Trouble::Stopped(loaded)) => {
                if loaded {
                    worker.shut_down(config.shutdown_timeout).await;
                } else {
                    worker.kill().await;
                }
                None
            }
            Err(trouble) => Some(Err(worker.autopsy(trouble).await)),
        }
    }

    fn spawn(config: &EngineConfig, model: &str) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(ours)?.into_split();
        let mut child = Command::new(&config.worker.program)
            .args(&config.worker.args)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let log = WorkerLog::default();
        let mut followers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            followers.push(tokio::spawn(log.clone().follow(model.to_owned(), stdout)));
        }
        if let Some(stderr) = child.stderr.take() {
            followers.push(tokio::spawn(log.clone().follow(model.to_owned(), stderr)));
        }
        let frames = LengthDelimitedCodec::builder()
            .little_endian()
            .max_frame_length(FRAME_BYTES_MAX)
            .new_read(reader);
        Ok(Self { child, frames, writer, log, followers })
    }

    /// Exchanges versions with a fresh process. It opens nothing before that.
    async fn greet(
        &mut self,
        config: &EngineConfig,
        stop: &CancellationToken,
    ) -> Result<(), Trouble> {
        self.send(&ToWorker::Hello(VERSION)).await.map_err(|_| Trouble::Lost(None))?;
        let hello = tokio::select! {
            hello = timeout(config.hello_timeout, self.next()) => hello,
            () = stop.cancelled() => return Err(Trouble::Stopped(false)),
        };
        match hello {
            Ok(Ok(Some(FromWorker::Hello(VERSION)))) => Ok(()),
            Ok(Ok(Some(FromWorker::Hello(other)))) => Err(Trouble::Refused(format!(
                "the worker speaks version {other} of its protocol, the server {VERSION}: \
                 the executable was replaced while the server ran; restart the server"
            ))),
            Ok(other) => Err(Trouble::Lost(unexpected(&other))),
            Err(_) => {
                let limit = config.hello_timeout;
                Err(Trouble::Slow(format!("the worker was silent for {limit:?}")))
            }
        }
    }

    /// Brings a greeted process to a loaded model. When the server stops, the load gets as much time
    /// to come to its end as a worker has to free its memory: a model that is cut off in the middle
    /// leaves the NPU's memory in an unknown state, and a loaded one can be freed.
    async fn load(
        &mut self,
        config: &EngineConfig,
        load: Load,
        stop: &CancellationToken,
    ) -> Result<Loaded, Trouble> {
        self.send(&ToWorker::Load(load)).await.map_err(|_| Trouble::Lost(None))?;
        let frame = tokio::select! {
            frame = timeout(config.load_timeout, self.next()) => frame,
            () = stop.cancelled() => {
                let frame = timeout(config.shutdown_timeout, self.next()).await;
                let loaded = matches!(frame, Ok(Ok(Some(FromWorker::Loaded(_)))));
                return Err(Trouble::Stopped(loaded));
            }
        };
        match frame {
            Ok(Ok(Some(FromWorker::Loaded(loaded)))) => Ok(loaded),
            Ok(Ok(Some(FromWorker::LoadFailed(reason)))) => Err(Trouble::Refused(reason)),
            Ok(other) => Err(Trouble::Lost(unexpected(&other))),
            Err(_) => {
                let limit = config.load_timeout;
                Err(Trouble::Slow(format!("loading took longer than {limit:?}")))
            }
        }
    }

    /// Sends one frame.
    pub(crate) async fn send(&mut self, frame: &ToWorker) -> Result<(), FrameError> {
        let bytes = rkllama_protocol::encode(frame)?;
        match timeout(WRITE_TIMEOUT, self.writer.write_all(&bytes)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    /// The next frame; `None` when the worker has closed its socket. Safe to drop while waiting.
    pub(crate) async fn next(&mut self) -> Result<Option<FromWorker>, FrameError> {
        match self.frames.next().await {
            None => Ok(None),
            Some(Ok(body)) => rkllama_protocol::decode(&body).map(Some),
            Some(Err(err)) => Err(err.into()),
        }
    }

    /// Ends the process, by force if it still runs, and says what its end looked like.
    async fn autopsy(mut self, trouble: Trouble) -> LoadFailure {
        let status = self.end_now().await;
        self.read_out_log().await;
        let (what, crashed, blame) = match trouble {
            Trouble::Refused(reason) => {
                let elsewhere = self.log.blames_circumstances()
                    || [OUT_OF_MEMORY, ADAPTER_REFUSED].iter().any(|it| reason.contains(it));
                let blame = if elsewhere { Blame::Circumstances } else { Blame::Library };
                (Some(reason), false, blame)
            }
            Trouble::Slow(reason) => (Some(reason), true, Blame::LibraryNextTime),
            Trouble::Lost(what) => {
                let starved = status.and_then(|status| status.signal()) == Some(SIGKILL);
                (what, true, if starved { Blame::Circumstances } else { Blame::Library })
            }
            Trouble::Stopped(_) => (None, false, Blame::Circumstances),
        };
        let what = what.unwrap_or_else(|| format!("the worker {}", describe(status)));
        let reason = match self.log.explanation() {
            Some(words) => format!("{what} ({words})"),
            None => what,
        };
        let context_limit_tokens = self.log.context_limit_tokens();
        LoadFailure { reason, context_limit_tokens, header: self.log.header(), crashed, blame }
    }

    /// The same for a worker that was lost in the middle of a run: `what` if this side knows, else
    /// its exit status.
    pub(crate) async fn post_mortem(mut self, what: Option<String>) -> String {
        let status = self.end_now().await;
        self.read_out_log().await;
        let what = what.unwrap_or_else(|| describe(status));
        match self.log.last_lines() {
            Some(lines) => format!("{what}; its last lines: {lines}"),
            None => what,
        }
    }

    /// The runtime's log.
    pub(crate) const fn log(&self) -> &WorkerLog {
        &self.log
    }

    /// Asks the worker to free its memory and waits for its end; kills it when it is too slow.
    pub(crate) async fn shut_down(mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        if self.send(&ToWorker::Shutdown).await.is_ok() {
            // Frames of a run that is being cut short are of no interest any more.
            let gone = async { while let Ok(Some(_)) = self.next().await {} };
            if timeout_at(deadline, gone).await.is_err() {
                tracing::warn!("a worker did not close its socket in time; killing it");
            }
        }
        if timeout_at(deadline, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }

    /// The exit status: of its own end if that is at hand, else of our kill.
    async fn end_now(&mut self) -> Option<ExitStatus> {
        // A dying process closes its socket a moment before it can be reaped.
        if let Ok(Ok(status)) = timeout(Duration::from_millis(200), self.child.wait()).await {
            return Some(status);
        }
        self.kill().await;
        None
    }

    /// Kills the process. One that sticks in the driver cannot be reaped; nobody waits for it.
    async fn kill(&mut self) {
        if let Err(err) = self.child.start_kill() {
            tracing::error!(%err, "cannot kill a worker");
        }
        if timeout(REAP_TIMEOUT, self.child.wait()).await.is_err() {
            tracing::error!("a killed worker does not end: it sticks in the driver");
        }
    }

    async fn read_out_log(&mut self) {
        for follower in self.followers.drain(..) {
            if timeout(LOG_TIMEOUT, follower).await.is_err() {
                return;
            }
        }
    }
}

/// What went wrong when a frame was expected and another one, none, or garbage came.
///
/// `None` for the end of the socket: the process's exit status says more.
pub(crate) fn unexpected(frame: &Result<Option<FromWorker>, FrameError>) -> Option<String> {
    match frame {
        Ok(None) => None,
        Ok(Some(frame)) => Some(format!("sent a frame out of turn: {frame:?}")),
        Err(err) => Some(format!("could not be understood: {err}")),
    }
}

/// An exit status in words, with the names of the signals a vendor library dies of.
fn describe(status: Option<ExitStatus>) -> String {
    let Some(status) = status else { return "closed its socket and was killed".to_owned() };
    let Some(signal) = status.signal() else {
        return match status.code() {
            Some(code) => format!("ended with exit code {code}"),
            None => "ended".to_owned(),
        };
    };
    let name = match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL; the kernel does this when memory runs out)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    };
    format!("was ended by signal {signal}{name}")
}
