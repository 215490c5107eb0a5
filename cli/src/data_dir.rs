//! The data directory of `firn up`: its layout, its lock, its format, and what it keeps for clients.
//!
//! ```text
//! firn-data/            mode 0700
//!   FORMAT              version of this layout
//!   firn.lock           held by the running server, with its process id
//!   server.json         where the server listens (mode 0600)
//!   keys/signing.pem    the built-in issuer's key (mode 0600)
//!   keys/operator.token the first operator token (mode 0600)
//!   catalog.sqlite      the catalog, unless configured elsewhere
//!   log.sqlite          the embedded log
//!   warehouse/          the tables' files, unless configured elsewhere
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use firn_auth::SigningKey;
use firn_runtime::{config::SecretRef, tls::TlsConfig};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Version of the layout that this build writes.
const FORMAT: u32 = 1;
/// Where a data directory is looked for if none is named.
pub(crate) const DEFAULT: &str = "./firn-data";
/// Enough to find out whether the disk takes anything at all.
const PROBE_BYTES: usize = 1 << 20;

/// Paths within a data directory. Nothing needs to exist.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
}

/// What a running server tells its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerFile {
    /// Without trailing slash.
    pub(crate) url: String,
    /// Process id.
    pub(crate) pid: u32,
    /// Version of the server.
    pub(crate) version: String,
    /// Where the signing key is, if it isn't the directory's own.
    pub(crate) signing_key: Option<SecretRef>,
    /// How to speak TLS with it.
    #[serde(default)]
    pub(crate) tls: TlsConfig,
}

/// A data directory that this process serves; the lock lasts as long as this value.
#[derive(Debug)]
pub(crate) struct LockedDataDir {
    pub(crate) dir: DataDir,
    _lock: File,
}

impl DataDir {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()) }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.root.join("firn.toml")
    }

    pub(crate) fn catalog_file(&self) -> PathBuf {
        self.root.join("catalog.sqlite")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.root.join("log.sqlite")
    }

    pub(crate) fn warehouse(&self) -> PathBuf {
        self.root.join("warehouse")
    }

    fn server_file(&self) -> PathBuf {
        self.root.join("server.json")
    }

    fn operator_token_file(&self) -> PathBuf {
        self.root.join("keys/operator.token")
    }

    /// The built-in issuer's key, unless one is configured.
    pub(crate) fn signing_key_file(&self) -> PathBuf {
        self.root.join("keys/signing.pem")
    }

    /// Creates what is missing, checks that the disk takes data and the format is ours, and takes the lock.
    pub(crate) fn lock(self) -> Result<LockedDataDir> {
        let shown = self.root.display().to_string();
        let private = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        private(&self.root).and_then(|()| private(&self.root.join("keys"))).with_context(|| {
            format!(
                "can't create the data directory {shown}: choose another with --data-dir, or make it writable"
            )
        })?;
        let lock = self.take_lock()?;
        self.check_format()?;
        self.probe().with_context(|| {
            format!(
                "can't write to the data directory {shown}: free space or make it writable, then start again"
            )
        })?;
        Ok(LockedDataDir { dir: self, _lock: lock })
    }

    fn take_lock(&self) -> Result<File> {
        let path = self.root.join("firn.lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("can't write {}: make the data directory writable", path.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            lock.read_to_string(&mut holder).ok();
            bail!(
                "another server (process {}) runs on {}: stop it first, or choose another directory with --data-dir",
                holder.trim(),
                self.root.display()
            );
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(lock)
    }

    fn check_format(&self) -> Result<()> {
        let path = self.root.join("FORMAT");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return write_private(&path, format!("{FORMAT}\n").as_bytes());
            }
            Err(error) => return Err(error).with_context(|| format!("can't read {}", path.display())),
        };
        let shown = self.root.display();
        match text.trim().parse::<u32>() {
            Ok(FORMAT) => Ok(()),
            Ok(newer) if newer > FORMAT => bail!(
                "{shown} has format {newer}, this firn knows {FORMAT}: it was written by a newer firn, use that one"
            ),
            Ok(older) => bail!(
                "{shown} has format {older}, this firn needs {FORMAT}: it was written by an older firn; start that \
                 one, export what you need, and import it into a new directory"
            ),
            Err(_) => {
                bail!("{} holds no format version: is {shown} a data directory of firn?", path.display())
            }
        }
    }

    fn probe(&self) -> io::Result<()> {
        let path = self.root.join(".probe");
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&vec![0; PROBE_BYTES])?;
            file.sync_all()
        });
        fs::remove_file(&path).ok();
        written
    }

    /// What the running server wrote, if one ever ran here.
    pub(crate) fn read_server_file(&self) -> Result<Option<ServerFile>> {
        let path = self.server_file();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let hint = format!("can't read {}: run as the user that started the server", path.display());
                return Err(error).context(hint);
            }
        };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).with_context(|| format!("{} is broken: restart the server", path.display()))
    }

    /// The issuer's key: the configured one, else the directory's own.
    pub(crate) fn signing_key(&self, configured: Option<&SecretRef>) -> Result<SigningKey> {
        let (pem, place) = match configured {
            Some(reference) => (reference.resolve()?, reference.to_string()),
            None => {
                let path = self.signing_key_file();
                let pem =
                    fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
                (pem, path.display().to_string())
            }
        };
        SigningKey::from_pem(&pem).with_context(|| place)
    }
}

