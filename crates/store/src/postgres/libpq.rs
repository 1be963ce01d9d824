//! Tells PostgreSQL's own programs where a database is.

use std::ffi::OsString;
use std::path::Path;

use super::dsn::{ChannelBinding, Dsn, Host, RootCert, SessionAttrs, SslMode};

impl Dsn {
    /// Gives the environment by which libpq finds the database, password included.
    pub(crate) fn libpq_environment(&self) -> Vec<(&'static str, OsString)> {
        let joined = |part: fn(&Host) -> String| {
            OsString::from(self.hosts.iter().map(part).collect::<Vec<_>>().join(","))
        };
        let name = |host: &Host| match host {
            Host::Tcp { name, .. } => name.clone(),
            Host::Unix { folder, .. } => folder.to_string_lossy().into_owned(),
        };
        let port = |host: &Host| match host {
            Host::Tcp { port, .. } | Host::Unix { port, .. } => port.to_string(),
        };
        let address = |host: &Host| match host {
            Host::Tcp { address: Some(address), .. } => address.to_string(),
            _ => String::new(),
        };
        let mut environment = vec![
            ("PGHOST", joined(name)),
            ("PGPORT", joined(port)),
            ("PGAPPNAME", OsString::from(&self.application_name)),
            ("PGCONNECT_TIMEOUT", OsString::from(self.connect_timeout.as_secs().max(1).to_string())),
            ("PGTARGETSESSIONATTRS", OsString::from(attrs(self.session_attrs))),
            ("PGCHANNELBINDING", OsString::from(binding(self.channel_binding))),
            // One for all hosts; what is asked of the first is asked of each.
            (
                "PGSSLMODE",
                OsString::from(self.hosts.first().map_or("prefer", |host| mode(self.ssl_mode(host)))),
            ),
        ];
        if self.hosts.iter().any(|host| matches!(host, Host::Tcp { address: Some(_), .. })) {
            environment.push(("PGHOSTADDR", joined(address)));
        }
        let words = [
            ("PGUSER", self.user.as_deref()),
            ("PGDATABASE", self.dbname.as_deref()),
            ("PGOPTIONS", self.options.as_deref()),
            ("PGPASSWORD", self.password.as_ref().map(|password| password.0.as_str())),
        ];
        environment
            .extend(words.into_iter().filter_map(|(name, value)| Some((name, OsString::from(value?)))));
        match &self.root_cert {
            Some(RootCert::System) => environment.push(("PGSSLROOTCERT", OsString::from("system"))),
            Some(RootCert::File(file)) => {
                environment.push(("PGSSLROOTCERT", Path::new(file).as_os_str().to_owned()))
            }
            None => {}
        }
        environment
    }
}

const fn mode(mode: SslMode) -> &'static str {
    match mode {
        SslMode::Disable => "disable",
        SslMode::Allow => "allow",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    }
}

const fn attrs(attrs: SessionAttrs) -> &'static str {
    match attrs {
        SessionAttrs::Any => "any",
        SessionAttrs::ReadWrite => "read-write",
        SessionAttrs::ReadOnly => "read-only",
        SessionAttrs::Primary => "primary",
        SessionAttrs::Standby => "standby",
        SessionAttrs::PreferStandby => "prefer-standby",
    }
}

const fn binding(binding: ChannelBinding) -> &'static str {
    match binding {
        ChannelBinding::Disable => "disable",
        ChannelBinding::Prefer => "prefer",
        ChannelBinding::Require => "require",
    }
}
