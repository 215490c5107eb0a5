//! `firn tenant`.

mod provision;

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use firn_auth::Limits;
use firn_catalog_client::{LayerRetention, Tenant, TenantClient, TenantCreate, TenantUpdate};

use crate::{connection::ConnectionArgs, failure::usage, output};

/// Subcommands of `firn tenant`.
#[derive(clap::Subcommand)]
pub(crate) enum TenantCommand {
    /// Create a tenant; one that exists is left as it is
    Create(CreateArgs),
    /// List the tenants
    Ls(ListArgs),
    /// Show one tenant
    Show(NameArgs),
    /// Make a tenant's bucket on S3 what it should be, or say what it lacks
    Provision(provision::ProvisionArgs),
    /// Change what is given; what isn't stays as it is
    Update(UpdateArgs),
    /// Refuse everybody, until it is resumed
    Suspend(SuspendArgs),
    /// End a suspension
    Resume(NameArgs),
    /// Delete a tenant: nobody reaches it, and after the grace period its data goes for good
    Delete(DeleteArgs),
    /// Take a deletion back, within the grace period
    Restore(NameArgs),
    /// Remove the data of a deleted tenant whose grace period is over (the server does so by itself, too)
    Purge(NameArgs),
}

/// What a tenant is like.
#[derive(clap::Args)]
struct Traits {
    /// A data classification, such as GDPR; may be given several times
    #[arg(long = "classification", value_name = "WORD")]
    classifications: Vec<String>,
    /// A tag, KEY=VALUE; may be given several times
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
    /// Name of a storage profile; recorded only, nothing chooses storage by it yet
    #[arg(long, value_name = "NAME")]
    storage_profile: Option<String>,
    /// Days for which a layer keeps its rows, such as bronze=90, or its values of a class, such as silver.personal=30; replaces all
    /// that was said before
    #[arg(long = "retain", value_name = "LAYER[.CLASS]=DAYS")]
    retention: Vec<String>,
    /// A limit: requests-per-s, body-bytes, concurrent-commits, tables or references; may be given several times
    #[arg(long = "limit", value_name = "NAME=NUMBER")]
    limits: Vec<String>,
}

