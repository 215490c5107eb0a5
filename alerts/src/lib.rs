//! Alerts: which computer broke which rule, within a second.
//!
//! A stateful stream processor. It reads the topic `inventory` and commands of people, judges each record by the tenant's
//! rules, keeps the state of each host's findings, and publishes transitions to the topic `compliance`; a sink of its own
//! brings them into Elasticsearch.
//!
//! # Exactly once
//! Changed states (compacted topic `alerts-state`), transitions and the input's positions are written in one transaction of
//! the log. State in memory changes only after that transaction succeeded, so a step that fails leaves nothing anywhere;
//! the worker then ends, and the next run reads its partitions' state back from the topic before it takes a record. State,
//! command, `compliance` and `inventory` topics are co-partitioned: one owner per host.
//!
//! # Who does what
//! [`engine`] decides: a pure, synchronous function of state, records, rules and time. [`worker`] does: reads, commits,
//! restores. [`rules`] keeps each tenant's rules as they are on `main`. [`index`] answers the API. [`sink`] delivers.
//! [`history`] replays what the lake holds, by the same rules.

mod alerts;
mod api;
mod codec;
mod dashboards;
mod engine;
mod error;
mod history;
mod host;
mod index;
#[cfg(test)]
mod lake;
mod packed;
mod rules;
mod sink;
mod worker;

pub use alerts::{Alerts, AlertsConfig};
pub use api::ENDPOINTS;
pub use dashboards::dashboards;
pub use error::AlertsError;
pub use history::History;
pub use index::{Finding, FindingsPage};
pub use sink::{Reindex, WebhookFormat};
pub use worker::{Difference, Move, Rebuilt, Repartitioned};
