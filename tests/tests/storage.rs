//! What clients can reach of a lake on S3, tried on real servers that enforce session policies.
#![allow(clippy::unwrap_used)]

#[path = "storage/clients.rs"]
mod clients;
#[path = "storage/lake.rs"]
mod lake;
#[path = "storage/provision.rs"]
mod provision;
#[path = "storage/signed.rs"]
mod signed;
#[path = "storage/terraform.rs"]
mod terraform;
#[path = "storage/vended.rs"]
mod vended;
