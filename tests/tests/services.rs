//! The services as processes of their own over PostgreSQL, Kafka and S3, as a cluster runs them.

#[path = "services/collector.rs"]
mod collector;
#[path = "services/consistency.rs"]
mod consistency;
#[path = "services/dependencies.rs"]
mod dependencies;
#[path = "services/journey.rs"]
mod journey;
#[path = "services/restore.rs"]
mod restore;
#[path = "services/rolling.rs"]
mod rolling;
#[path = "services/secure.rs"]
mod secure;
