//! A record as it goes on: with Firn's address and headers, and its producer's payload.

use bytes::Bytes;
use firn_inventory::{
    RejectionKind, host_id, parse_record_key, record_key,
    tables::{INVENTORY_TOPIC, RECEIVED_AT_HEADER, REFUSED_HEADER, SOURCE_HEADER, TENANT_HEADER},
};
use firn_runtime::trace::TRACEPARENT;
use firn_stream::{Header, MAX_RECORD_BYTES, ProduceRecord, Record};

/// What the records' source is called.
const SOURCE: &str = "kafka";
/// The host in the key of a record that names none, or that belongs into quarantine anyway: none can have this name.
const NO_HOST: &str = "\0";
/// What goes on of a record that is too large with its address.
const BEGINNING_BYTES: usize = 64 << 10;

/// The copy. Whether its payload is an inventory is for the worker to say, as of all records.
pub(super) fn copy(tenant: &str, record: Record, received_at_us: i64) -> ProduceRecord {
    let mut refusal = contradiction(tenant, &record);
    let host = match (&refusal, &record.value) {
        (None, Some(value)) => host_id(value).ok(),
        _ => None,
    };
    let mut copy = ProduceRecord {
        topic: INVENTORY_TOPIC.to_owned(),
        key: Some(record_key(tenant, host.as_deref().unwrap_or(NO_HOST)).into()),
        partition: None,
        value: record.value,
        headers: vec![
            header(TENANT_HEADER, tenant.to_owned()),
            header(RECEIVED_AT_HEADER, received_at_us.to_string()),
            header(SOURCE_HEADER, SOURCE.to_owned()),
        ],
    };
    copy.headers.extend(record.headers.into_iter().find(|(name, _)| name == TRACEPARENT));
    let bytes = copy.payload_bytes();
    if bytes > MAX_RECORD_BYTES {
        let reason = format!(
            "the record has {bytes} bytes with its address, more than {MAX_RECORD_BYTES}: this is its beginning"
        );
        refusal = Some((RejectionKind::OutOfRange, reason));
        copy.key = Some(record_key(tenant, NO_HOST).into());
        copy.value = copy.value.map(|value| value.slice(..value.len().min(BEGINNING_BYTES)));
    }
    if let Some((kind, reason)) = refusal {
        copy.headers.push(header(REFUSED_HEADER, format!("{}: {reason}", kind.as_str())));
    }
    copy
}

fn header(name: &str, value: String) -> Header {
    (name.to_owned(), Bytes::from(value))
}

/// What the record says against its topic, in Firn's own header or in a key of Firn's form.
fn contradiction(tenant: &str, record: &Record) -> Option<(RejectionKind, String)> {
    let said = record.headers.iter().find(|(name, _)| name == TENANT_HEADER);
    let in_header = said.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    let in_key = record.key.as_deref().and_then(parse_record_key).map(|(tenant, _)| tenant);
    let other = |named: &Option<String>| named.clone().filter(|named| named != tenant);
    let (what, other) = other(&in_header)
        .map(|other| ("header", other))
        .or_else(|| other(&in_key).map(|other| ("key", other)))?;
    let reason = format!("the record's {what} names tenant '{other}', its topic '{tenant}'");
    Some((RejectionKind::Misaddressed, reason))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn record(key: Option<&str>, headers: &[(&str, &str)], value: &str) -> Record {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Record {
            partition: 0,
            offset: 0,
            timestamp_ms: 1,
            key: key.map(bytes),
            value: Some(bytes(value)),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), bytes(value))).collect(),
        }
    }

    fn headers(copy: &ProduceRecord) -> Vec<(&str, &str)> {
        let text = |value| std::str::from_utf8(value).unwrap();
        copy.headers.iter().map(|(name, value)| (name.as_str(), text(value.as_ref()))).collect()
    }

    #[test]
    fn topic_says_whose_it_is_and_the_payload_of_which_host() {
        let own =
            [("content-type", "application/json"), ("firn-received-at", "1"), ("traceparent", "00-a-b-01")];
        let copied = copy("acme", record(Some("whatever"), &own, r#"{"host_id":"pc 7"}"#), 5);
        assert_eq!(copied.key.as_deref(), Some(&b"acme/pc%207"[..]));
        assert_eq!(
            headers(&copied),
            [
                ("firn-tenant", "acme"),
                ("firn-received-at", "5"),
                ("firn-source", "kafka"),
                ("traceparent", "00-a-b-01")
            ],
            "nothing else that the producer says of it"
        );
        let copied =
            copy("acme", record(Some("acme/pc-8"), &[("firn-tenant", "acme")], r#"{"host_id":"pc-7"}"#), 5);
        assert_eq!((copied.key.as_deref(), copied.headers.len()), (Some(&b"acme/pc-7"[..]), 3));
    }

    #[test]
    fn contradictions_are_refused_in_the_topics_tenant() {
        let value = r#"{"host_id":"pc-7"}"#;
        for (record, reason) in [
            (
                record(None, &[("firn-tenant", "other")], value),
                "misaddressed: the record's header names tenant 'other', its topic 'acme'",
            ),
            (
                record(Some("other/pc-7"), &[], value),
                "misaddressed: the record's key names tenant 'other', its topic 'acme'",
            ),
        ] {
            let copied = copy("acme", record, 5);
            assert_eq!(copied.key.as_deref(), Some(&b"acme/%00"[..]), "of no host");
            assert_eq!(headers(&copied).last(), Some(&("firn-refused", reason)));
            assert_eq!(copied.value.as_deref(), Some(value.as_bytes()));
        }
    }

    #[test]
    fn what_names_no_host_or_is_too_large_goes_on_to_be_judged() {
        let copied = copy("acme", record(None, &[], "{"), 5);
        assert_eq!((copied.key.as_deref(), copied.headers.len()), (Some(&b"acme/%00"[..]), 3));
        let large = format!(r#"{{"host_id":"pc-7","x":"{}"}}"#, "a".repeat(MAX_RECORD_BYTES));
        let copied = copy("acme", record(None, &[], &large), 5);
        assert!(copied.payload_bytes() < MAX_RECORD_BYTES);
        assert!(
            headers(&copied)[3].1.starts_with("out_of_range: the record has 1000"),
            "{:?}",
            headers(&copied)
        );
    }
}
