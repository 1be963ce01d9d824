//! Opens connections: picks the server, sets the connection up, and finds out whether a transaction pooler is in between.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_postgres::config::{ChannelBinding as PgChannelBinding, SslMode as PgSslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::convert::{describe, unavailable};
use super::dsn::{ChannelBinding, Dsn, Host, SessionAttrs, SslMode};
use super::session::Session;
use super::tls;
use crate::error::StoreError;

/// Idle time after which a connection is probed, and the time after which unanswered data means that it is dead.
const KEEPALIVE: Duration = Duration::from_secs(30);
const TCP_DEADLINE: Duration = Duration::from_secs(15);
/// Rounds in which two connections are compared to find a pooler, and how long one answer may take.
const POOLER_ROUNDS: usize = 3;
const POOLER_WAIT: Duration = Duration::from_secs(2);

/// Drives a connection until it ends.
pub(super) type Driver = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Opens connections to one database.
pub(super) struct Connector {
    dsn: Dsn,
    /// By host.
    tls: Vec<MakeRustlsConnect>,
    pooled: AtomicBool,
    /// Settings of every connection that is ours alone.
    settings: String,
}

/// A server that answers but is not the one that is asked for.
struct Unwanted(&'static str);

enum Failure {
    Error(Error),
    Unwanted(Unwanted),
    TimedOut,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(error) => f.write_str(&describe(error)),
            Self::Unwanted(Unwanted(what)) => f.write_str(what),
            Self::TimedOut => f.write_str("no answer in time"),
        }
    }
}

impl Connector {
    /// Makes a connector, and looks whether a pooler is in between unless the connection string says so.
    ///
    /// # Errors
    /// [`StoreError::Connect`] when the database cannot be reached.
    pub(super) async fn start(dsn: Dsn, statement_timeout: Duration) -> Result<Arc<Self>, StoreError> {
        let connect_error = |detail: String| StoreError::Connect { database: dsn.to_string(), detail };
        for name in &dsn.unknown {
            tracing::warn!(parameter = name, "store.unknown_connection_parameter");
        }
        let tls = dsn.hosts.iter().map(|host| tls::connector(dsn.ssl_mode(host), dsn.root_cert.as_ref()));
        let tls = tls.collect::<Result<_, _>>().map_err(|error| connect_error(error.to_string()))?;
        let millis = statement_timeout.as_millis();
        let connector = Self {
            tls,
            pooled: AtomicBool::new(dsn.pooler == Some(true)),
            // Plans of short statements are not worth compiling.
            settings: format!(
                "SET statement_timeout = {millis}; SET idle_in_transaction_session_timeout = {}; SET jit = off",
                2 * millis
            ),
            dsn: dsn.clone(),
        };
        if dsn.pooler.is_none() {
            let pooled = connector.is_pooled().await.map_err(|failure| connect_error(failure.to_string()))?;
            connector.pooled.store(pooled, Ordering::Relaxed);
        }
        if connector.pooled.load(Ordering::Relaxed) {
            tracing::info!(database = %dsn, "store.transaction_pooler: statements are sent whole");
        }
        Ok(Arc::new(connector))
    }

