//! TLS of a process: what its listener shows, whom its clients trust, and who they say they are.
//!
//! All of it is read from files (or variables) at start, where anything wrong is an error that names the setting, and again
//! whenever they change: a connection that stands keeps what it began with, new ones get what is new. A reload that fails
//! changes nothing.

mod advice;
mod client;
mod listener;
mod material;
mod validity;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::CertificateDer,
    server::WebPkiClientVerifier,
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};

use crate::config::SecretRef;
pub use advice::advice;
pub use client::client_config;
pub use listener::TlsListener;

/// `[tls]`: references to PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The listener's certificate, followed by its chain. With it the listener speaks HTTPS alone.
    pub certificate: Option<SecretRef>,
    /// The key to it.
    pub key: Option<SecretRef>,
    /// Authorities of clients' certificates: who has none of them is refused.
    pub client_ca: Option<SecretRef>,
    /// Authorities whose servers are trusted, beside the public ones.
    pub ca: Option<SecretRef>,
    /// What services that ask are shown; `certificate` if it is absent and `client_ca` isn't.
    pub client_certificate: Option<SecretRef>,
    /// The key to that.
    pub client_key: Option<SecretRef>,
}

impl TlsConfig {
    /// The files that are read.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        [&self.certificate, &self.key, &self.client_ca, &self.ca, &self.client_certificate, &self.client_key]
            .into_iter()
            .filter_map(|reference| reference.as_ref()?.file().map(Path::to_owned))
            .collect()
    }

    /// What this process is, to servers that ask.
    fn identity(&self) -> Option<[(&'static str, &Option<SecretRef>); 2]> {
        let own = [("tls.certificate", &self.certificate), ("tls.key", &self.key)];
        match (&self.client_certificate, &self.client_key) {
            (None, None) if self.client_ca.is_some() => Some(own),
            (None, None) => None,
            _ => Some([
                ("tls.client_certificate", &self.client_certificate),
                ("tls.client_key", &self.client_key),
            ]),
        }
    }
}

/// Settings of TLS that can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct TlsError {
    /// The setting's key.
    pub setting: &'static str,
    /// What is wrong, and with which file.
    pub reason: String,
}

/// TLS as it is now. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    config: TlsConfig,
    /// Whether there is a listener, and not only clients.
    listens: bool,
    state: RwLock<Arc<State>>,
}

/// Everything that a reload replaces, at once.
#[derive(Default)]
struct State {
    server: Option<Arc<ServerConfig>>,
    /// The process's own certificate, which its clients trust whatever name they reach it by: whoever shows it and has its
    /// key is this process, or a replica of it.
    own: Option<CertificateDer<'static>>,
    /// Absent where reqwest's own trust is enough.
    trust: Option<Arc<WebPkiServerVerifier>>,
    identity: Option<Arc<CertifiedKey>>,
    authorities: Option<String>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("serves", &self.server.is_some()).finish_non_exhaustive()
    }
}

impl Tls {
    /// TLS of a process that listens.
    ///
    /// # Errors
    /// Files that can't be read, are no PEM, don't belong together, or hold a certificate that isn't valid now.
    pub fn of_server(config: &TlsConfig) -> Result<Self, TlsError> {
        Self::load(config, true)
    }

    /// TLS of a process with clients alone. A `certificate` is that of the server it is on one machine with, and trusted.
    ///
    /// # Errors
    /// See [`Tls::of_server`].
    pub fn of_client(config: &TlsConfig) -> Result<Self, TlsError> {
        Self::load(config, false)
    }

    fn load(config: &TlsConfig, listens: bool) -> Result<Self, TlsError> {
        let state = State::read(config, listens)?;
        let shared = Shared { config: config.clone(), listens, state: RwLock::new(Arc::new(state)) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Reads everything again; new connections have it.
    ///
    /// # Errors
    /// See [`Tls::of_server`]. What there was stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        let state = Arc::new(State::read(&self.shared.config, self.shared.listens)?);
        *self.shared.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    /// What it was made of.
    #[must_use]
    pub fn config(&self) -> &TlsConfig {
        &self.shared.config
    }

    /// Whether the listener speaks HTTPS.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.shared.state().server.is_some()
    }

    /// Clients of Firn's own services: they trust `ca` and say who they are.
    pub fn inside(&self) -> reqwest::ClientBuilder {
        client::builder(&self.shared, true)
    }

    /// Clients of everybody else: they trust `ca`.
    pub fn outside(&self) -> reqwest::ClientBuilder {
        client::builder(&self.shared, false)
    }

    /// The text of `ca`, for clients of libraries that make their own.
    #[must_use]
    pub fn authorities(&self) -> Option<String> {
        self.shared.state().authorities.clone()
    }
}

impl Shared {
    fn state(&self) -> Arc<State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl State {
    fn read(config: &TlsConfig, listens: bool) -> Result<Self, TlsError> {
        let provider = provider();
        let mut state = Self::default();
        if listens && (config.certificate.is_some() || config.key.is_some() || config.client_ca.is_some()) {
            let pair = [("tls.certificate", &config.certificate), ("tls.key", &config.key)];
            let shown = material::identity(pair, &provider)?;
            state.own = shown.cert.first().cloned();
            state.server = Some(Arc::new(server(config, &shown, &provider)?));
        } else if let Some(reference) = &config.certificate {
            state.own = material::certificates("tls.certificate", reference)?.into_iter().next();
        }
        if let Some(pair) = config.identity() {
            state.identity = Some(Arc::new(material::identity(pair, &provider)?));
        }
        if let Some(reference) = &config.ca {
            state.authorities = Some(material::text("tls.ca", reference)?);
        }
        if config.ca.is_some() || state.own.is_some() || state.identity.is_some() {
            let mut roots = client::public_roots();
            if let Some(reference) = &config.ca {
                material::authorities("tls.ca", reference, &mut roots)?;
            }
            let trust = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
            state.trust = Some(trust.map_err(|error| wrong("tls.ca", error.to_string()))?);
        }
        Ok(state)
    }

    fn trust(&self) -> Option<&dyn ServerCertVerifier> {
        self.trust.as_ref().map(|trust| &**trust as &dyn ServerCertVerifier)
    }
}

/// HTTP/1.1 alone: each answer of a draining process closes its connection, which HTTP/2 has no word for.
fn server(
    config: &TlsConfig,
    shown: &CertifiedKey,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("tls.certificate", error.to_string()))?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(reference) => {
            let mut roots = rustls::RootCertStore::empty();
            material::authorities("tls.client_ca", reference, &mut roots)?;
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| wrong("tls.client_ca", error.to_string()))?,
            )
        }
    };
    let mut server =
        builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown.clone())));
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(server)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn wrong(setting: &'static str, reason: impl Into<String>) -> TlsError {
    TlsError { setting, reason: reason.into() }
}

/// What the process has, since clients are made in many places, libraries' included.
static PROCESS: RwLock<Option<Tls>> = RwLock::new(None);

/// From here on clients are made with `tls`. Said once, at start.
pub fn install(tls: &Tls) {
    *PROCESS.write().unwrap_or_else(PoisonError::into_inner) = Some(tls.clone());
}

/// What was installed; by default only the public authorities are trusted.
#[must_use]
pub fn process() -> Tls {
    PROCESS.read().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
}

/// A client of Firn's own services.
pub fn inside() -> reqwest::ClientBuilder {
    process().inside()
}

/// A client of anybody else.
pub fn outside() -> reqwest::ClientBuilder {
    process().outside()
}

#[cfg(test)]
mod tests;
