//! `nudge token`

use anyhow::Context as _;
use clap::ValueEnum;
use jiff::{Span, SpanRelativeTo};
use nudge_engine::UserId;
use serde_json::json;

use crate::auth::keys;
use crate::config::{Config, Keys};

use super::{clock, output};

/// Make a token for a user, signed with the project's secret
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  nudge token --sub user-000001\n  nudge token --sub alice --ttl 7d\n  \
    curl -H \"Authorization: Bearer $(nudge token --sub alice)\" 'http://127.0.0.1:54321/functions/v1/user-archetype?userId=alice'")]
pub struct Args {
    /// The user's id
    #[arg(long, value_name = "USER")]
    sub: UserId,
    /// The role
    #[arg(long, value_enum, default_value = "authenticated")]
    role: Role,
    /// How long it is valid, such as 30m, 1h or 7d
    #[arg(long, default_value = "1h", value_parser = parse_ttl)]
    ttl: jiff::SignedDuration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    Anon,
    Authenticated,
    #[value(name = "service_role")]
    Service,
}

fn parse_ttl(text: &str) -> Result<jiff::SignedDuration, String> {
    let span: Span = text.parse().map_err(|_| "give a duration such as 30m, 1h or 7d".to_owned())?;
    let ttl = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    if ttl.as_secs() < 1 { Err("must be at least one second".to_owned()) } else { Ok(ttl) }
}

pub fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    std::fs::create_dir_all(&config.data_dir).context("the data folder, which holds the secret")?;
    let keys = Keys::load(config)?;
    let role = match args.role {
        Role::Anon => "anon",
        Role::Authenticated => "authenticated",
        Role::Service => "service_role",
    };
    output::line(make(&keys, &args.sub, role, args.ttl)?)?;
    Ok(())
}

/// Makes a token.
pub fn make(keys: &Keys, sub: &UserId, role: &str, ttl: jiff::SignedDuration) -> anyhow::Result<String> {
    let now = clock().now().as_second();
    let claims = json!({ "iss": "nudge", "sub": sub.as_str(), "role": role, "iat": now, "exp": now.saturating_add(ttl.as_secs()) });
    Ok(keys::sign(keys.secret.as_bytes(), &claims)?)
}
