//! Certificates of an authority of the test's own, by openssl.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// A key of the curve that everybody knows, not encrypted.
const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// An authority. Its certificates are removed with it.
#[derive(Debug)]
pub struct Authority {
    dir: TempDir,
}

/// A certificate and the key to it, as PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one.
    ///
    /// # Errors
    /// If openssl isn't there.
    pub fn new() -> Result<Self> {
        let authority = Self { dir: TempDir::with_prefix("firn-authority-")? };
        let mut request = openssl(&["req", "-x509", "-days", "30", "-subj", "/CN=Firn's tests"]);
        request.args(NEW_KEY).args(["-addext", "keyUsage=critical,keyCertSign"]);
        request.arg("-keyout").arg(authority.key()).arg("-out").arg(authority.file());
        run(&mut request)?;
        Ok(authority)
    }

    /// Its own certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A certificate that is valid for a month; `names` are such as `DNS:localhost` and `IP:127.0.0.1`.
    ///
    /// # Errors
    /// If openssl refuses.
    pub fn issue(&self, file: &str, names: &[&str]) -> Result<Certificate> {
        self.issue_for(file, names, 30)
    }

    /// A certificate that is valid for so many days from now on; of one with a negative number the end was before.
    ///
    /// # Errors
    /// If openssl refuses.
    pub fn issue_for(&self, file: &str, names: &[&str], days: i32) -> Result<Certificate> {
        let (certificate, key) = (self.path(&format!("{file}.pem")), self.path(&format!("{file}.key")));
        let (request, extensions) = (self.path("request.pem"), self.path("extensions"));
        let mut ask = openssl(&["req", "-new", "-subj", &format!("/CN={file}")]);
        run(ask.args(NEW_KEY).arg("-keyout").arg(&key).arg("-out").arg(&request))?;
        std::fs::write(
            &extensions,
            format!("basicConstraints=CA:FALSE\nsubjectAltName={}\n", names.join(",")),
        )?;
        let mut sign = openssl(&["x509", "-req", "-CAcreateserial", "-days", &days.to_string()]);
        sign.arg("-in").arg(&request).arg("-CA").arg(self.file()).arg("-CAkey").arg(self.key());
        run(sign.arg("-extfile").arg(&extensions).arg("-out").arg(&certificate))?;
        Ok(Certificate { certificate, key })
    }

    fn key(&self) -> PathBuf {
        self.path("ca.key")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Certificate {
    /// Puts another one into its files, as who rotates it does.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn replace_with(&self, other: &Self) -> Result<()> {
        let copy = |from: &Path, to: &Path| std::fs::copy(from, to).map(drop);
        copy(&other.certificate, &self.certificate).and_then(|()| copy(&other.key, &self.key))?;
        Ok(())
    }
}

fn openssl(args: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(args);
    command
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
