//! Names of the tables and topics that services share.

/// Kafka topic of raw inventories; key `tenant/host` (both percent-encoded), header [`TENANT_HEADER`].
pub const INVENTORY_TOPIC: &str = "inventory";
/// Header that names the tenant.
pub const TENANT_HEADER: &str = "firn-tenant";
/// Header with the gateway's receipt time, microseconds since the epoch in decimal.
pub const RECEIVED_AT_HEADER: &str = "firn-received-at";
/// Header with the adapter that took the record (`native`, `osquery` …).
pub const SOURCE_HEADER: &str = "firn-source";
/// Header with why a record that was copied from a tenant's own topic belongs into quarantine: kind, `: `, reason.
pub const REFUSED_HEADER: &str = "firn-refused";
/// Kafka topic of findings' transitions; key `tenant/host`.
pub const COMPLIANCE_TOPIC: &str = "compliance";
/// Compacted topic of the alerts worker's state; key `tenant/host`.
pub const ALERTS_STATE_TOPIC: &str = "alerts-state";
/// Commands (acknowledge, snooze …) to findings; key `tenant/host`.
pub const ALERTS_COMMANDS_TOPIC: &str = "alerts-commands";

/// Namespace and name of the tables.
pub const BRONZE_INVENTORY: (&str, &str) = ("bronze", "inventory");
/// Records that could not be taken, with the reason.
pub const BRONZE_QUARANTINE: (&str, &str) = ("bronze", "quarantine");
/// Typed, deduplicated records.
pub const SILVER_INVENTORY: (&str, &str) = ("silver", "inventory");
/// Latest record per host.
pub const SILVER_DEVICE: (&str, &str) = ("silver", "device");
/// One row per host and package.
pub const SILVER_SOFTWARE: (&str, &str) = ("silver", "software");
/// State per host and rule.
pub const GOLD_COMPLIANCE: (&str, &str) = ("gold", "compliance");
/// CPU and disk per organisation and window.
pub const GOLD_ORG_METRICS: (&str, &str) = ("gold", "org_metrics");
/// Every transition of a finding.
pub const GOLD_TRANSITIONS: (&str, &str) = ("gold", "transitions");
/// Latest record per host and day.
pub const SILVER_DEVICE_DAILY: (&str, &str) = ("silver", "device_daily");
/// Compliance by day, organisation and rule.
pub const GOLD_COMPLIANCE_DAILY: (&str, &str) = ("gold", "compliance_daily");
/// How each computer is doing.
pub const GOLD_DEVICE_HEALTH: (&str, &str) = ("gold", "device_health");
/// The tenant's own models.
pub const POLICY_MODELS: (&str, &str) = ("policies", "models");
/// Organisations and whose computers are theirs, as the tenant says.
pub const REFERENCE_ORGANIZATIONS: (&str, &str) = ("reference", "organizations");
/// The tenant's rules.
pub const POLICY_RULES: (&str, &str) = ("policies", "rules");

/// Topic that others than Firn write a tenant's inventories to; its name alone says whose they are.
#[must_use]
pub fn producers_topic(tenant: &str) -> String {
    format!("{INVENTORY_TOPIC}.{tenant}")
}

/// Property of a table that is filled from the log (`bronze.inventory`, `gold.transitions`) that holds the next offset of one partition.
#[must_use]
pub fn position_property(topic_id: &str, partition: i32) -> String {
    format!("firn.position.{topic_id}.{partition}")
}
