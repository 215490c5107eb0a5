//! A record's key in the log: `tenant/host`, both percent-encoded.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but RFC 3986's unreserved characters is encoded, so that a key has one spelling and one `/`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The key of a host's records.
#[must_use]
pub fn record_key(tenant: &str, host_id: &str) -> String {
    format!("{}/{}", utf8_percent_encode(tenant, RESERVED), utf8_percent_encode(host_id, RESERVED))
}

/// Tenant and host of a key, if it is one.
#[must_use]
pub fn parse_record_key(key: &[u8]) -> Option<(String, String)> {
    let (tenant, host_id) = std::str::from_utf8(key).ok()?.split_once('/')?;
    if tenant.is_empty() || host_id.is_empty() || host_id.contains('/') {
        return None;
    }
    let decode = |part: &str| percent_decode_str(part).decode_utf8().ok().map(std::borrow::Cow::into_owned);
    Some((decode(tenant)?, decode(host_id)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_percent_encoded() {
        assert_eq!(record_key("acme", "pc/7 é"), "acme/pc%2F7%20%C3%A9");
        assert_eq!(parse_record_key(b"acme/pc%2F7"), Some(("acme".into(), "pc/7".into())));
        for broken in [&b"acme"[..], b"", b"/", b"acme/", b"/pc", b"a/b/c", b"acme/\xff", b"acme/%ff"] {
            assert_eq!(parse_record_key(broken), None);
        }
    }

    proptest! {
        #[test]
        fn every_host_comes_back(host_id in ".{1,40}") {
            prop_assert_eq!(parse_record_key(record_key("t-1", &host_id).as_bytes()), Some(("t-1".into(), host_id)));
        }
    }
}
