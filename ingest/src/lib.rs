//! From the wire to bronze: the gateway takes inventories over HTTP and puts them into the log, the worker takes them from
//! the log into each tenant's bronze tables, exactly once.
//!
//! The two share nothing but the log's topic: they run in one process or in many. The relay is a third one, from topics that others
//! write into Firn's.

mod endpoints;
mod gateway;
mod relay;
mod worker;

pub use endpoints::ENDPOINTS;
pub use gateway::{Gateway, GatewayConfig};
pub use relay::{Relay, RelayError};
pub use worker::{
    ForgetRequest, Forgotten, LeftRange, LogCursor, PartitionOffset, PartitionStanding, QuarantineCursor,
    ReplayFrom, ReplayRequest, ReplayStep, Standing, Worker, WorkerConfig, WorkerError,
    ensure_inventory_topic,
};
