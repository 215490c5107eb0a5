//! Certificates and keys out of what refers to them.

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::{TlsError, validity, wrong};
use crate::config::SecretRef;

/// A setting's key and its value.
type Setting<'a> = (&'static str, &'a Option<SecretRef>);

/// A certificate that is valid now, its chain, and the key to it.
pub(super) fn identity(
    [(certificate, chain), (key, private)]: [Setting<'_>; 2],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain_at = chain.as_ref().ok_or_else(|| wrong(certificate, format!("needed beside {key}")))?;
    let private_at = private.as_ref().ok_or_else(|| wrong(key, format!("needed beside {certificate}")))?;
    let chain = certificates(certificate, chain_at)?;
    validity::check(&chain[0]).map_err(|reason| wrong(certificate, format!("{chain_at}: {reason}")))?;
    let private = PrivateKeyDer::from_pem_slice(text(key, private_at)?.as_bytes()).map_err(|error| {
        let reason =
            format!("{private_at} holds no private key as PEM (an encrypted one can't be read): {error}");
        wrong(key, reason)
    })?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            wrong(key, format!("{private_at} is not the key to the certificate in {chain_at}"))
        }
        error => wrong(key, format!("{private_at} can't be used with {chain_at}: {error}")),
    })
}

/// All certificates of a PEM, which are one or more.
pub(super) fn certificates(
    setting: &'static str,
    reference: &SecretRef,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = text(setting, reference)?;
    let all = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| wrong(setting, format!("{reference} is broken PEM: {error}")))?;
    if all.is_empty() {
        return Err(wrong(setting, format!("{reference} holds no certificate as PEM")));
    }
    Ok(all)
}

/// Adds the authorities of a PEM to `roots`.
pub(super) fn authorities(
    setting: &'static str,
    reference: &SecretRef,
    roots: &mut RootCertStore,
) -> Result<(), TlsError> {
    for authority in certificates(setting, reference)? {
        let added = roots.add(authority);
        added
            .map_err(|error| wrong(setting, format!("{reference} is no authority's certificate: {error}")))?;
    }
    Ok(())
}

/// What the reference refers to.
pub(super) fn text(setting: &'static str, reference: &SecretRef) -> Result<String, TlsError> {
    reference.resolve().map_err(|error| wrong(setting, error.to_string()))
}
