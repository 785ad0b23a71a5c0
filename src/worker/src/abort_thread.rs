//! The thread that aborts runs, so that neither a callback nor the main thread has to.

use std::{io, sync::Arc, thread};

use crate::control::Control;

/// Starts it. It ends with [`Control::close`], unless an abort hangs inside the library.
pub(crate) fn start(control: Arc<Control>) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("abort".to_owned()).spawn(move || {
        while let Some(run) = control.next_abort() {
            control.abort(run);
        }
    })
}