impl LockedDataDir {
    /// The issuer's key; one is made if none is configured and none exists yet.
    pub(crate) fn signing_key_or_new(&self, configured: Option<&SecretRef>) -> Result<SigningKey> {
        let path = self.dir.signing_key_file();
        if configured.is_none() && !path.exists() {
            write_private(&path, SigningKey::generate().to_pem().as_bytes())?;
        }
        self.dir.signing_key(configured)
    }

    /// Tells clients where the server is.
    pub(crate) fn write_server_file(&self, server: &ServerFile) -> Result<()> {
        write_private(&self.dir.server_file(), &serde_json::to_vec_pretty(server)?)
    }

    /// The server no longer answers.
    pub(crate) fn remove_server_file(&self) {
        fs::remove_file(self.dir.server_file()).ok();
    }

    /// Keeps the first operator token, made by `mint`. Answers it only if it is new: it is shown once.
    pub(crate) fn first_operator_token(&self, mint: impl FnOnce() -> String) -> Result<Option<String>> {
        let path = self.dir.operator_token_file();
        if path.exists() {
            return Ok(None);
        }
        let token = mint();
        write_private(&path, token.as_bytes())?;
        Ok(Some(token))
    }
}

/// Writes a file that only its owner can read, durably and entirely or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        // `mode` is for new files only; one may have been left behind.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().with_context(|| format!("can't write {}: free space or make it writable", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn second_lock_is_refused_with_the_process_id() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataDir::new(folder.path()).lock().unwrap();
        let error = DataDir::new(folder.path()).lock().unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        DataDir::new(folder.path()).lock().unwrap();
    }

    #[test]
    fn other_formats_are_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        for (text, want) in [("2", "newer firn"), ("0", "older firn"), ("x", "no format version")] {
            fs::write(folder.path().join("FORMAT"), text).unwrap();
            let error = DataDir::new(folder.path()).lock().unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn secrets_are_private_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        let locked = DataDir::new(&root).lock().unwrap();
        let key = locked.signing_key_or_new(None).unwrap();
        assert_eq!(locked.signing_key_or_new(None).unwrap().to_pem(), key.to_pem());
        assert_eq!(locked.first_operator_token(|| "t1".into()).unwrap().as_deref(), Some("t1"));
        assert_eq!(locked.first_operator_token(|| "t2".into()).unwrap(), None);
        let server = ServerFile {
            url: "http://x".into(),
            pid: 1,
            version: "0".into(),
            signing_key: None,
            tls: TlsConfig::default(),
        };
        locked.write_server_file(&server).unwrap();
        assert_eq!(locked.dir.read_server_file().unwrap(), Some(server));
        assert_eq!(mode(&root), 0o700);
        for file in ["keys/signing.pem", "keys/operator.token", "server.json"] {
            assert_eq!(mode(&root.join(file)), 0o600, "{file}");
        }
    }

    #[test]
    fn path_that_is_a_file_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let error = format!("{:#}", DataDir::new(&path).lock().unwrap_err());
        assert!(error.contains("--data-dir"), "{error}");
    }
}
