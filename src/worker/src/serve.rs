//! The main thread: reads frames, hands out work, and leaves in order or without it.

use std::{
    io,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rkllama_protocol::{FrameError, FromWorker, Load, Order, ToWorker, VERSION, read_frame};

use crate::{
    EXIT_ASKED, EXIT_INTERNAL, EXIT_PROTOCOL, abort_thread,
    control::Control,
    outlet::{Outlet, say},
    run_thread::{Farewell, RunThread, WakeMain},
    runtime::Runtime,
};

/// Longest wait for an aborted run to return when the worker leaves. A prefill cannot be aborted and
/// may take longer, but the server is not going to wait for it: it kills what does not leave.
const RUN_RETURN_MAX: Duration = Duration::from_secs(2);

/// Longest wait for the model to be freed. It takes milliseconds or it hangs.
const FREE_MAX: Duration = Duration::from_secs(2);

/// How the worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// In order, with this exit code.
    With(u8),
    /// The vendor's library did not return.
    Hung,
}

/// Serves until there is a reason to leave.
pub(crate) fn serve<R: Runtime>(socket: UnixStream, runtime: R) -> Leave {
    match Worker::start(socket, runtime) {
        Ok(worker) => worker.serve(),
        Err(err) => {
            say(format_args!("cannot start: {err}"));
            Leave::With(EXIT_INTERNAL)
        }
    }
}

/// Why the worker stops reading.
enum Ending {
    /// The server said so, or is gone, or the run thread has ended.
    Asked,
    /// The server does not keep to the protocol.
    Breach(String),
}

struct Worker {
    socket: UnixStream,
    outlet: Arc<Outlet>,
    control: Arc<Control>,
    loads: SyncSender<Load>,
    runs: SyncSender<Order>,
    farewell: Receiver<Farewell>,
    run_thread: JoinHandle<u8>,
    abort_thread: JoinHandle<()>,
}

impl Worker {
    fn start<R: Runtime>(socket: UnixStream, runtime: R) -> io::Result<Self> {
        let outlet = Arc::new(Outlet::new(socket.try_clone()?));
        let control = Arc::new(Control::new());
        // One each: `Control` lets a second one through only after the first is done.
        let (loads, loads_received) = sync_channel(1);
        let (runs, runs_received) = sync_channel(1);
        let (farewell_sent, farewell) = sync_channel(2);
        let thread = RunThread {
            runtime,
            loads: loads_received,
            runs: runs_received,
            control: Arc::clone(&control),
            outlet: Arc::clone(&outlet),
            farewell: farewell_sent,
            wake_main: WakeMain(socket.try_clone()?),
        };
        let run_thread =
            thread::Builder::new().name("run".to_owned()).spawn(move || thread.run())?;
        let abort_thread = abort_thread::start(Arc::clone(&control))?;
        Ok(Self { socket, outlet, control, loads, runs, farewell, run_thread, abort_thread })
    }

    fn serve(mut self) -> Leave {
        let ending = self.greet().unwrap_or_else(|| self.obey());
        let breach = matches!(ending, Ending::Breach(_));
        if let Ending::Breach(what) = ending {
            say(format_args!("leaving: {what}"));
        }
        match self.leave() {
            Leave::With(EXIT_ASKED) if breach => Leave::With(EXIT_PROTOCOL),
            leave => leave,
        }
    }

    /// Exchanges versions; returns a reason to leave, if there is one.
    fn greet(&mut self) -> Option<Ending> {
        let frame = match self.read() {
            Ok(frame) => frame,
            Err(ending) => return Some(ending),
        };
        let ToWorker::Hello(theirs) = frame else {
            return Some(Ending::Breach("the first frame is no greeting".to_owned()));
        };
        // Ours goes out in any case, so that the server sees the difference too.
        if self.outlet.send(&FromWorker::Hello(VERSION)).is_err() {
            return Some(Ending::Asked);
        }
        (theirs != VERSION).then(|| {
            Ending::Breach(format!(
                "the server speaks version {theirs} of the protocol and this worker {VERSION}: \
                 the program was replaced while the server ran"
            ))
        })
    }

    /// Does as the frames say.
    fn obey(&mut self) -> Ending {
        loop {
            let accepted = match self.read() {
                Err(ending) => return ending,
                Ok(ToWorker::Shutdown) => return Ending::Asked,
                Ok(ToWorker::Abort(run)) => {
                    self.control.abort_asked(run);
                    true
                }
                Ok(ToWorker::Load(load)) => {
                    self.control.load_asked().is_ok() && self.loads.try_send(load).is_ok()
                }
                Ok(ToWorker::Run(order)) => {
                    self.control.run_asked(order.run()).is_ok() && self.runs.try_send(order).is_ok()
                }
                Ok(ToWorker::Hello(_)) => false,
            };
            if !accepted {
                return Ending::Breach("a frame came out of sequence".to_owned());
            }
        }
    }

    fn read(&mut self) -> Result<ToWorker, Ending> {
        match read_frame(&mut self.socket) {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err(Ending::Asked),
            // A server that is killed may cut a frame or reset the socket.
            Err(FrameError::Io(err)) => {
                say(format_args!("cannot read from the server: {err}"));
                Err(Ending::Asked)
            }
            Err(err @ (FrameError::TooLong(_) | FrameError::Garbage(_))) => {
                Err(Ending::Breach(err.to_string()))
            }
        }
    }

    /// Stops what runs and frees the model, as long as that takes a bounded time.
    fn leave(self) -> Leave {
        let Self { control, loads, runs, farewell, run_thread, abort_thread, .. } = self;
        control.leave_asked();
        drop((loads, runs));
        for (awaited, wait_max) in [(Farewell::Idle, RUN_RETURN_MAX), (Farewell::Freed, FREE_MAX)] {
            match farewell.recv_timeout(wait_max) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    say(format_args!("the runtime does not return ({awaited:?}): leaving it"));
                    return Leave::Hung;
                }
                // The run thread has ended before: no model, or a panic.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // Neither of them is inside the library any more.
        control.close();
        let code = run_thread.join();
        match (code, abort_thread.join()) {
            (Ok(code), Ok(())) => Leave::With(code),
            (Err(_), _) | (_, Err(_)) => Leave::With(EXIT_INTERNAL),
        }
    }
}
