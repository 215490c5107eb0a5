//! A PostgreSQL server of a test's own: Debian's binaries, a free port, a temporary folder, stopped by its process id.

#![allow(clippy::unwrap_used)]

use std::{
    fs, io,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const INSTALL: &str = "PostgreSQL's server is missing: run `apt-get install -y postgresql`";

/// A running server.
pub(crate) struct PostgresServer {
    child: Child,
    binaries: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
}

impl PostgresServer {
    /// Starts a server with an empty cluster. Missing binaries are a failure, not a reason to skip.
    pub(crate) fn start() -> Self {
        let binaries = newest_binaries();
        let folder = tempfile::Builder::new().prefix("firn-postgres-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        if running_as_root() {
            let (user, group) = postgres_ids();
            chown(&data, Some(user), Some(group)).unwrap();
        }
        let initdb = command(&binaries.join("initdb"))
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .current_dir("/")
            .output()
            .unwrap();
        assert!(initdb.status.success(), "initdb failed: {}", String::from_utf8_lossy(&initdb.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = spawn(&binaries, folder.path(), port);
        let server = Self { child, binaries, folder, port };
        server.wait_until_ready();
        server
    }

    /// Creates a database and answers its URL.
    pub(crate) fn create_database(&self, name: &str) -> String {
        let mut createdb = Command::new(self.binaries.join("createdb"));
        let port = self.port.to_string();
        let status =
            createdb.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port, name]).status().unwrap();
        assert!(status.success(), "createdb failed");
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// Kills the server as a power cut would, and starts it again on the same cluster and port.
    pub(crate) fn crash_and_restart(&mut self) {
        self.signal("-QUIT");
        self.child.wait().unwrap();
        self.child = spawn(&self.binaries, self.folder.path(), self.port);
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let port = self.port.to_string();
        loop {
            let mut ready = Command::new(self.binaries.join("pg_isready"));
            ready.args(["-q", "-h", "127.0.0.1", "-p", &port]).stdout(Stdio::null());
            if ready.status().unwrap().success() {
                return;
            }
            assert!(Instant::now() < deadline, "PostgreSQL isn't ready after a minute");
            // Polls another process, which has no other way to say that it is ready.
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn signal(&self, signal: &str) {
        // `setpriv` replaces itself by the server, so that the child's id is the server's.
        Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.signal("-INT");
        drop(self.child.wait());
    }
}

fn spawn(binaries: &Path, folder: &Path, port: u16) -> Child {
    command(&binaries.join("postgres"))
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(["-c", "max_connections=200"])
        .current_dir("/")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A server's program, which refuses to run as root.
fn command(program: &Path) -> Command {
    if !running_as_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
    command
}

fn running_as_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn postgres_ids() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect(INSTALL);
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

fn newest_binaries() -> PathBuf {
    let root = Path::new("/usr/lib/postgresql");
    let versions: io::Result<Vec<_>> = fs::read_dir(root).expect(INSTALL).collect();
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let mut versions: Vec<PathBuf> = versions.unwrap().into_iter().map(|entry| entry.path()).collect();
    versions.sort_by_key(number);
    let binaries = versions.pop().expect(INSTALL).join("bin");
    assert!(binaries.join("postgres").exists(), "{INSTALL}");
    binaries
}
