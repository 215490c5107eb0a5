//! What every Firn process needs: configuration, tracing, metrics, health, shutdown, retry, and HTTP basics.

pub mod config;
pub mod http;
pub mod metrics;
pub mod retry;
pub mod shutdown;
mod status;
pub mod telemetry;

pub use status::{StageState, StageStatus, StatusBoard};
