//! A running server: locked data directory, database, spool, background tasks, connections, and a shutdown that
//! finishes what it took.

use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use nudge_store::admin::{self, AdminError, Severity};
use nudge_store::{PostgresOptions, Store, StoreError, StoreOptions};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::api::app::{Parts, Peer};
use crate::api::{self, App};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Database, Keys};
use crate::jobs::refresh;
use crate::jobs::run::Means;
use crate::jobs::schedule;
use crate::jobs::worker::Worker;
use crate::recorder::Recorder;
use crate::recorder::spool::{Spool, SpoolError};
use crate::request_log::{RequestLog, Surroundings};
use crate::telemetry::Metrics;
use crate::telemetry::otlp::{Otlp, OtlpError};

/// Largest head of a request, URL included.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Most headers of a request.
const MAX_HEADERS: usize = 100;
/// Connections that may wait to be accepted. The system's own default of 128 is a burst; who comes after waits a second.
const BACKLOG: u32 = 4_096;
/// Time that bringing spooled decisions back may take at the end.
const DRAIN: Duration = Duration::from_secs(2);
/// Interval of housekeeping.
const UPKEEP: Duration = Duration::from_secs(5);
/// Interval at which public keys by URL are fetched anew.
const KEYS_REFRESH: Duration = Duration::from_secs(600);

/// Interval at which room for the months ahead is looked after.
const MONTHS_CHECK: Duration = Duration::from_secs(24 * 3_600);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("cannot use the data folder {}: {source}\n  Choose another with --data-dir DIR, or make this one writable.", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another server runs on the data directory.
    #[error("another nudge server already runs on {}\n  Stop it first, or give this one a folder of its own with --data-dir DIR.", path.display())]
    AlreadyRunning {
        /// The folder.
        path: PathBuf,
    },
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}\n  Choose another port with --port PORT (0 takes a free one)."
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database's role is one to which nothing is forbidden, and other machines can connect.
    #[error(
        "the role `{role}` is a superuser of PostgreSQL: nothing is forbidden to it, row security included\n  \
         Use the database's owner or another role of its own, bind to 127.0.0.1, or set NUDGE_ALLOW_SUPERUSER=1."
    )]
    Superuser {
        /// The role.
        role: String,
    },
    /// The database cannot be looked at.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Something of the database's rights is not as it must be.
    #[error("the database is not safe to serve from:{problems}")]
    Unsafe {
        /// What, each with the statements that mend it.
        problems: String,
    },
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Where traces and metrics are to be sent.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
}

