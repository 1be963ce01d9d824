//! Runs PostgreSQL's own programs against a database.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use super::error::AdminError;
use crate::postgres::dsn::Dsn;

/// Makes the command of a program of PostgreSQL's: from `NUDGE_POSTGRES_BIN` if that is set, else from the path. Where
/// the database is, and the password, it learns from its environment, which other users of the machine cannot read.
pub(super) fn command(program: &'static str, dsn: &Dsn) -> Command {
    let folder = std::env::var_os("NUDGE_POSTGRES_BIN").filter(|folder| !folder.is_empty());
    let path = folder.map_or_else(|| PathBuf::from(program), |folder| PathBuf::from(folder).join(program));
    let mut command = Command::new(path);
    // Nothing of the caller's own settings gets in between.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
    command.envs(dsn.libpq_environment()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a program to its end.
///
/// # Errors
/// [`AdminError::Tool`] with what it said, when it cannot be run or fails.
pub(super) async fn run(program: &'static str, mut command: Command) -> Result<Vec<u8>, AdminError> {
    let output = command.output().await.map_err(|error| cannot_run(program, &error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(AdminError::Tool {
        program,
        detail: if detail.is_empty() { output.status.to_string() } else { detail },
    })
}

/// Says how to get a program that is not there.
pub(super) fn cannot_run(program: &'static str, error: &std::io::Error) -> AdminError {
    let detail = if error.kind() == std::io::ErrorKind::NotFound {
        "not found: install PostgreSQL's client programs (postgresql-client), or name their folder in \
         NUDGE_POSTGRES_BIN"
            .to_owned()
    } else {
        error.to_string()
    };
    AdminError::Tool { program, detail }
}
