//! The catalog over HTTP, in this process, with SQLite and local files, spoken to by the real client.

#![allow(clippy::unwrap_used)]

mod abuse;
mod access;
mod commits;
mod erasures;
mod harness;
mod lists;
mod locations;
mod outside;
mod plans;
mod reads;
mod references;
mod replicas;
mod reports;
mod rights;
mod specification;
mod specified;
mod tenants;
mod views;