    /// Opens one connection as it comes, for work that an operator waits for, and drives it.
    ///
    /// # Errors
    /// [`StoreError::Connect`] that says what each server answered.
    pub(super) async fn alone(dsn: Dsn) -> Result<Client, StoreError> {
        // Nothing here depends on whether a pooler is in between: there is no need to find out.
        let dsn = Dsn { pooler: Some(false), ..dsn };
        let database = dsn.to_string();
        let connector = Self::start(dsn, Duration::ZERO).await?;
        let (client, driver) = connector
            .connect()
            .await
            .map_err(|failure| StoreError::Connect { database, detail: failure.to_string() })?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(error = describe(&error), "store.connection_ended");
            }
        });
        Ok(client)
    }

    /// Opens a connection and sets it up.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] that says what each server answered.
    pub(super) async fn open(&self) -> Result<(Session, Driver), StoreError> {
        let pooled = self.pooled.load(Ordering::Relaxed);
        let setting_up = async {
            let (client, mut driver) = self.connect().await?;
            if !pooled {
                drive(&mut driver, client.batch_execute(&self.settings)).await??;
            }
            Ok::<_, Failure>((Session::new(client, pooled), driver))
        };
        setting_up.await.map_err(|failure| unavailable(format!("cannot connect to {}: {failure}", self.dsn)))
    }

    /// Tries the servers in their order, and once more without the wish that one be a standby.
    async fn connect(&self) -> Result<(Client, Driver), Failure> {
        match self.connect_to(self.dsn.session_attrs).await {
            Err(Failure::Unwanted(_)) if self.dsn.session_attrs == SessionAttrs::PreferStandby => {
                self.connect_to(SessionAttrs::Any).await
            }
            other => other,
        }
    }

    async fn connect_to(&self, wanted: SessionAttrs) -> Result<(Client, Driver), Failure> {
        let mut last = None;
        for (host, tls) in self.dsn.hosts.iter().zip(&self.tls) {
            match self.try_host(host, tls, wanted).await {
                Ok(connected) => return Ok(connected),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.unwrap_or(Failure::TimedOut))
    }

    /// Tries a server; where TLS is a matter of taste, also the other way.
    async fn try_host(
        &self,
        host: &Host,
        tls: &MakeRustlsConnect,
        wanted: SessionAttrs,
    ) -> Result<(Client, Driver), Failure> {
        let (first, second) = match self.dsn.ssl_mode(host) {
            SslMode::Disable => (PgSslMode::Disable, None),
            SslMode::Allow => (PgSslMode::Disable, Some(PgSslMode::Require)),
            SslMode::Prefer => (PgSslMode::Prefer, Some(PgSslMode::Disable)),
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (PgSslMode::Require, None),
        };
        match (self.try_once(host, tls, first, wanted).await, second) {
            (Err(Failure::Error(error)), Some(second)) if is_worth_the_other_way(&error) => {
                self.try_once(host, tls, second, wanted).await.map_err(|failure| match failure {
                    // What the first way said is more to the point.
                    Failure::Error(_) => Failure::Error(error),
                    other => other,
                })
            }
            (result, _) => result,
        }
    }

    async fn try_once(
        &self,
        host: &Host,
        tls: &MakeRustlsConnect,
        mode: PgSslMode,
        wanted: SessionAttrs,
    ) -> Result<(Client, Driver), Failure> {
        let config = self.config(host, mode);
        let connecting = async {
            let (client, connection) = config.connect(tls.clone()).await?;
            let mut driver: Driver = Box::pin(connection);
            if wanted != SessionAttrs::Any {
                drive(&mut driver, check(&client, wanted)).await??;
            }
            Ok((client, driver))
        };
        tokio::time::timeout(self.dsn.connect_timeout, connecting).await.map_err(|_| Failure::TimedOut)?
    }

    fn config(&self, host: &Host, mode: PgSslMode) -> Config {
        let dsn = &self.dsn;
        let mut config = Config::new();
        match host {
            Host::Tcp { name, address, port } => {
                config.host(name).port(*port);
                if let Some(address) = address {
                    config.hostaddr(*address);
                }
            }
            Host::Unix { folder, port } => {
                config.host_path(folder).port(*port);
            }
        }
        if let Some(user) = &dsn.user {
            config.user(user);
        }
        if let Some(password) = &dsn.password {
            config.password(&password.0);
        }
        if let Some(dbname) = &dsn.dbname {
            config.dbname(dbname);
        }
        if let Some(options) = &dsn.options {
            config.options(options);
        }
        let binding = match dsn.channel_binding {
            ChannelBinding::Disable => PgChannelBinding::Disable,
            ChannelBinding::Prefer => PgChannelBinding::Prefer,
            ChannelBinding::Require => PgChannelBinding::Require,
        };
        config
            .application_name(&dsn.application_name)
            .ssl_mode(mode)
            .channel_binding(binding)
            .connect_timeout(dsn.connect_timeout)
            .keepalives_idle(KEEPALIVE)
            .tcp_user_timeout(TCP_DEADLINE);
        config
    }

    /// Finds a transaction pooler: behind one, a connection's statements meet whichever server process is free, so that
    /// two connections that are open at once meet the same one, or one connection meets two.
    async fn is_pooled(&self) -> Result<bool, Failure> {
        let (one, mut one_driver) = self.connect().await?;
        let (other, mut other_driver) = self.connect().await?;
        let compared = async {
            for _ in 0..POOLER_ROUNDS {
                let before = process(&one).await?;
                other.batch_execute("BEGIN").await?;
                let within = process(&other).await?;
                if before == within {
                    return Ok(true);
                }
                // The other one keeps its server process now; one that waits for it has none of its own.
                let after = match tokio::time::timeout(POOLER_WAIT, process(&one)).await {
                    Ok(after) => after?,
                    Err(_) => return Ok(true),
                };
                other.batch_execute("ROLLBACK").await?;
                if before != after {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        tokio::select! {
            pooled = compared => pooled,
            ended = &mut one_driver => Err(ended.err().map_or(Failure::TimedOut, Failure::Error)),
            ended = &mut other_driver => Err(ended.err().map_or(Failure::TimedOut, Failure::Error)),
        }
    }
}

/// Does something on a connection that nobody drives yet.
async fn drive<T>(driver: &mut Driver, work: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        ended = driver => Err(ended.err().map_or(Failure::TimedOut, Failure::Error)),
    }
}

/// Says whether a failure may come from having TLS, or from not having it.
fn is_worth_the_other_way(error: &Error) -> bool {
    match error.code() {
        // No line of pg_hba.conf fits.
        Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => !error.is_closed() && error.to_string().contains("TLS"),
    }
}

/// Refuses a server that is not the one that is wanted.
async fn check(client: &Client, wanted: SessionAttrs) -> Result<(), Failure> {
    const STATE: &str =
        "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')";
    let messages = client.simple_query(STATE).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0) == Some("t"), row.get(1) == Some("on"))),
        _ => None,
    });
    let Some((in_recovery, read_only)) = row else { return Err(Failure::TimedOut) };
    let fits = match wanted {
        SessionAttrs::Any => true,
        SessionAttrs::ReadWrite => !read_only,
        SessionAttrs::ReadOnly => read_only,
        SessionAttrs::Primary => !in_recovery,
        SessionAttrs::Standby | SessionAttrs::PreferStandby => in_recovery,
    };
    if fits {
        Ok(())
    } else {
        Err(Failure::Unwanted(Unwanted("no server is as target_session_attrs wants it")))
    }
}

/// Gives the number of the server process that answers.
async fn process(client: &Client) -> Result<Option<String>, Error> {
    let messages = client.simple_query("SELECT pg_catalog.pg_backend_pid()").await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
