//! Where log lines go, and in which form.

use std::io::{self, Write};

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object for each line.
    Json,
}

/// Sends log lines of this level and above to standard error from now on. Call it once.
pub fn init(format: LogFormat, level: Level) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(|| Stderr);
    // Libraries have words of their own, with names of hosts in them that nobody escaped.
    let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level);
    match format {
        LogFormat::Text => builder.finish().with(ours).init(),
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_span_list(false);
            builder.finish().with(ours).init();
        }
    }
}

/// Standard error, whose own faults are nobody's: a full disk under the log must not end a session.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // One write for each line, so that lines of two threads do not mix.
        let _lost = io::stderr().lock().write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
