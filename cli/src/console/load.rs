//! What the page shows, read with the visitor's token. A part that can't be read says so and spoils no other.

use std::{sync::Arc, time::Duration};

use firn_alerts::FindingsPage;
use firn_auth::TenantName;
use firn_catalog_client::{CatalogClient, StaticToken, nessie::LogEntry};
use firn_runtime::{StageState, StageStatus, tls};

use super::{Console, session::Session};
use crate::{
    findings,
    table::{self, TableSummary},
};

const TIMEOUT: Duration = Duration::from_secs(10);
const TABLES: usize = 60;
const COMMITS: usize = 12;
const FINDINGS: &str = "25";
/// The stages, in the order that data passes them.
const STAGES: [&str; 9] = [
    "catalog",
    "gateway",
    "relay",
    "ingest",
    "promotion",
    "maintenance",
    "alerts",
    "transitions",
    "elasticsearch",
];

/// All the page shows.
#[derive(Debug)]
pub(super) struct View {
    pub(super) tenants: Vec<TenantName>,
    pub(super) tenant: Option<TenantName>,
    pub(super) stages: Vec<Stage>,
    pub(super) tables: Part<(Vec<TableSummary>, usize)>,
    pub(super) commits: Part<Vec<LogEntry>>,
    pub(super) findings: Part<FindingsPage>,
}

/// Something that was read, or why not.
pub(super) type Part<T> = Result<T, String>;

/// One stage, for the chosen tenant.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) status: StageStatus,
}

/// The tenants that the visitor reaches, by name.
pub(super) async fn tenants(own_url: &str, session: &Session) -> Vec<TenantName> {
    let Ok(client) = client(own_url, session) else { return Vec::new() };
    let Ok(Ok(tenants)) = tokio::time::timeout(TIMEOUT, client.tenants()).await else { return Vec::new() };
    tenants.into_iter().filter_map(|tenant| tenant.name.parse().ok()).collect()
}

/// Reads everything at once.
pub(super) async fn view(
    console: &Console,
    session: &Session,
    tenant: Option<TenantName>,
    tenants: Vec<TenantName>,
) -> View {
    let Some(tenant) = tenant else {
        let none = || "Your token reaches no tenant.".to_owned();
        let stages = stages(console, "*");
        return View {
            stages,
            tables: Err(none()),
            commits: Err(none()),
            findings: Err(none()),
            tenants,
            tenant: None,
        };
    };
    let lake = async {
        let client = client(&console.own_url, session)?.tenant(tenant.as_str());
        let tables = within(async { table::summaries(&client, "main", TABLES).await.map_err(chain) });
        let log =
            within(async { client.log("main", COMMITS, false).await.map_err(|error| error.to_string()) });
        Ok::<_, String>(tokio::join!(tables, log))
    };
    let (lake, findings) = tokio::join!(lake, within(open_findings(console, session, &tenant)));
    let (tables, commits) = lake.unwrap_or_else(|reason| (Err(reason.clone()), Err(reason)));
    View {
        stages: stages(console, tenant.as_str()),
        tenant: Some(tenant),
        tenants,
        tables,
        commits,
        findings,
    }
}

fn client(own_url: &str, session: &Session) -> Result<CatalogClient, String> {
    let token = Arc::new(StaticToken(session.token.clone()));
    CatalogClient::new(own_url, token).map_err(|error| error.to_string())
}

async fn within<T>(part: impl Future<Output = Part<T>>) -> Part<T> {
    let answer = tokio::time::timeout(TIMEOUT, part).await;
    answer.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))
}

async fn open_findings(console: &Console, session: &Session, tenant: &TenantName) -> Part<FindingsPage> {
    let query = [("status", "open"), ("limit", FINDINGS)];
    let url = format!("{}{}", console.own_url, findings::path(tenant.as_str(), &query));
    let http = tls::inside().build().map_err(|error| error.to_string())?;
    let answer = http.get(url).bearer_auth(&session.token).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())?;
    answer.json().await.map_err(|error| error.to_string())
}

/// The tenant's line of each stage, with the stage's own where it is in trouble or the tenant has none.
fn stages(console: &Console, tenant: &str) -> Vec<Stage> {
    let all = console.board.all();
    let line = |stage: &str, tenant: &str| all.get(&(stage.to_owned(), tenant.to_owned())).cloned();
    let shown = |name: &&str| {
        let (whole, own) = (line(name, "*"), line(name, tenant));
        let status = match (whole, own) {
            (Some(whole), Some(own)) => merged(whole, own),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return None,
        };
        Some(Stage { name: (*name).to_owned(), status })
    };
    STAGES.iter().filter_map(shown).collect()
}

fn merged(whole: StageStatus, own: StageStatus) -> StageStatus {
    if whole.state == StageState::Failing {
        StageStatus { state: whole.state, message: whole.message, ..own }
    } else {
        own
    }
}

fn chain(error: anyhow::Error) -> String {
    format!("{error:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_stage_shows_through_a_tenant_s_line() {
        let whole =
            StageStatus { state: StageState::Failing, message: "no disk".into(), ..Default::default() };
        let own = StageStatus { state: StageState::Running, lag_records: Some(3), ..Default::default() };
        let shown = merged(whole, own);
        assert_eq!(
            (shown.state, shown.message.as_str(), shown.lag_records),
            (StageState::Failing, "no disk", Some(3))
        );
    }
}
