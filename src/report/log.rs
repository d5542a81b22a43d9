//! Where log lines go, and in which form.

use std::io;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::writer::Writer;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object for each line.
    Json,
}

/// Sends log lines of this level and above to standard error from now on, by a thread of its own. Call it once.
///
/// # Errors
/// There is no thread to be had.
pub fn init(format: LogFormat, level: Level) -> io::Result<()> {
    let writer = Writer::start()?;
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(move || writer.clone());
    // Libraries have words of their own, with names of hosts in them that nobody escaped.
    let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level);
    match format {
        LogFormat::Text => builder.finish().with(ours).init(),
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_span_list(false);
            builder.finish().with(ours).init();
        }
    }
    Ok(())
}
