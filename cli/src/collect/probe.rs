//! Reading files and running commands, below a root that tests choose.

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// The computer that is looked at.
pub(super) struct Machine {
    root: PathBuf,
    /// Whether commands speak of this computer: not if the root is a copy.
    commands: bool,
}

impl Machine {
    /// This one.
    pub(super) fn this() -> Self {
        Self { root: PathBuf::from("/"), commands: true }
    }

    /// Files below `root`, and no commands.
    #[cfg(test)]
    pub(super) fn at(root: &std::path::Path) -> Self {
        Self { root: root.to_owned(), commands: false }
    }

    /// An absolute path, below the root.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// A file's text; `None` if it can't be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        fs::read(self.path(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file's trimmed text; `None` if it can't be read or is empty.
    pub(super) fn word(&self, path: &str) -> Option<String> {
        self.text(path).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    pub(super) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.path(path)).ok()
    }

    /// Names in a folder, sorted; `None` if it can't be read.
    pub(super) fn names(&self, path: &str) -> Option<Vec<String>> {
        let entries = fs::read_dir(self.path(path)).ok()?;
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        Some(names)
    }

    /// What a command printed; `None` if it is absent, failed, or took too long.
    pub(super) async fn output(&self, program: &str, arguments: &[&str]) -> Option<String> {
        if !self.commands {
            return None;
        }
        let mut command = Command::new(program);
        command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
        let done = tokio::time::timeout(COMMAND_TIMEOUT, command.output()).await.ok()?.ok()?;
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
    }
}
