//! Splitting a body into records and giving each its address in the log.

use axum::http::StatusCode;
use bytes::Bytes;
use firn_auth::TenantName;
use firn_inventory::{
    host_id, record_key,
    tables::{INVENTORY_TOPIC, RECEIVED_AT_HEADER, SOURCE_HEADER, TENANT_HEADER},
};
use firn_stream::{Header, ProduceRecord};

use super::{GatewayConfig, answer::Refusal};

/// The adapter's name of the native format.
const NATIVE: &str = "native";

/// The records of one request, in its order.
#[derive(Debug)]
pub(super) struct Batch {
    records: Vec<Routed>,
}

/// One record.
#[derive(Debug)]
pub(super) enum Routed {
    /// Ready for the log.
    Record(ProduceRecord),
    /// Can't be routed.
    Refused(StatusCode, String),
}

impl Batch {
    /// Splits `body` and routes each record; only an empty or overlong batch is refused as a whole.
    pub(super) fn route(
        body: &Bytes,
        single: bool,
        config: &GatewayConfig,
        tenant: &TenantName,
        bound_to: Option<&str>,
        received_at_us: i64,
    ) -> Result<Self, Refusal> {
        let texts = if single { vec![body.clone()] } else { lines(body) };
        if texts.iter().all(|text| text.trim_ascii().is_empty()) {
            return Err(Refusal::unusable("the body holds no record"));
        }
        if texts.len() > config.max_records {
            let (found, limit) = (texts.len(), config.max_records);
            let message = format!("the body holds {found} records, more than {limit}: send smaller batches");
            return Err(Refusal::too_large(message));
        }
        let headers = headers(tenant, received_at_us);
        let route = |text: Bytes| route_one(text, config.max_record_bytes, tenant, bound_to, &headers);
        Ok(Self { records: texts.into_iter().map(route).collect() })
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn into_records(self) -> Vec<Routed> {
        self.records
    }
}

fn headers(tenant: &TenantName, received_at_us: i64) -> Vec<Header> {
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    vec![
        (TENANT_HEADER.to_owned(), text(tenant.as_str())),
        (RECEIVED_AT_HEADER.to_owned(), text(&received_at_us.to_string())),
        (SOURCE_HEADER.to_owned(), text(NATIVE)),
    ]
}

/// Lines that hold something; blank ones count for nothing.
fn lines(body: &Bytes) -> Vec<Bytes> {
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty()).map(|line| body.slice_ref(line)).collect()
}

fn route_one(
    text: Bytes,
    max_record_bytes: usize,
    tenant: &TenantName,
    bound_to: Option<&str>,
    headers: &[Header],
) -> Routed {
    if text.len() > max_record_bytes {
        let reason = format!("the record has {} bytes, more than {max_record_bytes}", text.len());
        return Routed::Refused(StatusCode::PAYLOAD_TOO_LARGE, reason);
    }
    let host_id = match host_id(&text) {
        Ok(host_id) => host_id,
        Err(rejection) => return Routed::Refused(StatusCode::UNPROCESSABLE_ENTITY, rejection.reason),
    };
    if bound_to.is_some_and(|bound_to| bound_to != host_id) {
        let reason = "the token is bound to another host than field 'host_id' names".to_owned();
        return Routed::Refused(StatusCode::FORBIDDEN, reason);
    }
    Routed::Record(ProduceRecord {
        topic: INVENTORY_TOPIC.to_owned(),
        key: Some(Bytes::from(record_key(tenant.as_str(), &host_id))),
        partition: None,
        value: Some(text),
        headers: headers.to_vec(),
    })
}
