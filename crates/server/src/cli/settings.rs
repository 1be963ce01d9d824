//! One flag for each setting that is no secret, made from the table of settings.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Command, Error};

use crate::config::{SETTINGS, Setting};

/// Heading of the settings in `--help`.
pub const HEADING: &str = "Settings (also environment variables and nudge.toml, see `nudge config`)";

/// The settings given as flags.
#[derive(Debug, Clone, Default)]
pub struct Flags(pub BTreeMap<&'static str, String>);

fn flagged() -> impl Iterator<Item = (&'static Setting, String)> {
    SETTINGS.iter().filter_map(|setting| setting.flag().map(|flag| (setting, flag)))
}

/// Shown in the short help; the rest in `--help` only.
const COMMON: [&str; 3] = ["NUDGE_DATA_DIR", "NUDGE_PORT", "LOG_LEVEL"];

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        flagged().fold(command, |command, (setting, flag)| {
            let default = setting.default.map(|d| format!(" [default: {d}]")).unwrap_or_default();
            command.arg(
                Arg::new(setting.name)
                    .long(flag)
                    .value_name(if setting.name == "NUDGE_DATA_DIR" { "DIR" } else { "VALUE" })
                    .help(format!("{}{default}", setting.help))
                    .help_heading(HEADING)
                    .hide_short_help(!COMMON.contains(&setting.name))
                    .global(true),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for (setting, _) in flagged() {
            if let Some(value) = matches.get_one::<String>(setting.name) {
                self.0.insert(setting.name, value.clone());
            }
        }
        Ok(())
    }
}
