//! The end-to-end suite: the built binary, used as its users use it. Each test has a server and a data directory of its own.

#[path = "e2e/agents.rs"]
mod agents;
#[path = "e2e/authority.rs"]
mod authority;
#[path = "e2e/clients.rs"]
mod clients;
#[path = "e2e/console.rs"]
mod console;
#[path = "e2e/crash.rs"]
mod crash;
#[path = "e2e/erase.rs"]
mod erase;
#[path = "e2e/events.rs"]
mod events;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/full_disk.rs"]
mod full_disk;
#[path = "e2e/ingest.rs"]
mod ingest;
#[path = "e2e/ledger.rs"]
mod ledger;
#[path = "e2e/main_job.rs"]
mod main_job;
#[path = "e2e/mistakes.rs"]
mod mistakes;
#[path = "e2e/models.rs"]
mod models;
#[path = "e2e/policies.rs"]
mod policies;
#[path = "e2e/producers.rs"]
mod producers;
#[path = "e2e/readme.rs"]
mod readme;
#[path = "e2e/rebuild.rs"]
mod rebuild;
#[path = "e2e/repartition.rs"]
mod repartition;
#[path = "e2e/row_deletes.rs"]
mod row_deletes;
#[path = "e2e/scaled_out.rs"]
mod scaled_out;
#[path = "e2e/storage_faults.rs"]
mod storage_faults;
#[path = "e2e/storms.rs"]
mod storms;
#[path = "e2e/upkeep.rs"]
mod upkeep;
