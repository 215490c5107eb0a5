//! `firn status`: how the stages are doing, in words.

use anyhow::Result;
use firn_runtime::{StageState, StageStatus};
use serde::{Deserialize, Serialize};

use crate::{
    connection::{Connection, ConnectionArgs},
    duration, findings, output,
    table::{self, TableSummary},
};

/// Tables that one status looks at.
const TABLES: usize = 200;

/// Arguments of `firn status`.
#[derive(clap::Args)]
pub(crate) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Body of `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct ServerStatus {
    /// Version of the server.
    pub(crate) version: String,
    /// Since it was started.
    pub(crate) uptime_s: u64,
    /// Whether it does its work; a text says what it waits for.
    pub(crate) waiting_for: Option<String>,
    /// By stage and tenant; tenant `*` is the stage itself.
    pub(crate) stages: Vec<StageLine>,
}

/// One stage of one tenant.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct StageLine {
    /// `catalog`, `gateway`, `ingest`, `promotion`, `maintenance`, `alerts`, `elasticsearch`.
    pub(crate) stage: String,
    /// Tenant, or `*`.
    pub(crate) tenant: String,
    /// What it says of itself.
    #[serde(flatten)]
    pub(crate) status: StageStatus,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    url: String,
    tenant: String,
    server: ServerStatus,
    open_findings: Option<usize>,
    tables: Vec<TableSummary>,
}

/// Asks the server and prints.
pub(crate) async fn run(args: &StatusArgs) -> Result<()> {
    let connection = args.connection.connect().await?;
    let server: ServerStatus = connection.get("/v1/status").await?;
    let (tables, _) = table::summaries(&connection.tenant_client()?, "main", TABLES).await?;
    let open_findings = findings::open_count(&connection).await.ok();
    if args.json {
        let (url, tenant) = (connection.url.clone(), connection.tenant.clone());
        return output::json(&Report { url, tenant, server, open_findings, tables });
    }
    print(&connection, &server, open_findings, &tables)
}

fn print(
    connection: &Connection,
    server: &ServerStatus,
    open_findings: Option<usize>,
    tables: &[TableSummary],
) -> Result<()> {
    let up = duration::in_words(server.uptime_s);
    output::line(&format!(
        "firn {} at {}, up {up}, tenant {}",
        server.version, connection.url, connection.tenant
    ))?;
    if let Some(what) = &server.waiting_for {
        output::line(&format!("not ready: waiting for {what}"))?;
    }
    let shown = server.stages.iter().filter(|line| ["*", &connection.tenant].contains(&line.tenant.as_str()));
    for line in shown {
        output::line(&format!("  {}", output::plain(&sentence(line))))?;
    }
    let findings = open_findings.map_or_else(|| "not known".to_owned(), |count| count.to_string());
    output::line(&format!("open findings: {findings}"))?;
    for table in tables {
        let rows = table.rows.map_or_else(|| "an unknown number of".to_owned(), |rows| rows.to_string());
        let files = table.files.map_or_else(String::new, |files| format!(" in {files} files"));
        let changed = table.changed_ms.map_or_else(|| "never written".to_owned(), duration::ago);
        output::line(&format!("  {}: {rows} rows{files}, {changed}", output::plain(&table.name)))?;
    }
    Ok(())
}

/// A total's name as people read it: `findings_open` in words, but a table's name as it is.
pub(crate) fn label(name: &str) -> String {
    let word = |word: &str| if word.contains('.') { word.to_owned() } else { word.replace('_', " ") };
    name.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// One stage in one line.
pub(crate) fn sentence(line: &StageLine) -> String {
    let status = &line.status;
    let state = match status.state {
        StageState::Starting => "starting",
        StageState::Running => "running",
        StageState::Suspended => "suspended",
        StageState::Failing => "FAILING",
    };
    let mut parts = vec![state.to_owned()];
    if let Some(lag) = status.lag_records {
        parts.push(format!("{lag} records behind"));
    }
    if let Some(fresh) = status.fresh_until_ms {
        parts.push(format!("fresh until {}", duration::ago(fresh)));
    }
    parts.extend(status.totals.iter().map(|(name, total)| format!("{total} {}", label(name))));
    if !status.message.is_empty() {
        parts.push(status.message.clone());
    }
    let name =
        if line.tenant == "*" { line.stage.clone() } else { format!("{} of {}", line.stage, line.tenant) };
    format!("{name}: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stage_speaks_in_words() {
        let status = StageStatus {
            state: StageState::Failing,
            message: "catalog away".into(),
            lag_records: Some(7),
            totals: [("findings_open".to_owned(), 2)].into(),
            ..Default::default()
        };
        let line = StageLine { stage: "alerts".into(), tenant: "acme".into(), status };
        assert_eq!(
            sentence(&line),
            "alerts of acme: FAILING, 7 records behind, 2 findings open, catalog away"
        );
    }

    #[test]
    fn names_of_tables_stay_whole() {
        assert_eq!(label("rows gold.org_metrics"), "rows gold.org_metrics");
        assert_eq!(label("findings_open"), "findings open");
    }

    #[test]
    fn status_travels_as_json() {
        let line = StageLine { stage: "ingest".into(), tenant: "*".into(), status: StageStatus::default() };
        let server = ServerStatus { version: "1".into(), uptime_s: 3, waiting_for: None, stages: vec![line] };
        let text = serde_json::to_string(&server).unwrap();
        let back: ServerStatus = serde_json::from_str(&text).unwrap();
        assert_eq!(back.stages[0].status.state, StageState::Starting);
        assert!(text.contains(r#""state":"starting""#), "{text}");
    }
}
