//! `firn findings`.

use anyhow::Result;
use firn_alerts::{Finding, FindingsPage};
use serde_json::{Value, json};

use crate::{
    connection::{Connection, ConnectionArgs},
    output,
};

/// Subcommands of `firn findings`.
#[derive(clap::Subcommand)]
pub(crate) enum FindingsCommand {
    /// List findings, the latest change first
    Ls(ListArgs),
    /// Acknowledge a finding: someone has taken it on
    Ack(AckArgs),
}

/// Arguments of `firn findings ls`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// pending, open, acknowledged, snoozed or resolved; several with commas
    #[arg(long, default_value = "open")]
    status: String,
    /// Only findings of this rule
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Only findings of this host
    #[arg(long, value_name = "ID")]
    host: Option<String>,
    /// At most this many, up to 1000
    #[arg(short = 'n', long, default_value_t = 100)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn findings ack`.
#[derive(clap::Args)]
pub(crate) struct AckArgs {
    /// Its id, from 'firn findings ls'
    id: String,
    /// Why, or who takes it on
    #[arg(short, long, default_value = "")]
    note: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn findings`.
pub(crate) async fn run(command: &FindingsCommand) -> Result<()> {
    match command {
        FindingsCommand::Ls(args) => list(args).await,
        FindingsCommand::Ack(args) => acknowledge(args).await,
    }
}

async fn list(args: &ListArgs) -> Result<()> {
    let connection = args.connection.connect().await?;
    let limit = args.limit.to_string();
    let mut query = vec![("status", args.status.as_str()), ("limit", &limit)];
    query.extend(args.rule.as_deref().map(|rule| ("rule", rule)));
    query.extend(args.host.as_deref().map(|host| ("host", host)));
    let page: FindingsPage = connection.get(&path(&connection.tenant, &query)).await?;
    if args.json {
        return output::json(&page.findings);
    }
    let row = |finding: &Finding| {
        let severity = finding.severity.as_str().to_owned();
        let status = finding.status.as_str().to_owned();
        let (id, rule, title) = (finding.id.clone(), finding.rule_id.clone(), finding.title.clone());
        vec![id, severity, host(finding).to_owned(), rule, status, title]
    };
    let headings = ["id", "severity", "host", "rule", "status", "title"];
    let nothing = format!("no {} findings", args.status);
    output::rows(&headings, page.findings.iter().map(row).collect(), &nothing)?;
    if page.total > page.findings.len() {
        output::complain(&format!("{} of {}; -n shows more", page.findings.len(), page.total));
    }
    Ok(())
}

async fn acknowledge(args: &AckArgs) -> Result<()> {
    let connection = args.connection.connect().await?;
    let path = format!("/v1/tenants/{}/findings/{}/acknowledge", connection.tenant, encode(&args.id));
    connection.post::<Value>(&path, &json!({"note": args.note})).await?;
    output::line(&format!("acknowledged {}", args.id))
}

/// How many findings are open.
pub(crate) async fn open_count(connection: &Connection) -> Result<usize> {
    let path = path(&connection.tenant, &[("status", "open"), ("limit", "1")]);
    Ok(connection.get::<FindingsPage>(&path).await?.total)
}

/// Path and query of a tenant's findings.
pub(crate) fn path(tenant: &str, query: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("/v1/tenants/{tenant}/findings?{query}")
}

/// What people call the host.
pub(crate) fn host(finding: &Finding) -> &str {
    finding.hostname.as_deref().unwrap_or(&finding.host_id)
}

/// For one part of a path.
pub(crate) fn encode(text: &str) -> String {
    // A plus sign is a space in queries only.
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_is_encoded() {
        let path = path("acme", &[("rule", "a&b"), ("limit", "1")]);
        assert_eq!(path, "/v1/tenants/acme/findings?rule=a%26b&limit=1");
        assert_eq!(encode("a b+c/d"), "a%20b%2Bc%2Fd");
    }
}
