//! What commands print: the only place that writes to the standard streams.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Writes a line to standard output.
///
/// # Errors
/// When the reader has gone away.
pub fn line(text: impl std::fmt::Display) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")
}

/// Writes a value as indented JSON to standard output.
///
/// # Errors
/// When the reader has gone away.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?)?;
    Ok(())
}

/// Says what is going on, on standard error.
pub fn note(text: impl std::fmt::Display) {
    // A terminal that has gone away has nobody to tell.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// Writes an error with its causes to standard error, coloured on a terminal.
pub fn error(error: &anyhow::Error) {
    let label = if std::io::stderr().is_terminal() { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
    let mut text = format!("{label} {error}");
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(&format!("\n  because: {cause}"));
        }
    }
    note(text);
}

/// Makes a heading stand out, on a terminal.
pub fn strong(text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Makes a progress bar on standard error; nothing is drawn where that is no terminal.
pub fn progress(what: &'static str, total: u64) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("{msg:24} {bar:32} {pos}/{len}  {per_sec}  {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(total), target).with_style(style).with_message(what)
}
