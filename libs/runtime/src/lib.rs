//! What every Firn process needs: configuration, TLS, tracing, metrics, health, shutdown, retry, S3, and HTTP basics.

mod causes;
pub mod clock;
pub mod config;
pub mod health;
pub mod http;
pub mod metrics;
pub mod openapi;
pub mod rate;
pub mod reload;
pub mod retry;
pub mod s3;
pub mod shutdown;
mod status;
pub mod supervise;
pub mod telemetry;
pub mod tls;
pub mod trace;
mod usage;

pub use causes::with_causes;
pub use status::{StageState, StageStatus, StatusBoard};
pub use usage::Usage;
