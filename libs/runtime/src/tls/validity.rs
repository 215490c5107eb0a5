//! From when until when a certificate is valid: RFC 5280, section 4.1. Nothing else of it is read here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use der::{
    DateTime, Decode, Header, Reader, SliceReader, Tag,
    asn1::{GeneralizedTime, UtcTime},
};
use rustls::pki_types::CertificateDer;

/// Fails with the reason if a certificate isn't valid now.
pub(super) fn check(certificate: &CertificateDer<'_>) -> Result<(), String> {
    let (begins, ends) = of(certificate).map_err(|error| format!("no X.509 certificate: {error}"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if now > ends.unix_duration() {
        return Err(format!("the certificate ended at {ends}; put a new one there"));
    }
    if now < begins.unix_duration() {
        return Err(format!("the certificate is not valid before {begins}; look at the clock"));
    }
    Ok(())
}

/// When a certificate ends, since the epoch.
pub(super) fn end(certificate: &CertificateDer<'_>) -> Option<Duration> {
    of(certificate).ok().map(|(_, ends)| ends.unix_duration())
}

/// `Certificate { tbs { [0] version, serial, signature, issuer, validity { notBefore, notAfter }, …`
fn of(certificate: &[u8]) -> der::Result<(DateTime, DateTime)> {
    let mut reader = SliceReader::new(certificate)?;
    for _certificate_and_tbs in 0..2 {
        Header::decode(&mut reader)?.tag.assert_eq(Tag::Sequence)?;
    }
    // The version may be left out.
    let version = matches!(reader.peek_header()?.tag, Tag::ContextSpecific { .. });
    for _field in 0..(3 + usize::from(version)) {
        skip(&mut reader)?;
    }
    Header::decode(&mut reader)?.tag.assert_eq(Tag::Sequence)?;
    Ok((time(&mut reader)?, time(&mut reader)?))
}

fn skip<'a>(reader: &mut impl Reader<'a>) -> der::Result<()> {
    let header = Header::decode(reader)?;
    reader.read_slice(header.length).map(drop)
}

fn time<'a>(reader: &mut impl Reader<'a>) -> der::Result<DateTime> {
    match reader.peek_header()?.tag {
        Tag::UtcTime => Ok(UtcTime::decode(reader)?.to_date_time()),
        _ => Ok(GeneralizedTime::decode(reader)?.to_date_time()),
    }
}
