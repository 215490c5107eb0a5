//! A record's key in the log: `tenant/host`, both percent-encoded.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but RFC 3986's unreserved characters is encoded, so that a key has one spelling and one `/`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The key of a host's records.
#[must_use]
pub fn record_key(tenant: &str, host_id: &str) -> String {
    let mut key = String::with_capacity(tenant.len() + 1 + host_id.len());
    key.extend(parts(tenant, host_id));
    key
}

/// Whether `key` is the key of that host's records.
#[must_use]
pub fn is_record_key(key: &[u8], tenant: &str, host_id: &str) -> bool {
    let mut rest = Some(key);
    for part in parts(tenant, host_id) {
        rest = rest.and_then(|rest| rest.strip_prefix(part.as_bytes()));
    }
    rest.is_some_and(<[u8]>::is_empty)
}

fn parts<'a>(tenant: &'a str, host_id: &'a str) -> impl Iterator<Item = &'a str> {
    let encoded = |text| utf8_percent_encode(text, RESERVED);
    encoded(tenant).chain(["/"]).chain(encoded(host_id))
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
            let key = record_key("t-1", &host_id);
            prop_assert!(is_record_key(key.as_bytes(), "t-1", &host_id));
            prop_assert!(!is_record_key(&key.as_bytes()[..key.len() - 1], "t-1", &host_id));
            let longer = format!("{key}x");
            prop_assert!(!is_record_key(longer.as_bytes(), "t-1", &host_id));
            prop_assert_eq!(parse_record_key(key.as_bytes()), Some(("t-1".into(), host_id)));
        }
    }
}
