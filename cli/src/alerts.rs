//! `firn alerts`.

mod rebuild;
mod repartition;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use firn_runtime::tls::{self, TlsConfig};
use firn_table::{FileIo, ReferenceSpec, StorageConfig, lake_session};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::{connection::ConnectionArgs, findings::encode, output, service::ServeArgs, tls::TlsArgs};

/// Subcommands of `firn alerts`.
#[derive(clap::Subcommand)]
pub(crate) enum AlertsCommand {
    /// Judge inventories by the rules and deliver findings, in a process of its own
    Serve(ServeArgs),
    /// Make a finding somebody's, or nobody's
    Assign(AssignArgs),
    /// Keep a finding quiet for a time
    Snooze(SnoozeArgs),
    /// Say something about a finding
    Comment(CommentArgs),
    /// Fill Elasticsearch or OpenSearch anew from gold.transitions
    Reindex(ReindexArgs),
    /// Make states anew that were lost, or that say something else than the ledger of transitions
    Rebuild(rebuild::RebuildArgs),
    /// After partitions were added to the topic inventory: take each computer's state to where its records come to now
    Repartition(repartition::RepartitionArgs),
    /// Dashboards over the findings in Elasticsearch or OpenSearch
    #[command(subcommand)]
    Dashboards(DashboardsCommand),
}

