//! `nudge config`

use serde_json::{Value, json};

use crate::config::{Config, SETTINGS};

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
    let all = config.shown();
    if args.json {
        let all: serde_json::Map<String, Value> = all
            .into_iter()
            .map(|s| (s.name.to_owned(), json!({ "value": s.value, "source": s.source })))
            .collect();
        return output::json(&all);
    }
    let width = all.iter().map(|s| s.name.len()).max().unwrap_or(0);
    for setting in all {
        let value = setting.value.as_deref().unwrap_or("-");
        output::line(format_args!("{:width$}  {value}  ({})", setting.name, setting.source))?;
    }
    Ok(())
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
