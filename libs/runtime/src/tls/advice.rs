//! What to do about a connection that TLS kept from being made.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError, Error as Tls};

/// What a person can do, if TLS is why `error` came.
#[must_use]
pub fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    Some(match cause(error)? {
        // A bad signature is that of an authority of the same name.
        Tls::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "nobody who is trusted here issued the server's certificate: name its authority with --ca or tls.ca"
        }
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for other names than the URL's",
        Tls::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the server's certificate has ended"
        }
        Tls::InvalidCertificate(_) => "the server's certificate can't be trusted",
        Tls::InvalidMessage(_) => "the server doesn't speak TLS: use http:// in the URL",
        Tls::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server asks for a client's certificate: --client-cert and --client-key, or tls.client_certificate"
        }
        Tls::AlertReceived(_) => {
            "the server refused the client's certificate, or has no TLS in common with it"
        }
        _ => return None,
    })
}

/// rustls's own error, which may be inside of one of input and output.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Tls> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = match inner {
            Some(inner) => cause(inner),
            None => error.downcast_ref::<Tls>(),
        };
        if found.is_some() {
            return found;
        }
        next = error.source();
    }
    None
}
