//! `nudge keys`

use crate::config::{Config, Keys};

use super::output;

/// Print the three environment lines that clients need
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The keys are made from the secret in the data folder, which is made on first use.\n\n\
    Examples:\n  nudge keys\n  eval \"$(nudge keys)\"\n  nudge keys --json | jq -r .SUPABASE_ANON_KEY"
)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    std::fs::create_dir_all(&config.data_dir)?;
    let keys = Keys::load(config)?;
    let lines = [
        ("SUPABASE_URL", config.url()),
        ("SUPABASE_ANON_KEY", keys.anon),
        ("SUPABASE_SERVICE_ROLE_KEY", keys.service_role),
    ];
    if args.json {
        return output::json(&std::collections::BTreeMap::from(lines));
    }
    for (name, value) in lines {
        output::line(format_args!("{name}={value}"))?;
    }
    Ok(())
}
