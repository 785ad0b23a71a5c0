//! The log: lines on standard error, whose level may change while the server runs.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// The log of this process.
pub(crate) struct Log {
    /// Replaces what is written; `None` where `RUST_LOG` says it, which nobody can change.
    replace: Option<Box<dyn Fn(EnvFilter) + Send + Sync>>,
}

impl Log {
    /// Begins to write.
    pub(crate) fn to_stderr(debug: bool, format: LogFormat) -> Self {
        let given = EnvFilter::try_from_default_env().ok();
        let is_given = given.is_some();
        let builder = tracing_subscriber::fmt()
            .with_env_filter(given.unwrap_or_else(|| level(debug)))
            .with_writer(std::io::stderr)
            // Otherwise it complains of a lost standard error on standard error, and panics.
            .log_internal_errors(false);
        // It fails when there is no log any more.
        let replace: Box<dyn Fn(EnvFilter) + Send + Sync> = match format {
            LogFormat::Text => {
                let builder =
                    builder.with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
                let handle = builder.reload_handle();
                builder.init();
                Box::new(move |filter| drop(handle.reload(filter)))
            }
            LogFormat::Json => {
                let builder = builder.json().flatten_event(true).with_filter_reloading();
                let handle = builder.reload_handle();
                builder.init();
                Box::new(move |filter| drop(handle.reload(filter)))
            }
        };
        Self { replace: (!is_given).then_some(replace) }
    }

    /// Writes everything below info too, or no more.
    pub(crate) fn set_debug(&self, debug: bool) {
        match &self.replace {
            Some(replace) => replace(level(debug)),
            None => tracing::warn!("RUST_LOG decides what is logged; `debug` has no effect"),
        }
    }
}

fn level(debug: bool) -> EnvFilter {
    EnvFilter::new(if debug { "debug,hyper=info" } else { "info" })
}
