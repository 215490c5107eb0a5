//! Splitting a body into records and giving each its address in the log.

use axum::http::StatusCode;
use bytes::Bytes;
use firn_auth::TenantName;
use firn_inventory::{
    Format, host_id, record_key,
    tables::{INVENTORY_TOPIC, RECEIVED_AT_HEADER, SOURCE_HEADER, TENANT_HEADER},
};
use firn_runtime::trace::TRACEPARENT;
use firn_stream::{Header, ProduceRecord};

use super::answer::Refusal;

/// The records of one request, in its order.
#[derive(Debug)]
pub(super) struct Batch {
    records: Vec<Routed>,
}

/// Whose records they are, and when they came.
#[derive(Clone, Debug)]
pub(super) struct Receipt {
    pub(super) tenant: TenantName,
    /// The only host that the token may upload for, if it is bound to one.
    pub(super) bound_to: Option<String>,
    pub(super) received_at_us: i64,
    pub(super) max_record_bytes: usize,
    /// The request's trace.
    pub(super) traceparent: Option<String>,
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
        format: Format,
        max_records: usize,
        receipt: &Receipt,
    ) -> Result<Self, Refusal> {
        let texts = if single { vec![body.clone()] } else { lines(body) };
        if texts.iter().all(|text| text.trim_ascii().is_empty()) {
            return Err(Refusal::unusable("the body holds no record"));
        }
        if texts.len() > max_records {
            let found = texts.len();
            let message =
                format!("the body holds {found} records, more than {max_records}: send smaller batches");
            return Err(Refusal::too_large(message));
        }
        let headers = receipt.headers(format.as_str());
        let route = |text: Bytes| receipt.route(text, format, &headers);
        Ok(Self { records: texts.into_iter().map(route).collect() })
    }

    /// One native record that an adapter named `source` made.
    pub(super) fn of_one(record: Vec<u8>, source: &str, receipt: &Receipt) -> Self {
        let routed = receipt.route(Bytes::from(record), Format::Native, &receipt.headers(source));
        Self { records: vec![routed] }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn into_records(self) -> Vec<Routed> {
        self.records
    }
}

impl Receipt {
    fn headers(&self, source: &str) -> Vec<Header> {
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let mut headers = vec![
            (TENANT_HEADER.to_owned(), text(self.tenant.as_str())),
            (RECEIVED_AT_HEADER.to_owned(), text(&self.received_at_us.to_string())),
            (SOURCE_HEADER.to_owned(), text(source)),
        ];
        headers.extend(self.traceparent.as_deref().map(|trace| (TRACEPARENT.to_owned(), text(trace))));
        headers
    }

    fn route(&self, text: Bytes, format: Format, headers: &[Header]) -> Routed {
        match self.record(text, format, headers) {
            Ok(record) => Routed::Record(record),
            Err((status, reason)) => Routed::Refused(status, reason),
        }
    }

    fn record(
        &self,
        mut text: Bytes,
        format: Format,
        headers: &[Header],
    ) -> Result<ProduceRecord, (StatusCode, String)> {
        let unusable = |reason: String| (StatusCode::UNPROCESSABLE_ENTITY, reason);
        self.check_size(&text)?;
        if format != Format::Native {
            text = format.adapt(&text).map_err(|error| unusable(error.to_string()))?.into();
            self.check_size(&text)?;
        }
        let host_id = host_id(&text).map_err(|rejection| unusable(rejection.reason))?;
        if self.bound_to.as_ref().is_some_and(|bound_to| *bound_to != host_id) {
            let reason = "the token is bound to another host than field 'host_id' names".to_owned();
            return Err((StatusCode::FORBIDDEN, reason));
        }
        Ok(ProduceRecord {
            topic: INVENTORY_TOPIC.to_owned(),
            key: Some(Bytes::from(record_key(self.tenant.as_str(), &host_id))),
            partition: None,
            value: Some(text),
            headers: headers.to_vec(),
        })
    }

    fn check_size(&self, text: &Bytes) -> Result<(), (StatusCode, String)> {
        if text.len() <= self.max_record_bytes {
            return Ok(());
        }
        let reason = format!("the record has {} bytes, more than {}", text.len(), self.max_record_bytes);
        Err((StatusCode::PAYLOAD_TOO_LARGE, reason))
    }
}

/// Lines that hold something; blank ones count for nothing.
fn lines(body: &Bytes) -> Vec<Bytes> {
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty()).map(|line| body.slice_ref(line)).collect()
}
