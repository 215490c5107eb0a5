//! What a worker takes: from which topic, into which table. All else is the same.

use firn_inventory::tables::{BRONZE_INVENTORY, COMPLIANCE_TOPIC, GOLD_TRANSITIONS, INVENTORY_TOPIC};
use firn_policy::transitions_schema;
use firn_table::{NewTable, Partitioning};

use super::{
    GROUP,
    address::Taken,
    rows::{self, Rows},
    tables::{ident, inventory_table},
};

/// See the module.
pub(super) struct Feed {
    pub(super) topic: &'static str,
    /// Consumer group of all workers of this feed.
    pub(super) group: &'static str,
    /// Name on the status board.
    pub(super) stage: &'static str,
    /// The table that takes the records and keeps the positions, by namespace and name.
    pub(super) table: (&'static str, &'static str),
    /// The same, to be made.
    pub(super) new_table: fn() -> NewTable,
    /// Tenant, topic id and records into rows; each record ends in exactly one of the two tables.
    pub(super) judge: fn(&str, &str, &[Taken]) -> Rows,
    /// Whether the rows are told whose computers they are about, from `reference.organizations`.
    pub(super) has_organizations: bool,
}

/// Inventories into `bronze.inventory`.
pub(super) static INVENTORY: Feed = Feed {
    topic: INVENTORY_TOPIC,
    group: GROUP,
    stage: "ingest",
    table: BRONZE_INVENTORY,
    new_table: inventory_table,
    judge: rows::judge,
    has_organizations: true,
};

/// Transitions of findings into `gold.transitions`.
pub(super) static TRANSITIONS: Feed = Feed {
    topic: COMPLIANCE_TOPIC,
    group: "firn-transitions",
    stage: "transitions",
    table: GOLD_TRANSITIONS,
    new_table: transitions_table,
    judge: rows::judge_transitions,
    has_organizations: false,
};

/// Partitioned by month: transitions are few.
fn transitions_table() -> NewTable {
    let comment = "Every transition of a finding, once: who, when, why, by which rule, from which record.";
    NewTable {
        ident: ident(GOLD_TRANSITIONS),
        schema: transitions_schema(),
        partitioning: vec![Partitioning { column: "at".into(), transform: "month".into() }],
        properties: [("comment".to_owned(), comment.to_owned())].into(),
    }
}
