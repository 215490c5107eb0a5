//! Clients whose trust and identity are what the process has now, although a client is made once.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    sign::CertifiedKey,
};

use super::{Shared, provider};

/// A builder of clients; with `identity`, they say who this process is to servers that ask.
pub(super) fn builder(shared: &Arc<Shared>, identity: bool) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder();
    match config(shared, identity) {
        Some(config) => builder.use_preconfigured_tls(config),
        None => builder,
    }
}

/// None where nothing is set: then reqwest's own trust is enough.
fn config(shared: &Arc<Shared>, identity: bool) -> Option<ClientConfig> {
    let now = Arc::new(Now { shared: shared.clone() });
    now.shared.state().trust()?;
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().ok()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(now.clone());
    Some(if identity { builder.with_client_cert_resolver(now) } else { builder.with_no_client_auth() })
}

/// The authorities that the system and Mozilla trust, as reqwest does.
pub(super) fn public_roots() -> RootCertStore {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// TLS for a client of another protocol than HTTP. It trusts the authorities of `ca` alone, or the public ones, and shows
/// `identity` (a certificate with its chain, and the key) to servers that ask; all of it is PEM.
///
/// # Errors
/// What of it can't be used.
pub fn client_config(ca: Option<&str>, identity: Option<(&str, &str)>) -> Result<ClientConfig, String> {
    let roots = match ca {
        None => public_roots(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for authority in chain(pem, "authorities")? {
                roots.add(authority).map_err(|error| format!("no authority's certificate: {error}"))?;
            }
            roots
        }
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((certificate, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| format!("no private key as PEM (an encrypted one can't be read): {error}"))?;
    let config = builder.with_client_auth_cert(chain(certificate, "client certificate")?, key);
    config.map_err(|error| format!("certificate and key don't fit together: {error}"))
}

fn chain(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| format!("broken PEM of the {what}: {error}"))?;
    if all.is_empty() { Err(format!("no certificate as PEM in the {what}")) } else { Ok(all) }
}

/// Asks the process for its present state at each handshake. The checks themselves are rustls's.
#[derive(Debug)]
struct Now {
    shared: Arc<Shared>,
}

impl Now {
    fn with_trust<T>(
        &self,
        check: impl FnOnce(&dyn ServerCertVerifier) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let state = self.shared.state();
        check(state.trust().ok_or_else(|| Error::General("no trust".to_owned()))?)
    }
}

impl ServerCertVerifier for Now {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // That it has the key, too, is what its signature of the handshake says, which is checked below.
        if self.shared.state().own.as_ref() == Some(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        self.with_trust(|trust| {
            trust.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.with_trust(|trust| trust.verify_tls12_signature(message, cert, dss))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.with_trust(|trust| trust.verify_tls13_signature(message, cert, dss))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Now {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.shared.state().identity.clone()
    }

    fn has_certs(&self) -> bool {
        self.shared.state().identity.is_some()
    }
}
