//! NDJSON in, NDJSON out, in the same order: the frame of `classify` and `recommend`.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// Longest line that is read.
const MAX_LINE: u64 = 1024 * 1024;

/// Opens the file, or standard input for none and for `-`.
fn open(file: Option<&Path>) -> anyhow::Result<Box<dyn Read>> {
    match file.filter(|path| path.as_os_str() != "-") {
        Some(path) => {
            let file =
                std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Box::new(file))
        }
        None => Ok(Box::new(std::io::stdin().lock())),
    }
}

/// Answers each line of the input; the exit status is 1 when any line was bad.
///
/// # Errors
/// When the input cannot be read or the output cannot be written.
pub fn each<I, O>(file: Option<&Path>, answer: impl FnMut(I) -> Result<O, String>) -> anyhow::Result<ExitCode>
where
    I: DeserializeOwned,
    O: Serialize,
{
    let all_good = answer_lines(open(file)?, &mut std::io::stdout().lock(), answer)?;
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Answers each line of a reader, and says whether every one was good. A bad line gives `{"line", "error"}` in its place.
///
/// # Errors
/// When the input cannot be read or the output cannot be written.
pub fn answer_lines<I, O>(
    input: impl Read,
    output: &mut impl Write,
    mut answer: impl FnMut(I) -> Result<O, String>,
) -> anyhow::Result<bool>
where
    I: DeserializeOwned,
    O: Serialize,
{
    let mut input = BufReader::with_capacity(1 << 16, input);
    let mut output = BufWriter::with_capacity(1 << 16, output);
    let mut line = Vec::new();
    let mut all_good = true;
    for number in 1_u64.. {
        line.clear();
        if input.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let answered = if line.len() as u64 > MAX_LINE {
            input.skip_until(b'\n')?;
            Err(format!("the line is longer than {MAX_LINE} bytes"))
        } else {
            serde_json::from_slice(&line).map_err(|error| describe(&error)).and_then(&mut answer)
        };
        match answered {
            Ok(value) => serde_json::to_writer(&mut output, &value)?,
            Err(error) => {
                all_good = false;
                serde_json::to_writer(&mut output, &json!({ "line": number, "error": error }))?;
            }
        }
        output.write_all(b"\n")?;
    }
    output.flush()?;
    Ok(all_good)
}

/// Says what is wrong with a line; its number in the file is said beside, so the parser's own "line 1" is left out.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) if error.column() > 0 => format!("{what} at column {}", error.column()),
        _ => text,
    }
}
