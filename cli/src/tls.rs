//! Whom client commands trust, and how they say who they are.

use std::path::{Path, PathBuf};

use anyhow::Result;
use firn_runtime::{
    config::SecretRef,
    tls::{self, Tls, TlsConfig},
};

/// Flags of commands that speak HTTPS.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct TlsArgs {
    /// Certificates of authorities to trust beside the public ones, PEM
    #[arg(long, value_name = "FILE", env = "FIRN_CA")]
    ca: Option<PathBuf>,
    /// Certificate to show to a server that asks for one, PEM
    #[arg(long, value_name = "FILE", env = "FIRN_CLIENT_CERT", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// The key to it, PEM
    #[arg(long, value_name = "FILE", env = "FIRN_CLIENT_KEY", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

impl TlsArgs {
    /// What the flags say; where they say nothing, what `known` of the server does.
    pub(crate) fn over(&self, known: &TlsConfig) -> TlsConfig {
        let file = |path: &Option<PathBuf>| path.as_deref().map(|path| SecretRef::File(absolute(path)));
        let mut config = known.clone();
        if self.ca.is_some() {
            config.ca = file(&self.ca);
        }
        if self.client_cert.is_some() {
            (config.client_certificate, config.client_key) =
                (file(&self.client_cert), file(&self.client_key));
        }
        config
    }

    /// From here on this process's clients do as the flags, or else `known`, say.
    pub(crate) fn install(&self, known: &TlsConfig) -> Result<TlsConfig> {
        let config = self.over(known);
        tls::install(&Tls::of_client(&config)?);
        Ok(config)
    }
}

/// The same for processes that run in another folder.
pub(crate) fn anywhere(config: &TlsConfig) -> TlsConfig {
    let anywhere = |reference: &Option<SecretRef>| match reference {
        Some(SecretRef::File(path)) => Some(SecretRef::File(absolute(path))),
        other => other.clone(),
    };
    TlsConfig {
        certificate: anywhere(&config.certificate),
        key: anywhere(&config.key),
        client_ca: anywhere(&config.client_ca),
        ca: anywhere(&config.ca),
        client_certificate: anywhere(&config.client_certificate),
        client_key: anywhere(&config.client_key),
    }
}

/// Variables for commands that run elsewhere on this machine: what these settings say of files.
pub(crate) fn variables(config: &TlsConfig) -> Vec<(&'static str, String)> {
    let (certificate, key) = match (&config.client_certificate, &config.client_ca) {
        (None, Some(_)) => (&config.certificate, &config.key),
        (certificate, _) => (certificate, &config.client_key),
    };
    let file = |name, reference: &Option<SecretRef>| match reference {
        Some(SecretRef::File(path)) => Some((name, absolute(path).display().to_string())),
        _ => None,
    };
    [file("FIRN_CA", &config.ca), file("FIRN_CLIENT_CERT", certificate), file("FIRN_CLIENT_KEY", key)]
        .into_iter()
        .flatten()
        .collect()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Option<SecretRef> {
        Some(SecretRef::File(path.into()))
    }

    #[test]
    fn flags_win_over_what_is_known_of_the_server() {
        let known = TlsConfig { ca: file("/a"), client_ca: file("/b"), ..TlsConfig::default() };
        assert_eq!(TlsArgs::default().over(&known), known);
        let flags =
            TlsArgs { ca: Some("/c".into()), client_cert: Some("/d".into()), client_key: Some("/e".into()) };
        let config = flags.over(&known);
        assert_eq!(
            (config.ca, config.client_certificate, config.client_key),
            (file("/c"), file("/d"), file("/e"))
        );
        assert_eq!(config.client_ca, known.client_ca);
    }

    #[test]
    fn variables_name_files_and_the_listener_s_certificate_where_it_is_what_clients_show() {
        let config = TlsConfig {
            certificate: file("/cert"),
            key: file("/key"),
            ca: Some(SecretRef::Env("CA".to_owned())),
            ..TlsConfig::default()
        };
        assert!(variables(&config).is_empty());
        let config = TlsConfig { ca: file("/ca"), client_ca: file("/ca"), ..config };
        let said = variables(&config);
        let said: Vec<_> = said.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(said, [("FIRN_CA", "/ca"), ("FIRN_CLIENT_CERT", "/cert"), ("FIRN_CLIENT_KEY", "/key")]);
    }
}
