//! PgBouncer in between, in transaction mode and with few connections: found out at start, without a word in the connection
//! string, and then no answer is another.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::postgres::{OWNER, TestDatabase, server_url};
use crate::story;
use crate::support::*;
use nudge_engine::TransactionType::Crash;
use nudge_store::*;

/// A running PgBouncer.
struct Pooler {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Pooler {
    fn start(database: &TestDatabase) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Where the user that PgBouncer runs as can read.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (users, file) = (folder.path().join("users.txt"), folder.path().join("pgbouncer.ini"));
        std::fs::write(&users, format!("\"{OWNER}\" \"\"\n")).unwrap();
        let server: tokio_postgres::Config = server_url().parse().unwrap();
        let text = format!(
            "[databases]\n{name} = host=127.0.0.1 port={} dbname={name}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = 2\nmax_client_conn = 200\nserver_tls_sslmode = disable\n",
            server.get_ports()[0],
            users.display(),
            name = database.name,
        );
        std::fs::write(&file, text).unwrap();
        // It refuses to be root, and takes another name then.
        let root = std::env::var_os("HOME").is_some_and(|home| home == "/root");
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())
            .expect("PgBouncer is not installed: apt-get install pgbouncer");
        let mut command = Command::new(program);
        command.args(root.then_some("--user=postgres")).arg(&file);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("PgBouncer starts");
        let pooler = Self { child, port, _folder: folder };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "PgBouncer does not listen");
            std::thread::yield_now();
        }
        pooler
    }

    async fn connect(&self, database: &TestDatabase, adjust: impl FnOnce(&mut PostgresOptions)) -> Store {
        let url = format!("postgres://{OWNER}@127.0.0.1:{}/{}", self.port, database.name);
        let mut options = PostgresOptions::new(url.parse().unwrap());
        assert_eq!(options.dsn.pooler, None, "the string says nothing");
        adjust(&mut options);
        Store::connect(options).await.unwrap()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_transaction_pooler_the_answers_are_the_same() {
    let direct = story::tell(&Fixture::postgres(|_| {}).await).await;
    let mut f = Fixture::postgres(|_| {}).await;
    let pooler = Pooler::start(f.database());
    f.store = pooler.connect(f.database(), |_| {}).await;
    let pooled = story::tell(&f).await;
    for (n, (one, other)) in direct.lines().zip(pooled.lines()).enumerate() {
        assert_eq!(one, other, "answer {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_share_the_few_connections_of_a_pooler() {
    let f = Fixture::postgres(|_| {}).await;
    f.facts((0..40).map(|n| member("home", &format!("user-{n}")))).await;
    f.facts((0..40).map(|n| profile(&format!("user-{n}"), None, None))).await;
    let pooler = Pooler::start(f.database());
    let store = pooler.connect(f.database(), |_| {}).await;
    let tasks: Vec<_> = (0..400_u64)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                let me = format!("user-{}", n % 40);
                store.record_decision(decision(n, Some(&me), Crash)).await.unwrap();
                assert_eq!(store.leases_of(&user(&me)).await.unwrap(), [entity("home")]);
                let caller = Caller::User(user(&me));
                let query = ReadQuery { table: "profiles".into(), ..ReadQuery::default() };
                let answer = store.read_as(&caller, &query).await.unwrap();
                let rows: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!((answer.rows, &rows[0]["id"]), (1, &me.as_str().into()));
                let stored = store.decision(id(n)).await.unwrap().unwrap();
                assert_eq!(stored.row.user_id, Some(user(&me)));
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.writer_stats().failures, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_limited_behind_a_pooler_as_well() {
    let f = Fixture::postgres(|_| {}).await;
    let pooler = Pooler::start(f.database());
    let store = pooler.connect(f.database(), |options| options.statement_timeout_ms = 300).await;
    let lock = f.lock().await;
    let replayed = store.replay_decisions(vec![decision(1, Some("ann"), Crash)]).await.unwrap_err();
    assert!(replayed.is_unavailable() && replayed.to_string().contains("57014"), "{replayed}");
    let decided = store.record_decision(decision(2, Some("ann"), Crash)).await.unwrap_err();
    assert!(decided.is_unavailable(), "{decided}");
    lock.release().await;
    store.record_decision(decision(2, Some("ann"), Crash)).await.unwrap();
}
