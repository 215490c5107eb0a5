//! A batch in traces: it goes on with the trace of its first record, and is linked to those of others.

use std::collections::BTreeSet;

use firn_runtime::trace;
use tracing::Span;

use super::address::Taken;

/// A batch may have as many traces as records; no collector wants that many links.
const MAX_TRACES: usize = 32;

/// The span of a commit of these records.
pub(super) fn commit_span(tenant: &str, records: &[Taken]) -> Span {
    let span = tracing::info_span!("commit", tenant, records = records.len());
    let mut traces = traces(records).into_iter();
    if let Some(first) = traces.next() {
        trace::follow(&span, first);
    }
    traces.for_each(|other| trace::link(&span, other));
    span
}

/// The records' traces, each once, in the order of the records.
fn traces(records: &[Taken]) -> Vec<&str> {
    let headers = records.iter().filter_map(|record| std::str::from_utf8(record.traceparent.as_ref()?).ok());
    let mut seen = BTreeSet::new();
    headers.filter(|header| seen.insert(*header)).take(MAX_TRACES).collect()
}