/// Arguments of `firn tenant create`.
#[derive(clap::Args)]
pub(crate) struct CreateArgs {
    /// 1 to 63 of a-z, 0-9 and '-'
    name: String,
    /// Region of its data (default: the server's)
    #[arg(long)]
    region: Option<String>,
    #[command(flatten)]
    traits: Traits,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn tenant ls`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Those that were deleted, too
    #[arg(long)]
    deleted: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of commands that need a name alone.
#[derive(clap::Args)]
pub(crate) struct NameArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn tenant update`.
#[derive(clap::Args)]
pub(crate) struct UpdateArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    traits: Traits,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn tenant suspend`.
#[derive(clap::Args)]
pub(crate) struct SuspendArgs {
    /// Its name
    name: String,
    /// Why; those who are refused read it
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn tenant delete`.
#[derive(clap::Args)]
pub(crate) struct DeleteArgs {
    /// Its name
    name: String,
    /// How long it can be restored
    #[arg(long, default_value = "30d", value_parser = crate::duration::parse)]
    grace: Duration,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn tenant`.
pub(crate) async fn run(command: &TenantCommand) -> Result<()> {
    match command {
        TenantCommand::Create(args) => create(args).await,
        TenantCommand::Ls(args) => list(args).await,
        TenantCommand::Show(args) => {
            output::json(&client(&args.name, &args.connection).await?.tenant().await?)
        }
        TenantCommand::Update(args) => update(args).await,
        TenantCommand::Suspend(args) => {
            print(&[client(&args.name, &args.connection).await?.suspend_tenant(&args.reason).await?])
        }
        TenantCommand::Resume(args) => {
            print(&[client(&args.name, &args.connection).await?.resume_tenant().await?])
        }
        TenantCommand::Delete(args) => delete(args).await,
        TenantCommand::Restore(args) => {
            print(&[client(&args.name, &args.connection).await?.restore_tenant().await?])
        }
        TenantCommand::Purge(args) => {
            print(&[client(&args.name, &args.connection).await?.purge_tenant().await?])
        }
        TenantCommand::Provision(args) => provision::run(args).await,
    }
}

async fn client(name: &str, connection: &ConnectionArgs) -> Result<TenantClient> {
    Ok(connection.connect().await?.catalog()?.tenant(name))
}

async fn create(args: &CreateArgs) -> Result<()> {
    let Traits { classifications, storage_profile, .. } = &args.traits;
    let request = TenantCreate {
        name: args.name.clone(),
        region: args.region.clone(),
        classifications: classifications.clone(),
        tags: args.traits.tags()?,
        storage_profile: storage_profile.clone(),
        retention: args.traits.retention()?,
        limits: args.traits.limits()?,
    };
    let tenant = args.connection.connect().await?.catalog()?.create_tenant(&request).await?;
    print(&[tenant])
}

async fn list(args: &ListArgs) -> Result<()> {
    let catalog = args.connection.connect().await?.catalog()?;
    print(&if args.deleted { catalog.all_tenants().await? } else { catalog.tenants().await? })
}

async fn update(args: &UpdateArgs) -> Result<()> {
    let traits = &args.traits;
    let request = TenantUpdate {
        classifications: (!traits.classifications.is_empty()).then(|| traits.classifications.clone()),
        tags: Some(traits.tags()?).filter(|tags| !tags.is_empty()),
        storage_profile: traits.storage_profile.clone(),
        retention: if traits.retention.is_empty() { None } else { Some(traits.retention()?) },
        limits: if traits.limits.is_empty() { None } else { Some(traits.limits()?) },
    };
    if request == TenantUpdate::default() {
        return Err(usage(
            "say what to change: --classification, --tag, --storage-profile, --retain, --limit",
        ));
    }
    output::json(&client(&args.name, &args.connection).await?.update(&request).await?)
}

async fn delete(args: &DeleteArgs) -> Result<()> {
    let client = client(&args.name, &args.connection).await?;
    client.delete_tenant(Some(args.grace.as_secs())).await?;
    let tenant = client.tenant().await?;
    let until = tenant.purge_after.as_deref().unwrap_or("its purge");
    output::line(&format!(
        "deleted {}: 'firn tenant restore {}' takes it back until {until}",
        args.name, args.name
    ))
}

impl Traits {
    fn tags(&self) -> Result<BTreeMap<String, String>> {
        self.tags
            .iter()
            .map(|text| pair(text))
            .map(|pair| pair.map(|(key, value)| (key.into(), value.into())))
            .collect()
    }

    fn retention(&self) -> Result<LayerRetention> {
        let mut retention = LayerRetention::default();
        for text in &self.retention {
            let (layer, days) = pair(text)?;
            let days = Some(number(text, days)?);
            if layer.contains('.') {
                retention.classes.extend(days.map(|days| (layer.to_owned(), days)));
                continue;
            }
            match layer {
                "bronze" => retention.bronze_days = days,
                "silver" => retention.silver_days = days,
                "gold" => retention.gold_days = days,
                _ => return Err(usage(format!("'{layer}' is no layer: bronze, silver or gold"))),
            }
        }
        Ok(retention)
    }

    fn limits(&self) -> Result<Limits> {
        let mut limits = Limits::default();
        for text in &self.limits {
            let (name, value) = pair(text)?;
            match name {
                "requests-per-s" => limits.requests_per_s = Some(number(text, value)?),
                "body-bytes" => limits.body_bytes = Some(number(text, value)?),
                "concurrent-commits" => limits.concurrent_commits = Some(number(text, value)?),
                "tables" => limits.tables = Some(number(text, value)?),
                "references" => limits.references = Some(number(text, value)?),
                _ => {
                    return Err(usage(format!(
                        "'{name}' is no limit: requests-per-s, body-bytes, concurrent-commits, tables or references"
                    )));
                }
            }
        }
        Ok(limits)
    }
}

fn pair(text: &str) -> Result<(&str, &str)> {
    text.split_once('=').ok_or_else(|| usage(format!("'{text}' is not of the form NAME=VALUE")))
}

fn number<T: std::str::FromStr>(text: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| usage(format!("'{text}': '{value}' is no number")))
}

fn print(tenants: &[Tenant]) -> Result<()> {
    let row = |tenant: &Tenant| {
        let classes = tenant.classifications.join(",");
        let fields = [&tenant.name, &tenant.state, &tenant.region, &classes, &tenant.location];
        fields.into_iter().cloned().collect()
    };
    let headings = ["name", "state", "region", "classifications", "location"];
    output::rows(&headings, tenants.iter().map(row).collect(), "no tenants")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn traits_are_read_and_wrong_ones_are_named() {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let traits = |retention: &[&str], limits: &[&str]| Traits {
            classifications: Vec::new(),
            tags: texts(&["team=a=b"]),
            storage_profile: None,
            retention: texts(retention),
            limits: texts(limits),
        };
        let good = traits(&["bronze=90"], &["tables=5", "body-bytes=1000"]);
        assert_eq!(good.tags().unwrap()["team"], "a=b");
        assert_eq!(good.retention().unwrap().bronze_days, Some(90));
        let by_class = traits(&["silver.personal=30"], &[]).retention().unwrap();
        assert_eq!(by_class.classes["silver.personal"], 30);
        assert_eq!((good.limits().unwrap().tables, good.limits().unwrap().body_bytes), (Some(5), Some(1000)));
        for wrong in [traits(&["copper=1"], &[]), traits(&["gold"], &[]), traits(&["gold=x"], &[])] {
            assert!(wrong.retention().unwrap_err().is::<crate::failure::UsageError>());
        }
        assert!(traits(&[], &["speed=1"]).limits().unwrap_err().to_string().contains("'speed' is no limit"));
    }
}
