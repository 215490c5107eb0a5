//! Records of erased subjects: they are passed over, in the log and in what is replayed from it, so that nobody comes back.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use firn_catalog_client::{CatalogClient, ClientError, ErasureList};
use firn_inventory::parse_record_key;
use serde_json::Value;
use tokio::sync::Mutex;

use super::address::Taken;

/// Age after which the lists are asked for again. An erasure waits for several times as long before it looks into the tables.
const FRESH: Duration = Duration::from_secs(1);
/// The field that a record's key tells, whatever the record holds.
const HOST: &str = "host_id";

type Lists = Arc<BTreeMap<String, ErasureList>>;

/// The tenants' erasure lists. Without them nothing is taken.
pub(super) struct Erased {
    catalog: CatalogClient,
    known: Mutex<Option<(Instant, Lists)>>,
}

impl Erased {
    pub(super) fn new(catalog: CatalogClient) -> Self {
        Self { catalog, known: Mutex::default() }
    }

    /// Leaves out a tenant's records that are listed.
    pub(super) async fn leave_out(
        &self,
        tenant: &str,
        records: Vec<Taken>,
    ) -> Result<Vec<Taken>, ClientError> {
        let lists = self.lists().await?;
        let Some(list) = lists.get(tenant) else { return Ok(records) };
        let before = records.len();
        let stay: Vec<Taken> = records.into_iter().filter(|taken| !is_listed(list, taken)).collect();
        let left_out = (before - stay.len()) as u64;
        if left_out > 0 {
            metrics::counter!("firn_ingest_erased_total", "tenant" => tenant.to_owned()).increment(left_out);
        }
        Ok(stay)
    }

    async fn lists(&self) -> Result<Lists, ClientError> {
        let mut known = self.known.lock().await;
        if let Some((at, lists)) = known.as_ref()
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(lists));
        }
        let asked_at = Instant::now();
        let lists = Arc::new(ErasureList::of(&self.catalog.erasure_jobs().await?));
        *known = Some((asked_at, Arc::clone(&lists)));
        Ok(lists)
    }
}

/// Whether a record is of a listed subject: by its key, or by a field of what it holds.
fn is_listed(list: &ErasureList, taken: &Taken) -> bool {
    let host = taken.key.as_deref().and_then(parse_record_key).map(|(_, host)| host);
    if host.is_some_and(|host| list.has(HOST, &host)) {
        return true;
    }
    let mut others = list.columns().filter(|column| *column != HOST).peekable();
    if others.peek().is_none() {
        return false;
    }
    let value = taken.value.as_deref().and_then(|value| serde_json::from_slice::<Value>(value).ok());
    let Some(value) = value else { return false };
    others.any(|column| match &value[column] {
        Value::String(text) => list.has(column, text),
        Value::Number(number) => list.has(column, &number.to_string()),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use firn_catalog_client::{Erasure, ErasureJob, subject_hash};

    use super::*;

    #[test]
    fn records_are_known_by_key_and_by_field() {
        let listed = [("host_id", "h1"), ("owner_email", "jo@example.org")]
            .map(|(column, value)| (column.to_owned(), BTreeSet::from([subject_hash("k", column, value)])));
        let erasure = Erasure { tenant: "acme".to_owned(), ..Erasure::default() };
        let job = ErasureJob { erasure, listed: listed.into(), key: "k".to_owned(), ..ErasureJob::default() };
        let lists = ErasureList::of(&[job]);
        let taken = |key: &'static str, value: &'static str| Taken {
            traceparent: None,
            partition: 0,
            offset: 0,
            received_at_us: 1,
            source: Arc::from("native"),
            key: Some(Bytes::from_static(key.as_bytes())),
            value: Some(Bytes::from_static(value.as_bytes())),
            rejection: None,
        };
        let is_listed = |key, value| is_listed(&lists["acme"], &taken(key, value));
        assert!(is_listed("acme/h1", "broken"), "the key is enough");
        assert!(is_listed("acme/h2", r#"{"host_id":"h2","owner_email":"jo@example.org"}"#));
        assert!(!is_listed("acme/h2", r#"{"host_id":"h2","owner_email":"al@example.org"}"#));
        assert!(!is_listed("acme/h2", r#"{"host_id":"h2","note":"jo@example.org"}"#));
    }
}
