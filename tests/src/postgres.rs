//! PostgreSQL from Debian's packages: a primary, and replicas of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{Certificate, Process, cache::INSTALL, free_port, process::START_DEADLINE};

const PASSWORD: &str = "firn";

/// A server. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    binaries: PathBuf,
    dir: TempDir,
    process: Option<Process>,
}

impl Postgres {
    /// Makes a cluster with full durability and starts it.
    ///
    /// # Errors
    /// If PostgreSQL isn't installed or doesn't start.
    pub async fn start() -> Result<Self> {
        let server = Self::prepare()?;
        std::fs::write(server.dir.path().join("password"), PASSWORD)?;
        let mut initdb = server.command("initdb");
        initdb.arg("-D").arg(server.data()).arg("--pwfile").arg(server.dir.path().join("password"));
        initdb.args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8"]);
        run(&mut initdb)?;
        let main = server.data().join("postgresql.conf");
        let settings = std::fs::read_to_string(&main)?;
        std::fs::write(main, format!("{settings}\ninclude_if_exists = 'harness.conf'\n"))?;
        server.launched().await
    }

    /// Starts a streaming replica of this server, readable and promotable.
    ///
    /// # Errors
    /// If the copy fails or it doesn't start.
    pub async fn replica(&self) -> Result<Self> {
        let replica = Self::prepare()?;
        let mut copy = replica.command("pg_basebackup");
        copy.env("PGPASSWORD", PASSWORD).args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-U",
            "postgres",
        ]);
        copy.args(["-R", "-X", "stream", "-c", "fast", "-D"]).arg(replica.data());
        run(&mut copy)?;
        replica.launched().await
    }

    /// `postgres://…` of the database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/postgres", self.port)
    }

    /// Runs SQL through psql and answers what it prints, unaligned and without headers.
    ///
    /// # Errors
    /// If psql fails.
    pub fn psql(&self, sql: &str) -> Result<String> {
        let mut psql = Command::new(self.binaries.join("psql"));
        let output =
            psql.arg(self.url()).args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]).output()?;
        ensure!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// All of the database as SQL, as pg_dump writes it.
    ///
    /// # Errors
    /// If pg_dump fails.
    pub fn dump(&self) -> Result<String> {
        let output = Command::new(self.binaries.join("pg_dump")).arg("--dbname").arg(self.url()).output()?;
        ensure!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Puts a dump back into a database that was wiped.
    ///
    /// # Errors
    /// If psql fails.
    pub fn restore(&self, dump: &str) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), dump)?;
        let mut psql = Command::new(self.binaries.join("psql"));
        run(psql.arg(self.url()).args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(file.path()))
    }

    /// Throws everything in the database away.
    ///
    /// # Errors
    /// If psql fails.
    pub fn wipe(&self) -> Result<()> {
        self.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public").map(drop)
    }

    /// `kill -9` of the server; its children end by themselves when they notice.
    ///
    /// # Errors
    /// If it isn't running.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("PostgreSQL isn't running")?.kill()?;
        Ok(())
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// If it isn't running or doesn't end.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.take().context("PostgreSQL isn't running")?.stop_with(Signal::INT).await?;
        Ok(())
    }

    /// Starts it again on its data, after a kill or stop.
    ///
    /// # Errors
    /// If it doesn't start.
    pub async fn restart(&mut self) -> Result<()> {
        // The children of a killed server still hold its shared memory for a moment: then it refuses, and is asked again.
        crate::until("PostgreSQL starts again", START_DEADLINE, async || {
            self.launch()?;
            self.ready().await
        })
        .await
    }

    /// From here on it takes connections with TLS alone, and shows this certificate.
    ///
    /// # Errors
    /// If it doesn't start again.
    pub async fn require_tls(&mut self, shown: &Certificate) -> Result<()> {
        self.stop().await?;
        for (from, name) in [(&shown.certificate, "server.crt"), (&shown.key, "server.key")] {
            let to = self.data().join(name);
            std::fs::copy(from, &to)?;
            run(Command::new("chmod").arg("600").arg(&to))?;
            if rustix::process::geteuid().is_root() {
                run(Command::new("chown").arg("postgres").arg(&to))?;
            }
        }
        let (settings, clients) = (self.data().join("harness.conf"), self.data().join("pg_hba.conf"));
        let with_tls = std::fs::read_to_string(&settings)? + "ssl = on\n";
        std::fs::write(&settings, with_tls)?;
        let with_tls = std::fs::read_to_string(&clients)?.replace("\nhost ", "\nhostssl ");
        std::fs::write(&clients, with_tls)?;
        self.restart().await
    }

    fn prepare() -> Result<Self> {
        let binaries = binaries()?;
        let dir = TempDir::with_prefix("firn-postgres-")?;
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown").arg("postgres").arg(dir.path()))?;
        }
        Ok(Self { port: free_port()?, binaries, dir, process: None })
    }

    async fn launched(mut self) -> Result<Self> {
        let settings = format!(
            "port = {}\nunix_socket_directories = '{}'\nlisten_addresses = '127.0.0.1'\nmax_connections = 200\n",
            self.port,
            self.dir.path().display()
        );
        std::fs::write(self.data().join("harness.conf"), settings)?;
        run(Command::new("chmod").arg("644").arg(self.data().join("harness.conf")))?;
        self.launch()?;
        self.ready().await?;
        Ok(self)
    }

    fn launch(&mut self) -> Result<()> {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        self.process =
            Some(Process::start("PostgreSQL", &mut command, &self.dir.path().join("postgres.log"))?);
        Ok(())
    }

    async fn ready(&mut self) -> Result<()> {
        let (port, ask) = (self.port.to_string(), self.binaries.join("pg_isready"));
        let process = self.process.as_mut().context("PostgreSQL isn't running")?;
        process
            .ready(START_DEADLINE, async || {
                run(Command::new(&ask).args(["-q", "-h", "127.0.0.1", "-p", &port]))
            })
            .await
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A server command, as the user `postgres` if this is root, which PostgreSQL refuses.
    fn command(&self, name: &str) -> Command {
        let program = self.binaries.join(name);
        if !rustix::process::geteuid().is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
        command.current_dir(self.dir.path());
        command
    }
}

/// The newest PostgreSQL that Debian's packages put there.
fn binaries() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .map(|version| version.path().join("bin"))
        .filter(|path| path.join("initdb").exists())
        .max_by_key(|path| version(path));
    newest.with_context(|| format!("PostgreSQL is missing: run {INSTALL}"))
}

fn version(binaries: &Path) -> Option<u32> {
    binaries.parent()?.file_name()?.to_str()?.parse().ok()
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
