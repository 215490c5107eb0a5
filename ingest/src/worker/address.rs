//! Whose record it is, by key and headers alone.

use std::sync::Arc;

use bytes::Bytes;
use firn_inventory::{
    Rejection, RejectionKind, parse_record_key,
    tables::{RECEIVED_AT_HEADER, REFUSED_HEADER, SOURCE_HEADER, TENANT_HEADER},
};
use firn_runtime::trace::TRACEPARENT;
use firn_stream::Record;

/// A record on its way into a tenant's tables: what of the log's record is still needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) received_at_us: i64,
    pub(super) source: Arc<str>,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    /// Of which trace it is, where its producer said so.
    pub(super) traceparent: Option<Bytes>,
    /// Set where it is already clear that the record can't be taken.
    pub(super) rejection: Option<Box<Rejection>>,
}

impl Taken {
    /// Bytes of memory held, roughly.
    pub(super) fn memory_bytes(&self) -> usize {
        let held = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        size_of::<Self>() + held(&self.key) + held(&self.value)
    }

    /// Marks it as addressed to nobody.
    pub(super) fn misaddressed(&mut self, reason: impl Into<String>) {
        self.rejection = Some(Box::new(Rejection::new(RejectionKind::Misaddressed, reason)));
    }
}

/// The tenant a record names, if key and header agree; what is wrong stands in the record.
pub(super) fn address(record: Record) -> (Option<String>, Taken) {
    // Taken apart rather than copied: a copy of `Bytes` costs an allocation that lasts as long as they do.
    let Record { partition, offset, timestamp_ms, key, value, headers } = record;
    let header = |name: &str| {
        let (_, value) = headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(value).ok()
    };
    let received_at_us = header(RECEIVED_AT_HEADER).and_then(|text| text.parse().ok());
    let source = header(SOURCE_HEADER).unwrap_or("unknown");
    let tenant = named_tenant(header(TENANT_HEADER), key.as_deref());
    let mut taken = Taken {
        partition,
        offset,
        // Other producers may not stamp; the log's own time is as immutable.
        received_at_us: received_at_us.unwrap_or_else(|| timestamp_ms.saturating_mul(1000)),
        source: Arc::from(source),
        key,
        value,
        traceparent: headers.iter().find(|(name, _)| name == TRACEPARENT).map(|(_, value)| value.clone()),
        rejection: header(REFUSED_HEADER).and_then(refusal).map(Box::new),
    };
    match tenant {
        Ok(tenant) => (Some(tenant), taken),
        Err(reason) => {
            taken.misaddressed(reason);
            (None, taken)
        }
    }
}

/// What the relay says of a record. Nobody else writes this header: who may write the topic at all is Firn.
fn refusal(text: &str) -> Option<Rejection> {
    let (kind, reason) = text.split_once(": ")?;
    Some(Rejection::new(RejectionKind::named(kind)?, reason))
}

fn named_tenant(header: Option<&str>, key: Option<&[u8]>) -> Result<String, String> {
    let Some(header) = header else {
        return Err(format!("the record has no header '{TENANT_HEADER}'"));
    };
    let Some((tenant, _)) = key.and_then(parse_record_key) else {
        return Err("the record's key is not TENANT/HOST, percent-encoded".to_owned());
    };
    if tenant != header {
        return Err(format!("the record's key names tenant '{tenant}', its header '{header}'"));
    }
    Ok(tenant)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn record(key: Option<&'static str>, headers: &[(&str, &'static str)]) -> Record {
        Record {
            partition: 1,
            offset: 2,
            timestamp_ms: 5,
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            value: Some(Bytes::from_static(b"{}")),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Bytes::from_static(value.as_bytes())))
                .collect(),
        }
    }

    #[test]
    fn key_and_header_must_agree() {
        let (tenant, taken) = address(record(
            Some("acme/a"),
            &[(TENANT_HEADER, "acme"), (RECEIVED_AT_HEADER, "7"), (SOURCE_HEADER, "native")],
        ));
        assert_eq!(
            (tenant.as_deref(), taken.received_at_us, taken.source.as_ref()),
            (Some("acme"), 7, "native")
        );
        assert_eq!(taken.rejection, None);

        for (key, headers) in [
            (Some("acme/a"), vec![]),
            (Some("acme/a"), vec![(TENANT_HEADER, "other")]),
            (Some("acme"), vec![(TENANT_HEADER, "acme")]),
            (None, vec![(TENANT_HEADER, "acme")]),
        ] {
            let (tenant, taken) = address(record(key, &headers));
            assert_eq!(tenant, None, "{key:?} {headers:?}");
            assert_eq!(taken.rejection.unwrap().kind, RejectionKind::Misaddressed);
            assert_eq!(taken.received_at_us, 5000, "the log's own time");
        }
    }
}
