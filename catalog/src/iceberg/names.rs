//! Names as they come over the wire.

use firn_auth::TenantName;
use firn_catalog_client::iceberg::{NAMESPACE_SEPARATOR, TableIdent};
use percent_encoding::percent_decode_str;

use super::error::ApiError;
use crate::version::Key;

/// Longest name of a namespace level, table or view.
const MAX_NAME_BYTES: usize = 512;

/// A tenant and the reference that requests mean (Nessie's syntax; empty for `main`).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Warehouse {
    pub(super) tenant: TenantName,
    pub(super) spec: String,
}

impl Warehouse {
    /// `TENANT` or `TENANT@SPEC`.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        let (tenant, spec) = text.split_once('@').unwrap_or((text, ""));
        let tenant =
            tenant.parse().map_err(|error| ApiError::invalid(format!("warehouse '{text}': {error}")))?;
        Ok(Self { tenant, spec: normal_spec(spec) })
    }

    /// A path's prefix, decoded once: `TENANT`, `TENANT~HEX`, or `TENANT@SPEC`, maybe encoded once more.
    pub(super) fn parse_prefix(prefix: &str) -> Result<Self, ApiError> {
        if let Some((tenant, spec)) = prefix.split_once('~').filter(|_| !prefix.contains('@')) {
            let spec = hex::decode(spec).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let Some(spec) = spec else {
                return Err(ApiError::invalid(format!(
                    "the prefix '{prefix}' is not TENANT~ and hexadecimal digits"
                )));
            };
            return Self::parse(&format!("{tenant}@{spec}"));
        }
        let decoded = percent_decode_str(prefix).decode_utf8();
        Self::parse(&decoded.map_err(|_| ApiError::invalid(format!("the prefix '{prefix}' is not UTF-8")))?)
    }

    /// The prefix that `config` answers: characters that no client encodes.
    pub(super) fn prefix(&self) -> String {
        if self.spec.is_empty() {
            return self.tenant.to_string();
        }
        format!("{}~{}", self.tenant, hex::encode(&self.spec))
    }
}

/// `main` is the empty spec, and a bare instant means main's history.
fn normal_spec(spec: &str) -> String {
    if spec == "main" {
        return String::new();
    }
    if chrono::DateTime::parse_from_rfc3339(spec).is_ok() {
        return format!("main*{spec}");
    }
    spec.to_owned()
}

/// Decodes a path segment once, as a form field: Java writes a space as a plus there.
pub(super) fn decode_segment(raw: &str) -> Result<String, ApiError> {
    let spaced = raw.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(String::from).map_err(|_| ApiError::invalid(format!("'{raw}' in the path is not UTF-8")))
}

/// Levels of a namespace that came as one text.
pub(super) fn split_namespace(text: &str) -> Vec<String> {
    text.split(NAMESPACE_SEPARATOR).map(str::to_owned).collect()
}

/// The key of a namespace.
pub(super) fn namespace_key(levels: &[String]) -> Result<Key, ApiError> {
    for level in levels {
        check_name(level)?;
    }
    Ok(Key(levels.to_vec()).checked()?)
}

/// The key of a table or view.
pub(super) fn ident_key(ident: &TableIdent) -> Result<Key, ApiError> {
    check_name(&ident.name)?;
    let mut elements = namespace_key(&ident.namespace)?.0;
    elements.push(ident.name.clone());
    Ok(Key(elements).checked()?)
}

/// The identifier that a key stands for.
pub(super) fn key_ident(key: &Key) -> TableIdent {
    match key.0.split_last() {
        Some((name, namespace)) => TableIdent { namespace: namespace.to_vec(), name: name.clone() },
        None => TableIdent { namespace: Vec::new(), name: String::new() },
    }
}

fn check_name(name: &str) -> Result<(), ApiError> {
    // Many HTTP clients resolve dots in a path before they send it.
    let reason = if matches!(name, "." | "..") {
        "can't be a name"
    } else if name.len() > MAX_NAME_BYTES {
        "is too long for a name"
    } else {
        return Ok(());
    };
    Err(ApiError::invalid(format!("'{name}' {reason}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn warehouse(tenant: &str, spec: &str) -> Warehouse {
        Warehouse { tenant: tenant.parse().unwrap(), spec: spec.to_owned() }
    }

    #[test]
    fn a_prefix_carries_tenant_and_reference() {
        for (text, tenant, spec) in [
            ("acme", "acme", ""),
            ("acme@main", "acme", ""),
            ("acme~646576", "acme", "dev"),
            ("acme@dev~2", "acme", "dev~2"),
            ("acme%40dev", "acme", "dev"),
            ("acme@2026-11-22T10:00:00Z", "acme", "main*2026-11-22T10:00:00Z"),
        ] {
            assert_eq!(Warehouse::parse_prefix(text).unwrap(), warehouse(tenant, spec), "{text}");
        }
        let odd = warehouse("acme", "feature/x@00*y");
        assert_eq!(Warehouse::parse_prefix(&odd.prefix()).unwrap(), odd);
        assert!(odd.prefix().bytes().all(|c| c.is_ascii_alphanumeric() || b"._~-".contains(&c)));
    }

    #[test]
    fn a_prefix_that_is_none_is_refused() {
        for text in ["", "Acme", "acme~6", "acme~xx", "../acme", "acme~ff"] {
            assert!(Warehouse::parse_prefix(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_prefix_its_tenant_is_a_tenants_name(text in "[a-z0-9.~@%/*-]{0,20}|\\PC{0,20}") {
            if let Ok(warehouse) = Warehouse::parse_prefix(&text) {
                let name = warehouse.tenant.as_str();
                proptest::prop_assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'));
                proptest::prop_assert_eq!(Warehouse::parse_prefix(&warehouse.prefix()).unwrap(), warehouse);
            }
        }

        #[test]
        fn a_key_never_holds_dots_or_control_characters(text in "[a.%/]{0,12}|\\PC{0,12}|[\\x00-\\x1f.]{0,6}") {
            let Ok(decoded) = decode_segment(&text) else { return Ok(()) };
            if let Ok(key) = namespace_key(&split_namespace(&decoded)) {
                for element in &key.0 {
                    proptest::prop_assert!(!matches!(element.as_str(), "" | "." | ".."));
                    proptest::prop_assert!(!element.chars().any(char::is_control));
                }
            }
        }
    }

    #[test]
    fn segments_are_form_fields() {
        assert_eq!(decode_segment("a+b%2Bc%2Fd%20e").unwrap(), "a b+c/d e");
        assert_eq!(split_namespace(&decode_segment("a%1Fb").unwrap()), ["a", "b"]);
        assert!(decode_segment("%ff").is_err());
    }

    #[test]
    fn keys_hold_no_control_characters_or_dots() {
        let ident = |name: &str| TableIdent { namespace: vec!["a".to_owned()], name: name.to_owned() };
        assert!(ident_key(&ident("t 1/é%+😀")).is_ok());
        for name in ["", ".", "..", "a\u{1}b", &"x".repeat(600)] {
            assert!(ident_key(&ident(name)).is_err(), "{name}");
        }
    }
}
