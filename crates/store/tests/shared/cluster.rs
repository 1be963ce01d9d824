//! A PostgreSQL of a test's own, so that it can be stopped or set up in its own way.
//!
//! This file is used by the tests of more than one crate.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A cluster in a temporary folder, stopped at the end.
pub struct Cluster {
    folder: tempfile::TempDir,
    pub port: u16,
}

impl Cluster {
    /// Makes and starts a cluster; gives it and the URL of its superuser.
    pub fn start() -> (Self, String) {
        let folder = tempfile::tempdir().unwrap();
        // Where the user that PostgreSQL runs as can reach it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { folder, port };
        let url = cluster.start_again();
        (cluster, url)
    }

    pub fn start_again(&self) -> String {
        let out = script(&["start", self.folder(), &self.port.to_string()]);
        String::from_utf8(out).unwrap().trim().to_owned()
    }

    pub fn stop(&self) {
        script(&["stop", self.folder()]);
    }

    /// The folder of the cluster's own files.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn folder(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }
}

fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/postgres")
}

fn script(args: &[&str]) -> Vec<u8> {
    let out = Command::new(program()).args(args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may be stopped already.
        let _ = Command::new(program()).args(["stop", self.folder()]).output();
    }
}