/// The exclusive use of a data directory, for as long as it lives.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Makes the data directory if need be and takes it, or says that another server has it.
    ///
    /// # Errors
    /// [`StartError::DataDir`] or [`StartError::AlreadyRunning`].
    pub fn take(path: &Path) -> Result<Self, StartError> {
        let fail = |source| StartError::DataDir { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(fail)?;
        let lock_path = path.join("nudge.lock");
        let file = File::options().write(true).create(true).truncate(false).open(lock_path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StartError::AlreadyRunning { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(fail(source)),
        }
    }
}

/// Opens the database with the service's options.
///
/// # Errors
/// When it cannot be opened or migrated, or a server's schema is not that of this program.
pub async fn open_store(config: &Config) -> Result<Store, StoreError> {
    match &config.database {
        Database::File(path) => Store::open(StoreOptions { path: path.clone(), ..StoreOptions::default() }),
        Database::Server { dsn, .. } => Store::connect(PostgresOptions::new((**dsn).clone())).await,
    }
}

/// Warns of a role to which nothing is forbidden, row security included; refuses it where other machines can connect.
async fn check_role(store: &Store, config: &Config) -> Result<(), StartError> {
    match store.role().await? {
        Some(role) if role.superuser && !config.bind.is_loopback() && !config.allow_superuser => {
            Err(StartError::Superuser { role: role.name })
        }
        Some(role) if role.superuser => {
            tracing::warn!(role = role.name, "store.superuser: nothing is forbidden to this role");
            Ok(())
        }
        Some(_) | None => Ok(()),
    }
}

/// Makes room for the months ahead. Where that fails the months that are there are used on, and the spool has the rest.
async fn prepare_months(store: &Store) {
    match store.prepare_months().await {
        Ok(0) => {}
        Ok(made) => tracing::info!(made, "store.months_prepared"),
        Err(error) => tracing::error!(%error, "store.months_not_prepared"),
    }
}

/// Drops the months of which nothing is to be kept.
async fn drop_months(app: &App) {
    let today = app.clock.today(&app.zone);
    match app.store.drop_months(&app.retention, today).await {
        Ok(0) => {}
        Ok(dropped) => tracing::info!(dropped, "store.months_dropped"),
        Err(error) => tracing::error!(%error, "store.months_not_dropped"),
    }
}

/// Looks for what is wrong with a server's database: what the service can live with is warned of, the rest refused.
async fn check_rights(config: &Config) -> Result<(), StartError> {
    let Database::Server { dsn, .. } = &config.database else { return Ok(()) };
    let findings = admin::Server::connect((**dsn).clone()).await?.findings().await?;
    let mut problems = String::new();
    for finding in &findings {
        match finding.severity() {
            Severity::Warning => {
                let remedy = finding.remedy().join(" ");
                tracing::warn!(%finding, remedy, "store.finding");
            }
            Severity::Refusal => {
                // Writing to a String cannot fail.
                let _ = write!(problems, "\n  {finding}");
                for statement in finding.remedy() {
                    let _ = write!(problems, "\n      {statement}");
                }
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(StartError::Unsafe { problems }) }
}

/// A server that listens and is about to serve.
#[derive(Debug)]
pub struct Server {
    /// The state.
    pub app: Arc<App>,
    /// The keys.
    pub keys: Keys,
    listener: TcpListener,
    address: SocketAddr,
    _lock: DataDirLock,
}

impl Server {
    /// Takes the data directory, the port, the database and the spool. `config.port` becomes the one listened on.
    ///
    /// # Errors
    /// [`StartError`] says which of them cannot be had.
    pub async fn start(config: &mut Config, lock: DataDirLock, clock: Clock) -> Result<Self, StartError> {
        let wanted = SocketAddr::new(config.bind, config.port);
        let fail = |source| StartError::Listen { address: wanted, source };
        let listener = listen(wanted).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        config.port = address.port();
        let keys = Keys::load(config)?;
        let auth = keys.authenticator(config, clock.now()).await?;
        let store = open_store(config).await?;
        check_role(&store, config).await?;
        prepare_months(&store).await;
        check_rights(config).await?;
        schedule::begin(&store, &config.job_schedule, clock.now(), &config.zone).await?;
        let spool = Spool::open(&config.data_dir, config.spool_bytes)?;
        let recorder = Arc::new(Recorder::new(store.clone(), spool, config.commit_timeout));
        let metrics = Metrics::install();
        let otlp = match &config.otlp {
            Some(otlp) => Some(Arc::new(Otlp::start(otlp, &config.instance(), &metrics)?)),
            None => None,
        };
        let request_log = Arc::new(RequestLog::new(config.request_log, config.users_of_log(&keys)));
        let (anon_key, secret) = (keys.anon.clone(), keys.secret.clone());
        let parts = Parts { clock, auth, store, recorder, metrics, otlp, request_log, anon_key, secret };
        let app = Arc::new(App::new(config, parts));
        Ok(Self { app, keys, listener, address, _lock: lock })
    }

    /// Gives the address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` resolves, then finishes what it took, and closes the database.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let Self { app, listener, _lock, .. } = self;
        let (stop_jobs, stopping) = watch::channel(false);
        let worker = tokio::spawn(worker(&app, stopping).work());
        let mut tasks = background(&app);
        start_request_log(&app);
        let router = api::router(Arc::clone(&app));
        let connections = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(app.limits.connections));
        let (closing, closed) = watch::channel(false);
        let mut stop = std::pin::pin!(stop);
        loop {
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place,
                () = &mut stop => break,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            match (accepted, place) {
                (Ok((stream, peer)), Ok(place)) => {
                    let connection = connection(&app, router.clone(), stream, peer);
                    let watched = connections.watch(connection);
                    let mut closed = closed.clone();
                    tokio::spawn(async move {
                        let ended = tokio::select! {
                            ended = watched => ended,
                            // The grace is over: what is still under way is cut off.
                            _ = closed.wait_for(|closed| *closed) => Ok(()),
                        };
                        if let Err(error) = ended {
                            tracing::debug!(%error, "connection.ended");
                        }
                        drop(place);
                    });
                }
                (Err(error), _) => {
                    // Out of file descriptors, mostly: those that close make room.
                    tracing::warn!(%error, "listener.accept_failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                (_, Err(_closed)) => break,
            }
        }
        drop(listener);
        tracing::info!("server.stopping");
        app.dashboard.stopping.send_replace(true);
        if tokio::time::timeout(app.limits.shutdown, connections.shutdown()).await.is_err() {
            tracing::warn!("server.requests_cut_off");
            closing.send_replace(true);
        }
        // A run under way stores the batch that it has, and leaves the rest to whoever comes next.
        stop_jobs.send_replace(true);
        let unfinished = worker.abort_handle();
        match tokio::time::timeout(app.limits.shutdown, worker).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "job.worker_died"),
            // Its lease is over soon, and whoever comes next goes on with the run.
            Err(_late) => {
                tracing::warn!("job.cut_off");
                unfinished.abort();
            }
        }
        // First the replay in the background, so that the last one is the only one.
        tasks.shutdown().await;
        let drained = tokio::time::timeout(DRAIN, app.recorder.drain());
        let (drained, ()) = tokio::join!(drained, app.request_log.stop(&app.store));
        let depth = app.recorder.stats().spool_depth;
        if depth > 0 {
            tracing::warn!(?drained, spool.depth = depth, "server.spool_not_empty");
        }
        // What is sent at the end are the figures of the end.
        api::metrics::publish(&app);
        app.store.close().await;
        if let Some(otlp) = app.otlp.clone()
            && let Err(error) = tokio::task::spawn_blocking(move || otlp.stop()).await
        {
            tracing::error!(%error, "otlp.stop_died");
        }
        // A thread that waits for somebody's answer would keep the process from ending.
        app.outbound.close();
        tracing::info!("server.stopped");
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Starts what turns requests into rows and events.
fn start_request_log(app: &App) {
    app.request_log.start(&Surroundings {
        store: app.store.clone(),
        outbound: app.outbound.clone(),
        clock: app.clock.clone(),
        retention: app.retention,
        instance: Arc::clone(&app.instance),
    });
}

/// Makes what works on runs of the recalculation job.
fn worker(app: &App, stop: watch::Receiver<bool>) -> Worker {
    let means = Means {
        store: app.store.clone(),
        clock: app.clock.clone(),
        policy: Arc::clone(&app.policy),
        drift_points: app.job_drift_points,
    };
    let (schedule, zone) = (app.job_schedule.clone(), app.zone.clone());
    Worker { means, jobs: Arc::clone(&app.jobs), schedule, zone, stop, set_back_for: None }
}

/// Starts what runs beside the requests.
fn background(app: &Arc<App>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let recorder = Arc::clone(&app.recorder);
    tasks.spawn(async move { recorder.replay().await });
    let refresher = Arc::clone(&app.refresher);
    tasks.spawn(refresh::work(refresher, app.archetypes.clone(), app.clock.clone()));
    let people = Arc::clone(&app.people);
    tasks.spawn(async move { people.follow_changes().await });
    tasks.spawn(crate::usecases::report::keep(app.store.clone()));
    let keys_of = Arc::clone(app);
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(KEYS_REFRESH).await;
            keys_of.auth.refresh_keys(keys_of.clock.now()).await;
        }
    });
    let months_of = Arc::clone(app);
    tasks.spawn(async move {
        loop {
            drop_months(&months_of).await;
            tokio::time::sleep(MONTHS_CHECK).await;
            prepare_months(&months_of.store).await;
        }
    });
    if let Some(every) = app.alerts.config.every {
        let alerts_of = Arc::clone(app);
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                alerts_of.alerts.evaluate(alerts_of.observed(), alerts_of.clock.now()).await;
            }
        });
    }
    let app = Arc::clone(app);
    tasks.spawn(async move {
        let mut logged = None;
        loop {
            log_audit_head(&app, &mut logged).await;
            tokio::time::sleep(UPKEEP).await;
            app.metrics.upkeep();
            api::metrics::publish(&app);
            app.tidy_rates();
        }
    });
    tasks
}