/// Arguments of `firn alerts reindex`.
#[derive(clap::Args)]
pub(crate) struct ReindexArgs {
    /// Elasticsearch or OpenSearch; user and password may stand in the URL, or the user 'api-key' and an encoded key
    #[arg(long, value_name = "URL", env = "FIRN_ELASTICSEARCH", hide_env_values = true)]
    elasticsearch: url::Url,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Subcommands of `firn alerts dashboards`.
#[derive(clap::Subcommand)]
pub(crate) enum DashboardsCommand {
    /// Print them as saved objects (NDJSON), to be imported by hand
    Export,
    /// Import them into Kibana or OpenSearch Dashboards; an older version is replaced
    Install(Box<InstallArgs>),
}

/// Arguments of `firn alerts dashboards install`.
#[derive(clap::Args)]
pub(crate) struct InstallArgs {
    /// URL of Kibana or OpenSearch Dashboards; user and password may stand in it
    #[arg(long, value_name = "URL", env = "FIRN_KIBANA")]
    kibana: url::Url,
    /// Kibana's space
    #[arg(long, value_name = "ID")]
    space: Option<String>,
    /// Kibana's API key, instead of user and password
    #[arg(long, value_name = "KEY", env = "FIRN_KIBANA_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    #[command(flatten)]
    tls: TlsArgs,
}

/// Arguments of `firn alerts assign`.
#[derive(clap::Args)]
#[group(id = "whose", required = true)]
pub(crate) struct AssignArgs {
    /// The finding's id, from 'firn findings ls'
    id: String,
    /// Whose it is
    #[arg(long, value_name = "NAME", group = "whose")]
    to: Option<String>,
    /// Nobody's
    #[arg(long, group = "whose")]
    nobody: bool,
    /// Why
    #[arg(short, long, default_value = "")]
    note: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn alerts snooze`.
#[derive(clap::Args)]
pub(crate) struct SnoozeArgs {
    /// The finding's id, from 'firn findings ls'
    id: String,
    /// How long, such as 8h or 7d
    #[arg(long = "for", value_name = "TIME", value_parser = crate::duration::parse)]
    duration: Duration,
    /// Why
    #[arg(short, long, default_value = "")]
    note: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn alerts comment`.
#[derive(clap::Args)]
pub(crate) struct CommentArgs {
    /// The finding's id, from 'firn findings ls'
    id: String,
    /// What to say
    note: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn alerts`.
pub(crate) async fn run(command: &AlertsCommand) -> Result<()> {
    match command {
        // No client: it runs on threads of its own.
        AlertsCommand::Serve(_) => Ok(()),
        AlertsCommand::Assign(args) => {
            let body = json!({ "to": args.to, "note": args.note });
            send(&args.connection, &args.id, "assign", &body).await?;
            let whose = args.to.as_deref().unwrap_or("nobody");
            output::line(&format!("assigned {} to {whose}", args.id))
        }
        AlertsCommand::Snooze(args) => {
            let seconds = args.duration.as_secs().max(1);
            send(&args.connection, &args.id, "snooze", &json!({ "for_s": seconds, "note": args.note }))
                .await?;
            output::line(&format!("snoozed {} for {}", args.id, crate::duration::in_words(seconds)))
        }
        AlertsCommand::Comment(args) => {
            send(&args.connection, &args.id, "comment", &json!({ "note": args.note })).await?;
            output::line(&format!("commented on {}", args.id))
        }
        AlertsCommand::Reindex(args) => reindex(args).await,
        AlertsCommand::Rebuild(args) => rebuild::run(args).await,
        AlertsCommand::Repartition(args) => repartition::run(args).await,
        AlertsCommand::Dashboards(DashboardsCommand::Export) => {
            output::line(firn_alerts::dashboards().trim_end())
        }
        AlertsCommand::Dashboards(DashboardsCommand::Install(args)) => install(args).await,
    }
}

/// Rows sent in one request.
const REINDEX_ROWS: usize = 1_000;
const REINDEX_MEMORY_BYTES: usize = 256 << 20;

/// Versions decide which state stays, so that the order of rows does not matter.
async fn reindex(args: &ReindexArgs) -> Result<()> {
    let client = args.connection.connect().await?.lake_client()?;
    let (namespace, name) = firn_inventory::tables::GOLD_TRANSITIONS;
    let main = ReferenceSpec { reference: "main".to_owned() };
    let file_io = FileIo::new(StorageConfig::default());
    let session = lake_session(&client, &file_io, &main, REINDEX_MEMORY_BYTES).await?;
    let rows = session.table(format!("{namespace}.{name}")).await;
    let mut rows = rows.context("no transition was kept yet")?.execute_stream().await?;
    let server = firn_alerts::Reindex::begin(&args.elasticsearch).await?;
    if !server.left_out().is_empty() {
        output::complain(&format!("of the server: {}", server.left_out()));
    }
    let (mut sent, mut refused) = (0, 0);
    while let Some(batch) = rows.next().await {
        let transitions = firn_policy::transitions_from_batch(&batch?, client.name())?;
        for part in transitions.chunks(REINDEX_ROWS) {
            let (never, why) = server.send(part).await?;
            if let Some(why) = why {
                output::complain(&format!("{never} transitions can't be taken, such as: {why}"));
            }
            (sent, refused) = (sent + part.len(), refused + never);
        }
    }
    output::line(&format!("sent {sent} transitions of {}, {refused} refused", client.name()))
}

/// Ends each part of the upload; it must not stand in what is uploaded, which is JSON and holds no such line.
const BOUNDARY: &str = "firn-saved-objects-7f3b9c";
const IMPORT_TIMEOUT: Duration = Duration::from_secs(60);

async fn install(args: &InstallArgs) -> Result<()> {
    let objects = firn_alerts::dashboards();
    let url = import_url(&args.kibana, args.space.as_deref())?;
    let body = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"firn.ndjson\"\r\nContent-Type: \
         application/ndjson\r\n\r\n{objects}\r\n--{BOUNDARY}--\r\n"
    );
    args.tls.install(&TlsConfig::default())?;
    let http = tls::outside().timeout(IMPORT_TIMEOUT).build()?;
    // Each of the two wants a header of its own against forged requests, and ignores the other's.
    let mut request = http
        .post(url)
        .header("kbn-xsrf", "firn")
        .header("osd-xsrf", "firn")
        .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(body);
    if let Some(key) = &args.api_key {
        request = request.header("authorization", format!("ApiKey {key}"));
    } else if !args.kibana.username().is_empty() {
        request = request.basic_auth(args.kibana.username(), args.kibana.password());
    }
    let mut shown = args.kibana.clone();
    let _ = (shown.set_username(""), shown.set_password(None));
    let answer = request.send().await.with_context(|| format!("{shown} doesn't answer"))?;
    let status = answer.status();
    let text = answer.text().await.with_context(|| format!("{shown}: the answer broke off"))?;
    let imported: Value = serde_json::from_str(&text).unwrap_or_default();
    if !status.is_success() || imported["success"] != true {
        let text: String = text.chars().take(500).collect();
        bail!("{shown} did not import the dashboards (HTTP {}): {text}", status.as_u16());
    }
    let count = imported["successCount"].as_u64().unwrap_or_else(|| objects.lines().count() as u64);
    output::line(&format!("imported {count} objects into {shown}"))
}

fn import_url(kibana: &url::Url, space: Option<&str>) -> Result<url::Url> {
    let mut url = kibana.clone();
    let _ = (url.set_username(""), url.set_password(None));
    url.path_segments_mut()
        .map_err(|()| crate::failure::usage("--kibana is no http URL"))?
        .pop_if_empty()
        .extend(space.into_iter().flat_map(|space| ["s", space]))
        .extend(["api", "saved_objects", "_import"]);
    url.set_query(Some("overwrite=true"));
    Ok(url)
}

async fn send(connection: &ConnectionArgs, id: &str, verb: &str, body: &Value) -> Result<()> {
    let connection = connection.connect().await?;
    let path = format!("/v1/tenants/{}/findings/{}/{verb}", connection.tenant, encode(id));
    connection.post::<Value>(&path, body).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn import_goes_into_the_space_below_the_base_path() {
        let url = |base: &str, space| import_url(&base.parse().unwrap(), space).unwrap().to_string();
        assert_eq!(url("http://u:p@k:5601", None), "http://k:5601/api/saved_objects/_import?overwrite=true");
        assert_eq!(
            url("http://k/base/", Some("a b")),
            "http://k/base/s/a%20b/api/saved_objects/_import?overwrite=true"
        );
    }
}
