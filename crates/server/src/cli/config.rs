//! `nudge config`

use serde_json::{Value, json};

use crate::config::database::without_password;
use crate::config::{Config, SETTINGS, Setting, Source};

use super::output;

/// Show every setting, its value and where it came from
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A flag beats the environment, the environment beats nudge.toml, and that beats the default.\n\
    Secrets are shown as set or not set only, connection strings without their password.\n\nExamples:\n  nudge config\n  nudge config --json | jq '.NUDGE_PORT'"
)]
pub struct Args {
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print the reference of all settings (docs/CONFIGURATION.md)
    #[arg(long)]
    markdown: bool,
}

pub fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    if args.markdown {
        output::line(reference().trim_end())?;
        return Ok(());
    }
    if args.json {
        let all: serde_json::Map<String, Value> = SETTINGS
            .iter()
            .map(|s| (s.name.to_owned(), json!({ "value": shown(config, s), "source": source(config, s) })))
            .collect();
        return output::json(&all);
    }
    let width = SETTINGS.iter().map(|s| s.name.len()).max().unwrap_or(0);
    for setting in SETTINGS {
        let value = shown(config, setting).unwrap_or_else(|| "-".to_owned());
        output::line(format_args!("{:width$}  {value}  ({})", setting.name, source(config, setting)))?;
    }
    Ok(())
}

fn shown(config: &Config, setting: &Setting) -> Option<String> {
    let value = config.values.text(setting.name)?;
    Some(match setting {
        Setting { secret: true, .. } => "(set)".to_owned(),
        Setting { connection: true, .. } => without_password(value),
        _ => value.to_owned(),
    })
}

fn source(config: &Config, setting: &Setting) -> String {
    config.values.source(setting.name).map_or_else(|| "not set".to_owned(), Source::to_string)
}

/// Writes the reference of all settings.
pub fn reference() -> String {
    let mut text = String::from(
        "# Settings\n\nMade from the table in `crates/server/src/config/setting.rs` by `nudge config --markdown`; a test keeps it so.\n\n\
         A flag beats the environment, the environment beats `nudge.toml` (the same names in lower case), and that beats the\n\
         default. `nudge config` shows every value and where it came from. Secrets have no flag: a command line is readable by others.\n\n\
         | environment | flag | default | meaning |\n|---|---|---|---|\n",
    );
    for setting in SETTINGS {
        let flag = setting.flag().map_or_else(|| "–".to_owned(), |flag| format!("`--{flag}`"));
        let default = setting.default.map_or_else(|| "–".to_owned(), |d| format!("`{d}`"));
        text.push_str(&format!("| `{}` | {flag} | {default} | {} |\n", setting.name, setting.help));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_reference_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIGURATION.md");
        let found = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            found,
            super::reference(),
            "run: cargo run -q -- config --markdown > docs/CONFIGURATION.md"
        );
    }
}
