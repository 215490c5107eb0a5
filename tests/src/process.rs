//! A child process, known by its id, with its output in a file.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to be ready on a loaded machine.
pub(crate) const START_DEADLINE: Duration = Duration::from_secs(180);

/// How long it may take to end when asked; then it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(40);

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with both outputs in the file `log`, to which they are appended.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let output =
            File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
        let errors = output.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("can't start {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until `ready` answers `Ok`; fails at once, with the end of the output, if the process ends before.
    ///
    /// # Errors
    /// If it isn't ready within the deadline.
    pub async fn ready<T>(
        &mut self,
        deadline: Duration,
        mut ready: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            let error = match ready().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before it was ready:\n{}", self.name, self.tail());
            }
            if start.elapsed() > deadline {
                bail!(
                    "{} isn't ready after {} s ({error:#}):\n{}",
                    self.name,
                    deadline.as_secs(),
                    self.tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// If the system doesn't tell.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// `kill -9`, and waits for its end.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Sends a signal, such as STOP and CONT.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        Ok(kill_process(id, signal)?)
    }

    /// TERM, and waits for its end; an error if it had to be killed.
    ///
    /// # Errors
    /// If it doesn't end in time.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.stop_with(Signal::TERM).await
    }

    pub(crate) async fn stop_with(&mut self, signal: Signal) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(signal)?;
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > STOP_DEADLINE {
                self.kill()?;
                bail!(
                    "{} didn't end within {} s of {signal:?}:\n{}",
                    self.name,
                    STOP_DEADLINE.as_secs(),
                    self.tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().rev().take(40).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended; either way nobody waits for an answer any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
