//! Judging hosts' newest records again, after rules changed or were read for the first time.
//!
//! Rows of `silver.device` stand for the records, which the stream no longer has. A row counts only while it is the very
//! record that its host was judged by last: a newer one was, or will be, judged by the new rules anyway. A rule that did not
//! change says of the same record what it said before, so that nothing has to be remembered of what was reviewed, and a
//! review may be repeated at any time.

use std::sync::Arc;

use arrow::{
    array::{AsArray, Int64Array, RecordBatch},
    compute::cast,
    datatypes::{DataType, Int64Type},
    error::ArrowError,
};
use firn_policy::{Cause, Observation, Told, Verdict};

use super::{
    Batch,
    apply::{Story, Work},
};
use crate::{
    host::{HostKey, Order},
    rules::TenantRules,
};

/// Rows of a tenant's `silver.device`.
pub(crate) struct Devices {
    pub(crate) tenant: String,
    pub(crate) rows: RecordBatch,
}

/// The rows with what every rule says of them.
pub(super) struct Review<'a> {
    rules: &'a TenantRules,
    rows: &'a RecordBatch,
    hosts: Vec<HostKey>,
    orders: Vec<Order>,
    /// By rule, then by row.
    verdicts: Vec<Vec<Verdict>>,
}

impl<'a> Review<'a> {
    /// `None` if there is nothing to review; a table that lacks a column of the envelope says nothing.
    pub(super) fn of(batch: &'a Batch) -> Option<Self> {
        let devices = batch.devices.as_ref()?;
        let rules = batch.rules.get(&devices.tenant)?;
        let (hosts, orders) = places(devices)
            .map_err(|error| {
                tracing::warn!(tenant = devices.tenant, %error, "silver.device can't be used for a review");
            })
            .ok()?;
        let verdicts = rules.rules.iter().map(|rule| rule.evaluate(&devices.rows).0.verdicts).collect();
        Some(Self { rules, rows: &devices.rows, hosts, orders, verdicts })
    }
}

fn places(devices: &Devices) -> Result<(Vec<HostKey>, Vec<Order>), ArrowError> {
    let column = |name: &str| {
        let missing = || ArrowError::SchemaError(format!("column '{name}' is missing"));
        devices.rows.column_by_name(name).ok_or_else(missing)
    };
    let whole = |name: &str| -> Result<Int64Array, ArrowError> {
        Ok(cast(column(name)?, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    };
    let ids = cast(column("host_id")?, &DataType::Utf8)?;
    let host = |id: Option<&str>| HostKey {
        tenant: devices.tenant.clone(),
        host_id: id.unwrap_or_default().to_owned(),
    };
    let hosts = ids.as_string::<i32>().iter().map(host).collect();
    let (event, received) = (whole("event_time")?, whole("received_at")?);
    let (partition, offset) = (whole("log_partition")?, whole("log_offset")?);
    let order = |row| {
        let partition = i32::try_from(partition.value(row)).unwrap_or(i32::MAX);
        (event.value(row), received.value(row), partition, offset.value(row))
    };
    Ok((hosts, (0..devices.rows.num_rows()).map(order).collect()))
}

impl Work<'_> {
    /// Reviews the rows of this partition's hosts; counts those that could be.
    pub(super) fn review(&mut self, review: &Review<'_>) {
        for (row, key) in review.hosts.iter().enumerate() {
            let known = self.known(key);
            let Some(mut host) = known.filter(|host| host.order == review.orders[row] && !host.retired)
            else {
                continue;
            };
            self.reviewed += 1;
            let (mut changed, at_us) = (false, self.time_us().max(host.order.1));
            for (rule, verdicts) in review.rules.rules.iter().zip(&review.verdicts) {
                let differs = match verdicts[row] {
                    Verdict::NoResult => false,
                    Verdict::Pass => host.is_in_breach(&rule.policy.id),
                    Verdict::Fail => !host.is_in_breach(&rule.policy.id),
                };
                if !differs || !rule.policy.is_per_record() {
                    continue;
                }
                changed = true;
                let mut standing = host.take(&rule.policy.id);
                let order = (at_us, at_us, host.order.2, host.order.3);
                let (seen, mut told) = (Observation { verdict: verdicts[row], order }, Vec::new());
                let evidence = || super::apply::evidence(rule, review.rows, row);
                standing.record(rule, seen, (i64::MIN, i64::MIN, 0, 0), evidence, &mut told);
                host.put(&rule.policy.id, standing);
                for Told { transition, evidence, .. } in told {
                    let story = Story::new(Cause::Rules, evidence);
                    self.tell(key, &host, &rule.policy.id, Some(transition), story);
                }
            }
            if changed {
                self.keep(Arc::new(key.clone()), host);
            }
        }
    }
}
