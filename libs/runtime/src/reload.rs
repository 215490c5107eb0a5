//! What was read from files is read anew when they change, or at once on SIGHUP.
//!
//! Files are looked at, not watched: a mounted secret changes by a link that moves, which no watch of a file sees. A change
//! counts once two looks in a row have seen the same, so that a certificate isn't taken before its key is there.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

const LOOK: Duration = Duration::from_secs(2);

/// A value that may be replaced as the process runs. All clones are one. `Debug` doesn't print it: it may be a secret.
pub struct Live<T>(Arc<watch::Sender<Arc<T>>>);

impl<T> Live<T> {
    /// Begins with `value`.
    pub fn new(value: T) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(value))))
    }

    /// What it is now.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        self.0.borrow().clone()
    }

    /// Replaces it.
    pub fn set(&self, value: impl Into<Arc<T>>) {
        self.0.send_replace(value.into());
    }

    /// Waits until it isn't `known` any more.
    pub async fn changed_from(&self, known: &Arc<T>) {
        // The sender lives as long as `self`, so that this can't fail.
        let _ = self.0.subscribe().wait_for(|now| !Arc::ptr_eq(now, known)).await;
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

/// Everything of a process that is made of files.
#[derive(Default)]
pub struct Watch {
    subjects: Vec<Subject>,
}

struct Subject {
    name: &'static str,
    files: Vec<PathBuf>,
    reload: Box<dyn FnMut() -> Result<(), String> + Send>,
    /// What the files were when they were last taken, whether that went well or not.
    taken: u64,
    /// What they were at the last look.
    seen: u64,
}

impl Watch {
    /// Calls `reload` whenever one of `files` changed. It has to leave everything as it is if it fails. Without files there is
    /// nothing to look at.
    pub fn add(
        &mut self,
        name: &'static str,
        files: Vec<PathBuf>,
        reload: impl FnMut() -> Result<(), String> + Send + 'static,
    ) {
        if !files.is_empty() {
            let now = content(&files);
            self.subjects.push(Subject { name, files, reload: Box::new(reload), taken: now, seen: now });
        }
    }

    /// Looks until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        // Who has nothing to read leaves SIGHUP what it is.
        if self.subjects.is_empty() {
            return;
        }
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(error) => {
                tracing::error!(%error, "the system refuses a handler of SIGHUP: files are not read anew");
                return;
            }
        };
        let mut tick = tokio::time::interval(LOOK);
        loop {
            let at_once = tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => false,
                _ = hangup.recv() => true,
            };
            // Files may lie on a disk that is slow.
            let looked = tokio::task::spawn_blocking(move || {
                self.look(at_once);
                self
            });
            self = match looked.await {
                Ok(watch) => watch,
                Err(error) => {
                    tracing::error!(%error, "files are not read anew any more: restart the process");
                    return;
                }
            };
        }
    }

    fn look(&mut self, at_once: bool) {
        for subject in &mut self.subjects {
            subject.look(at_once);
        }
    }
}

impl Subject {
    fn look(&mut self, at_once: bool) {
        let now = content(&self.files);
        let settled = now == std::mem::replace(&mut self.seen, now);
        if !at_once && (now == self.taken || !settled) {
            return;
        }
        self.taken = now;
        match (self.reload)() {
            Ok(()) => tracing::info!(what = self.name, "read anew from its files"),
            Err(error) => {
                metrics::counter!("firn_reload_failures_total", "what" => self.name).increment(1);
                tracing::error!(what = self.name, error, "can't be read anew; what there was stays in use");
            }
        }
    }
}

/// A fingerprint of all the files; one that can't be read has its error's.
fn content(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        match std::fs::read(file) {
            Ok(bytes) => bytes.hash(&mut hasher),
            Err(error) => error.kind().hash(&mut hasher),
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[test]
    fn change_is_taken_once_when_it_has_settled_and_a_signal_takes_all_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        for file in [&first, &second] {
            std::fs::write(file, "1").unwrap();
        }
        let (mut watch, taken) = (Watch::default(), Arc::new(AtomicU32::new(0)));
        let counted = taken.clone();
        watch.add("x", vec![first.clone(), second.clone()], move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Err("no good".to_owned())
        });
        let mut looked = |at_once| {
            watch.look(at_once);
            taken.load(Ordering::SeqCst)
        };
        assert_eq!(looked(false), 0);
        std::fs::write(&first, "2").unwrap();
        assert_eq!(looked(false), 0, "the other file may follow");
        std::fs::write(&second, "2").unwrap();
        assert_eq!(looked(false), 0);
        assert_eq!(looked(false), 1);
        assert_eq!(looked(false), 1, "what failed isn't tried again until it changes");
        std::fs::remove_file(&second).unwrap();
        assert_eq!((looked(false), looked(false)), (1, 2));
        assert_eq!(looked(true), 3);
    }
}
