//! The built `firn` binary as a child process.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// How long `firn up` may take to be ready, on a loaded machine and as a debug build.
const READY_DEADLINE: Duration = Duration::from_secs(120);
const STOP_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// Where the binary is: `FIRN_BIN`, or beside the test executable (`target/PROFILE/firn`).
pub fn firn_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FIRN_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe().context("where is this test?")?;
    let profile = test.ancestors().nth(2).context("the test executable lies too high")?;
    let binary = profile.join("firn");
    ensure!(
        binary.exists(),
        "{} is not built: run 'cargo test --workspace --no-run' first",
        binary.display()
    );
    Ok(binary)
}

/// A command of the binary that sees nothing of this process's `FIRN_` variables.
pub fn firn_command<I, S>(args: I) -> Result<Command>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    Ok(program_command(&firn_binary()?, args))
}

/// The same of another version's program.
pub(crate) fn program_command<I, S>(program: &Path, args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FIRN_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs a command of the binary to its end.
pub fn firn<I, S>(args: I) -> Result<Output>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    firn_command(args)?.output().context("running firn")
}

/// What a successful command printed on stdout; a failed one is an error with all it said.
pub fn firn_stdout<I, S>(args: I) -> Result<String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    stdout_of(&mut firn_command(args)?)
}

fn stdout_of(command: &mut Command) -> Result<String> {
    let output = command.output().context("running firn")?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "firn ended with {}\n{stdout}\n{stderr}", output.status);
    Ok(stdout)
}

/// A running `firn up`. Killed when dropped.
pub struct FirnProcess {
    child: Child,
    data_dir: PathBuf,
    log: PathBuf,
    /// `FIRN_URL`, `FIRN_TENANT`, `FIRN_TOKEN` and `FIRN_OPERATOR_TOKEN`, as `firn env` printed them.
    pub env: BTreeMap<String, String>,
}

impl FirnProcess {
    /// Starts `firn up` on `data_dir`, on a port of its own, and waits until it is ready.
    pub async fn up(data_dir: &Path, extra: &[&str]) -> Result<Self> {
        let port = crate::free_port()?;
        let listen = format!("127.0.0.1:{port}");
        Self::up_at(data_dir, &listen, extra, &[]).await
    }

    /// Starts `firn up` at an address, with variables, and waits until it is ready.
    pub async fn up_at(
        data_dir: &Path,
        listen: &str,
        extra: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let log = data_dir.with_extension("log");
        let out = File::options().create(true).append(true).open(&log)?;
        let child = firn_command(["up", "--listen", listen, "--data-dir"])?
            .arg(data_dir)
            .args(extra)
            .envs(variables.iter().copied())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        let mut process = Self { child, data_dir: data_dir.to_owned(), log, env: BTreeMap::new() };
        process.wait_ready(&format!("http://{listen}/health/ready")).await?;
        process.env = serde_json::from_str(&firn_stdout(process.client(["env", "--json"]))?)?;
        Ok(process)
    }

    /// Arguments of a client command of this server.
    pub fn client<'a>(&'a self, args: impl IntoIterator<Item = &'a str>) -> Vec<&'a OsStr> {
        let mut all: Vec<&OsStr> = args.into_iter().map(OsStr::new).collect();
        all.extend([OsStr::new("--data-dir"), self.data_dir.as_os_str()]);
        all
    }

    /// Runs a client that reads the lake itself; answers what it prints.
    pub fn run<'a>(&'a self, args: impl IntoIterator<Item = &'a str>) -> Result<String> {
        stdout_of(&mut firn_command(self.client(args))?)
    }

    /// The rows of a query, as JSON objects.
    pub fn sql(&self, query: &str) -> Result<Vec<serde_json::Value>> {
        let text = self.run(["sql", query, "--format", "json"])?;
        serde_json::from_str(&text).with_context(|| format!("'{query}' answered {text}"))
    }

    /// The one number that a query answers.
    pub fn count(&self, query: &str) -> Result<i64> {
        let rows = self.sql(query)?;
        let first = rows.first().and_then(|row| row.as_object()).and_then(|row| row.values().next());
        first.and_then(serde_json::Value::as_i64).with_context(|| format!("'{query}' answered {rows:?}"))
    }

    /// Asks until `done` says so; after the deadline the error holds the last answer and the server's log.
    pub async fn eventually(
        &self,
        what: &str,
        deadline: Duration,
        mut done: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let started = Instant::now();
        loop {
            let answer = done(self);
            if matches!(answer, Ok(true)) {
                return Ok(());
            }
            if started.elapsed() > deadline {
                bail!("after {deadline:?} it still isn't so: {what} ({answer:?})\n{}", self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The server's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        self.env.get("FIRN_URL").map_or("", String::as_str)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as STOP and CONT.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// `kill -9`.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// TERM, then waits for the end.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let started = Instant::now();
        while started.elapsed() < STOP_DEADLINE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("firn did not stop within {STOP_DEADLINE:?}\n{}", self.log_tail());
    }

    /// The last lines the server printed.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    async fn wait_ready(&mut self, url: &str) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < READY_DEADLINE {
            if let Some(status) = self.child.try_wait()? {
                bail!("firn up ended with {status}\n{}", self.log_tail());
            }
            if reqwest::get(url).await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("firn up was not ready within {READY_DEADLINE:?}\n{}", self.log_tail());
    }
}

impl Drop for FirnProcess {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
