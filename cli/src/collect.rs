//! `firn collect`: the real inventory of this computer, in the native format.
//!
//! What can't be read stays absent: absent means "not known", and nothing is ever guessed.

mod block_device;
mod identity;
mod load;
mod operating_system;
mod probe;
mod security;
mod software;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use chrono::{SecondsFormat, Utc};
use firn_inventory::{Inventory, SCHEMA_VERSION};
use firn_runtime::retry::{Backoff, retry};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{connection::ConnectionArgs, output, tls::TlsArgs};
use probe::Machine;

/// An upload is repeated with the same `event_id`, so that a second one is recognised.
const UPLOAD: Backoff =
    Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(5), attempts: 5 };

/// Arguments of `firn collect`.
#[derive(clap::Args)]
pub(crate) struct CollectArgs {
    /// Upload to this server instead of printing
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    to: Option<String>,
    /// Upload to the server of this data directory instead of printing
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Access token that may upload
    #[arg(long, value_name = "TOKEN", env = "FIRN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Tenant
    #[arg(long, value_name = "NAME", env = "FIRN_TENANT")]
    tenant: Option<String>,
    #[command(flatten)]
    tls: TlsArgs,
    /// Organisation that the computer belongs to
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Mail address of its owner
    #[arg(long, value_name = "ADDRESS")]
    owner: Option<String>,
    /// Id of the computer, if it has no machine id
    #[arg(long, value_name = "ID")]
    host_id: Option<String>,
}

/// Collects, then prints or uploads.
pub(crate) async fn run(args: &CollectArgs) -> Result<()> {
    let mut inventory = collect(&Machine::this()).await;
    inventory.organization_id.clone_from(&args.organization);
    inventory.owner_email.clone_from(&args.owner);
    if let Some(id) = &args.host_id {
        inventory.host_id.clone_from(id);
    }
    if inventory.host_id.is_empty() {
        bail!("this computer has no /etc/machine-id: name it with --host-id");
    }
    if args.to.is_none() && args.data_dir.is_none() {
        return output::json(&inventory);
    }
    upload(args, inventory).await
}

async fn collect(machine: &Machine) -> Inventory {
    let mut inventory = Inventory {
        schema_version: Some(SCHEMA_VERSION),
        event_id: Some(uuid::Uuid::now_v7().to_string()),
        agent_name: Some("firn".to_owned()),
        agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        collected_at: Some(now()),
        ..Inventory::default()
    };
    identity::collect(machine, &mut inventory);
    operating_system::collect(machine, &mut inventory);
    load::collect(&mut inventory).await;
    security::collect(machine, &mut inventory).await;
    inventory.software = software::installed(machine).await;
    inventory
}

async fn upload(args: &CollectArgs, mut inventory: Inventory) -> Result<()> {
    let connection = ConnectionArgs {
        data_dir: args.data_dir.clone(),
        url: args.to.clone(),
        token: args.token.clone().filter(|_| args.to.is_some()),
        tenant: args.tenant.clone(),
        tls: args.tls.clone(),
    };
    let connection = connection.connect().await?;
    let path = format!("/v1/tenants/{}/inventory", connection.tenant);
    inventory.sent_at = Some(now());
    let body = serde_json::to_value(&inventory)?;
    let send = async || connection.post::<Value>(&path, &body).await;
    // A refusal stays a refusal; a server that is away or busy may be back in a moment.
    let again = |error: &anyhow::Error| {
        let text = format!("{error:#}");
        !text.contains("(HTTP 4") || text.contains("(HTTP 429)")
    };
    let sent = retry(UPLOAD, &CancellationToken::new(), "upload", send, again).await;
    sent.context("the inventory was not uploaded")?;
    let host = inventory.hostname.as_deref().unwrap_or(&inventory.host_id);
    output::line(&format!("uploaded the inventory of {host} to {} of {}", connection.tenant, connection.url))
}

fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn inventory_of_this_machine_is_one_that_firn_takes() {
        let inventory = collect(&Machine::this()).await;
        assert!(inventory.cpu_count.unwrap() > 0);
        assert!(inventory.memory_total_bytes.unwrap() >= inventory.memory_used_bytes.unwrap());
        assert!(inventory.disk_total_bytes.unwrap() >= inventory.disk_free_bytes.unwrap());
        let known = Inventory { host_id: "this".into(), ..inventory };
        let decoded = firn_inventory::decode(&serde_json::to_vec(&known).unwrap()).unwrap();
        assert_eq!((decoded.inventory, decoded.extra), (known, None));
    }
}
