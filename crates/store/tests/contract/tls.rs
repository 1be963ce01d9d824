//! What `sslmode` and passwords come to, with real certificates on a server of its own.

use std::path::Path;
use std::process::Command;

use crate::cluster::Cluster;
use crate::postgres::{OWNER, TestDatabase, client, server_url};
use nudge_store::*;

fn openssl(folder: &Path, args: &str) {
    let out = Command::new("openssl").args(args.split(' ')).current_dir(folder).output();
    let out = out.expect("openssl is not installed: apt-get install openssl");
    assert!(out.status.success(), "{args}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Makes two authorities, and a certificate of the first for `localhost`.
fn certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for name in ["ca", "other"] {
        openssl(
            folder.path(),
            &format!("req -x509 {key} -keyout {name}.key -out {name}.crt -subj /CN={name} -days 2"),
        );
    }
    openssl(folder.path(), &format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    std::fs::write(folder.path().join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(
        folder.path(),
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt",
    );
    folder
}

/// A server with TLS.
struct Site {
    database: TestDatabase,
    superuser: tokio_postgres::Client,
    cluster: Cluster,
    certificates: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        // Says how to start one where there is none, as the other tests do.
        let _ = server_url();
        let (cluster, url) = Cluster::start();
        let certificates = certificates();
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(cluster.data()).unwrap());
        for name in ["server.crt", "server.key"] {
            let to = cluster.data().join(name);
            std::fs::copy(certificates.path().join(name), &to).unwrap();
            std::os::unix::fs::chown(&to, Some(owner), Some(owner)).unwrap();
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&to, private).unwrap();
        }
        let superuser = client(&url.parse().unwrap()).await;
        let database = TestDatabase::on(&url).await;
        superuser.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
        superuser.batch_execute(&format!("ALTER ROLE {OWNER} PASSWORD 'correct horse'")).await.unwrap();
        let site = Self { database, superuser, cluster, certificates };
        site.allow("host all all all trust").await;
        site
    }

    /// Sets who may log in how, and waits until new connections find it so. The superuser always may.
    async fn allow(&self, line: &str) {
        let text = format!("host all postgres all trust\n{line}\n");
        std::fs::write(self.cluster.data().join("pg_hba.conf"), text).unwrap();
        let loaded = async || -> String {
            self.superuser.query_one("SELECT pg_conf_load_time()::text", &[]).await.unwrap().get(0)
        };
        let before = loaded().await;
        self.superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        // The postmaster passes it on, and takes no connection before it is done itself.
        while loaded().await == before {
            tokio::task::yield_now().await;
        }
    }

    fn file(&self, name: &str) -> String {
        self.certificates.path().join(name).display().to_string()
    }

    /// Connects; says whether that was with TLS, or why it could not be.
    async fn connect(&self, host: &str, password: Option<&str>, parameters: &str) -> Result<bool, String> {
        let password = password.map(|password| format!(":{password}")).unwrap_or_default();
        let (port, name) = (self.cluster.port, &self.database.name);
        let url = format!(
            "postgres://{OWNER}{password}@{host}:{port}/{name}?pgbouncer=false&connect_timeout=5{parameters}"
        );
        let options = PostgresOptions { readers: 1, ..PostgresOptions::new(url.parse().unwrap()) };
        let store = Store::connect(options).await.map_err(|error| error.to_string())?;
        let sql = "SELECT count(*), count(*) FILTER (WHERE s.ssl) FROM pg_stat_ssl AS s
          JOIN pg_stat_activity AS a USING (pid) WHERE a.usename = $1";
        let row = self.superuser.query_one(sql, &[&OWNER]).await.unwrap();
        let (all, with_tls): (i64, i64) = (row.get(0), row.get(1));
        assert!(all > 0 && (with_tls == 0 || with_tls == all), "{with_tls} of {all}");
        store.close().await;
        drop(store);
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
        while self.superuser.query_one(sql, &[&OWNER]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::task::yield_now().await;
        }
        Ok(with_tls > 0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sslmode_means_what_it_means_to_libpq() {
    let site = Site::new().await;
    let (ca, other) = (site.file("ca.crt"), site.file("other.crt"));
    let root = |file: &str| format!("&sslrootcert={file}");
    let (right, wrong, absent) = (root(&ca), root(&other), root("/does/not/exist"));
    // Who may log in, host, parameters, whether with TLS, or what the refusal says.
    let rows: Vec<(&str, &str, String, Result<bool, &str>)> = vec![
        ("host", "localhost", String::new(), Ok(true)),
        ("host", "localhost", "&sslmode=disable".into(), Ok(false)),
        ("host", "localhost", "&sslmode=allow".into(), Ok(false)),
        ("host", "localhost", "&sslmode=prefer".into(), Ok(true)),
        ("host", "127.0.0.1", "&sslmode=require".into(), Ok(true)),
        ("host", "127.0.0.1", format!("&sslmode=require{right}"), Ok(true)),
        ("host", "127.0.0.1", format!("&sslmode=require{wrong}"), Err("UnknownIssuer")),
        ("host", "127.0.0.1", format!("&sslmode=verify-ca{right}"), Ok(true)),
        ("host", "localhost", format!("&sslmode=verify-ca{wrong}"), Err("UnknownIssuer")),
        ("host", "localhost", format!("&sslmode=verify-full{right}"), Ok(true)),
        ("host", "127.0.0.1", format!("&sslmode=verify-full{right}"), Err("not valid for name")),
        ("host", "localhost", "&sslrootcert=system".into(), Err("UnknownIssuer")),
        ("host", "localhost", format!("&sslmode=verify-ca{absent}"), Err("/does/not/exist")),
        ("hostssl", "localhost", "&sslmode=disable".into(), Err("no encryption")),
        ("hostssl", "localhost", "&sslmode=allow".into(), Ok(true)),
        ("hostssl", "localhost", "&sslmode=prefer".into(), Ok(true)),
        ("hostnossl", "localhost", "&sslmode=prefer".into(), Ok(false)),
        ("hostnossl", "localhost", "&sslmode=require".into(), Err("28000")),
    ];
    for (kind, host, parameters, expected) in rows {
        site.allow(&format!("{kind} all all all trust")).await;
        let found = site.connect(host, None, &parameters).await;
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{kind} {host} {parameters}"),
            (Err(found), Err(says)) => assert!(found.contains(says), "{kind} {host} {parameters}: {found}"),
            _ => panic!("{kind} {host} {parameters}: {found:?}, not {expected:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_proved_and_never_shown() {
    let site = Site::new().await;
    for method in ["scram-sha-256", "password"] {
        site.allow(&format!("host all all all {method}")).await;
        assert_eq!(site.connect("localhost", Some("correct%20horse"), "").await, Ok(true));
        assert_eq!(site.connect("localhost", Some("correct%20horse"), "&sslmode=disable").await, Ok(false));
        let refused = site.connect("localhost", Some("hunter2"), "").await.unwrap_err();
        assert!(refused.contains("28P01") && !refused.contains("hunter2"), "{refused}");
        let refused = site.connect("localhost", None, "").await.unwrap_err();
        assert!(refused.contains("password missing"), "{refused}");
    }
    site.allow("host all all all scram-sha-256").await;
    let bound = "&channel_binding=require";
    assert_eq!(site.connect("localhost", Some("correct%20horse"), bound).await, Ok(true));
    let plain = format!("{bound}&sslmode=disable");
    assert!(site.connect("localhost", Some("correct%20horse"), &plain).await.is_err());
    // A server that only asks for the password in plain text does not prove that it knows it.
    site.allow("host all all all password").await;
    assert!(site.connect("localhost", Some("correct%20horse"), bound).await.is_err());
}