/// Logs the newest hash of the audit log when it is another than before: also for changes made by other processes.
async fn log_audit_head(app: &App, logged: &mut Option<String>) {
    match app.store.audit_head().await {
        Ok(head) if head == *logged => {}
        Ok(head) => {
            tracing::info!(audit.head = head.as_deref().unwrap_or("none"), "audit.head");
            *logged = head;
        }
        Err(error) => tracing::debug!(%error, "audit.head_unreadable"),
    }
}

type Service = hyper_util::service::TowerToHyperService<WithPeer>;

fn connection(
    app: &App,
    router: Router,
    stream: TcpStream,
    peer: SocketAddr,
) -> http1::Connection<TokioIo<TcpStream>, Service> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection.nodelay_failed");
    }
    let service = hyper_util::service::TowerToHyperService::new(WithPeer { router, peer: Peer(peer) });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.limits.header_timeout)
        .max_buf_size(2 * MAX_HEAD_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
}

/// Hands the other end's address to the routes.
#[derive(Clone)]
struct WithPeer {
    router: Router,
    peer: Peer,
}

impl tower::Service<hyper::Request<Incoming>> for WithPeer {
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = axum::routing::future::RouteFuture<std::convert::Infallible>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: hyper::Request<Incoming>) -> Self::Future {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(self.peer);
        tower::Service::call(&mut self.router, request)
    }
}

/// Takes Ctrl-C and SIGTERM from now on, and resolves when one of them has come.
pub fn asked_to_stop() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        match signals {
            (Ok(mut interrupt), Ok(mut terminate)) => {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            }
            (interrupt, terminate) => {
                tracing::error!(?interrupt, ?terminate, "server.signals_unavailable");
                std::future::pending::<()>().await;
            }
        }
    }
}
