//! What a service of many machines stands on, each a real process on loopback: PgBouncer before the database, HAProxy
//! before the servers.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::postgres::OWNER;
use crate::support::{PATIENCE, eventually};

/// Gives a port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program beside the service, killed when dropped.
pub struct Beside {
    child: Child,
    pub port: u16,
}

impl Beside {
    fn start(mut command: Command, port: u16, log: &Path) -> Self {
        let file = std::fs::File::create(log).unwrap();
        let again = file.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(file).stderr(again).spawn().unwrap();
        let mut beside = Self { child, port };
        eventually("a listener", || {
            if let Some(status) = beside.child.try_wait().unwrap() {
                panic!("it ended: {status}\n{}", std::fs::read_to_string(log).unwrap());
            }
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        beside
    }

    /// PgBouncer in transaction mode before the databases of a server, with a few connections to each.
    pub fn pgbouncer(host: &str, server_port: &str, folder: &Path) -> Self {
        let port = free_port();
        let (ini, users) = (folder.join("pgbouncer.ini"), folder.join("users.txt"));
        std::fs::write(&users, format!("\"{OWNER}\" \"\"\n")).unwrap();
        let text = format!(
            "[databases]\n* = host={host} port={server_port} user={OWNER}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = 12\nmax_client_conn = 400\n",
            users.display()
        );
        std::fs::write(&ini, text).unwrap();
        let mut command;
        if rustix::process::geteuid().is_root() {
            // It refuses root.
            std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "/usr/sbin/pgbouncer"]);
        } else {
            command = Command::new("/usr/sbin/pgbouncer");
        }
        command.arg(&ini).current_dir("/");
        Self::start(command, port, &folder.join("pgbouncer.log"))
    }

    /// HAProxy before servers, which it asks ten times a second whether they are ready. One that is slow to say so is not
    /// taken for dead; a dead one refuses the connection at once.
    pub fn haproxy(servers: &[&str], folder: &Path) -> Self {
        let port = free_port();
        let file = folder.join("haproxy.cfg");
        let mut text = format!(
            "defaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  timeout server 60s\n  timeout check 10s\n\
             \x20 option redispatch\n  retries 3\nfrontend nudge\n  bind 127.0.0.1:{port}\n\
             \x20 default_backend servers\nbackend servers\n  balance roundrobin\n\
             \x20 option httpchk GET /health/ready\n"
        );
        for (n, url) in servers.iter().enumerate() {
            let address = url.trim_start_matches("http://");
            text.push_str(&format!("  server nudge{n} {address} check inter 100ms fall 2 rise 1\n"));
        }
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("/usr/sbin/haproxy");
        command.args(["-db", "-f"]).arg(&file);
        Self::start(command, port, &folder.join("haproxy.log"))
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // It may have ended already; `runuser` passes the signal on.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        drop(eventually_ended(&mut self.child));
    }
}

fn eventually_ended(child: &mut Child) -> std::io::Result<()> {
    let begun = std::time::Instant::now();
    while begun.elapsed() < PATIENCE {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill()
}
