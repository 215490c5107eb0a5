//! The harness: real servers, the built binary, and other people's clients, for the end-to-end suite.
//!
//! Nothing here is mocked. A server that is not installed is an error that names the command to install it:
//! `scripts/test-servers install`. Servers run on free ports in temporary folders and are stopped by process id.

mod agent;
mod balancer;
mod cache;
mod certificates;
mod fault_proxy;
mod firn_process;
mod kafka;
mod minio;
mod moto;
mod oidc;
mod opensearch;
mod ports;
mod postgres;
mod process;
mod python;
mod s3;
mod services;
mod specification;
mod tls_front;
mod wait;

use std::net::TcpListener;

pub use agent::{agent, run_agent};
pub use balancer::Balancer;
pub use certificates::{Authority, Certificate};
pub use fault_proxy::{Fault, FaultProxy};
pub use firn_process::{FirnProcess, firn, firn_binary, firn_command, firn_stdout};
pub use kafka::Kafka;
pub use minio::MinIo;
pub use moto::Moto;
pub use oidc::OidcProvider;
pub use opensearch::OpenSearch;
pub use postgres::Postgres;
pub use process::Process;
pub use python::{confluent, ocsf, python, spark, spark_on_s3};
pub use s3::SeaweedFs;
pub use services::{ServiceProcess, Services};
pub use specification::{Answer, Specification};
pub use tls_front::TlsFront;
pub use wait::until;

/// A port that was free a moment ago.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Where installed servers and clients are kept between runs: `FIRN_TEST_CACHE`, or the user's cache folder.
#[must_use]
pub fn cache_dir() -> std::path::PathBuf {
    if let Some(dir) = std::env::var_os("FIRN_TEST_CACHE") {
        return dir.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(std::path::PathBuf::from);
    let home = || std::path::PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into()));
    cache.unwrap_or_else(|| home().join(".cache")).join("firn").join("servers")
}
