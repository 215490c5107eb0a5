//! What earlier runs found, host by host.

use datafusion::{
    arrow::array::{Array, Int64Array, RecordBatch, StringArray},
    error::Result,
    physical_plan::SendableRecordBatchStream,
};
use futures::StreamExt;

use super::{
    Evidence, Facts, Host, Order, RuleSet, Standing,
    rows::{HostFacts, text, verdict_of},
};
use crate::engine::columns::{integers, micros};

/// Rows of the compliance table sorted by host.
pub(super) struct PriorRows {
    stream: Option<SendableRecordBatchStream>,
    batch: Option<PriorBatch>,
}

/// A batch and the next row of it.
struct PriorBatch {
    row: usize,
    rows: usize,
    host_id: StringArray,
    rule_id: StringArray,
    hostname: StringArray,
    organization_id: StringArray,
    state: StringArray,
    evidence: StringArray,
    revision: StringArray,
    since: Int64Array,
    order: [Int64Array; 4],
}

impl PriorBatch {
    fn new(batch: &RecordBatch) -> Result<Self> {
        let column = |name: &str| -> Result<_> { Ok(batch.column(batch.schema().index_of(name)?).clone()) };
        let words = |name: &str| -> Result<_> { Ok(text(&column(name)?)?) };
        Ok(Self {
            row: 0,
            rows: batch.num_rows(),
            host_id: words("host_id")?,
            rule_id: words("rule_id")?,
            hostname: words("hostname")?,
            organization_id: words("organization_id")?,
            state: words("state")?,
            evidence: words("evidence")?,
            revision: words("revision")?,
            since: micros(&column("since")?)?,
            order: [
                micros(&column("event_time")?)?,
                micros(&column("received_at")?)?,
                integers(&column("log_partition")?)?,
                integers(&column("log_offset")?)?,
            ],
        })
    }

    fn order(&self) -> Order {
        let [event_time, received_at, partition, offset] = &self.order;
        let row = self.row;
        (event_time.value(row), received_at.value(row), partition.value(row), offset.value(row))
    }

    /// Adds the row at hand to its host, unless its rule was withdrawn.
    fn add_to(&self, host: &mut Host, rules: &RuleSet) {
        let value =
            |column: &StringArray| column.is_valid(self.row).then(|| column.value(self.row).to_owned());
        let order = self.order();
        if host.newest.is_none_or(|newest| order > newest) {
            host.newest = Some(order);
            let (hostname, organization_id) = (value(&self.hostname), value(&self.organization_id));
            host.facts = Some(Facts::Known(HostFacts { hostname, organization_id }));
        }
        let Some(place) = rules.place(self.rule_id.value(self.row)) else { return };
        let revision = self.revision.value(self.row);
        host.standings[place] = Some(Standing {
            verdict: verdict_of(self.state.value(self.row)),
            since_us: self.since.value(self.row),
            order,
            outdated: (revision != rules.rules[place].revision).then(|| revision.to_owned()),
            evidence: Evidence::Known(value(&self.evidence)),
        });
    }
}

impl PriorRows {
    pub(super) fn new(stream: Option<SendableRecordBatchStream>) -> Self {
        Self { stream, batch: None }
    }

    /// The next host, if it does not come after `until`.
    pub(super) async fn next_host(&mut self, rules: &RuleSet, until: Option<&str>) -> Result<Option<Host>> {
        let mut host: Option<Host> = None;
        loop {
            let Some(batch) = self.batch_with_rows().await? else { break };
            let id = batch.host_id.value(batch.row);
            let another = host.as_ref().is_some_and(|host| host.id != id);
            if another || until.is_some_and(|until| id > until) {
                break;
            }
            let host = host.get_or_insert_with(|| Host::new(id, rules));
            batch.add_to(host, rules);
            batch.row += 1;
        }
        Ok(host)
    }

    async fn batch_with_rows(&mut self) -> Result<Option<&mut PriorBatch>> {
        while self.batch.as_ref().is_none_or(|batch| batch.row >= batch.rows) {
            let Some(stream) = &mut self.stream else { return Ok(None) };
            match stream.next().await {
                Some(batch) => self.batch = Some(PriorBatch::new(&batch?)?),
                None => {
                    self.stream = None;
                    return Ok(None);
                }
            }
        }
        Ok(self.batch.as_mut())
    }
}
