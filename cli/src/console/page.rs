//! From what was read to HTML.

use firn_alerts::{Finding, FindingsPage};
use firn_catalog_client::nessie::LogEntry;
use firn_runtime::StageState;

use super::{
    html::Html,
    load::{Part, Stage, View},
};
use crate::{
    duration, findings,
    references::{short, to_seconds},
    status,
    table::TableSummary,
};

/// The layers, in the order that data passes them; other namespaces follow.
const LAYERS: [&str; 3] = ["bronze", "silver", "gold"];

/// The page for visitors without a token.
pub(super) fn login(problem: Option<&str>) -> String {
    let mut html = Html::default();
    head(&mut html, false);
    html.raw("<main class=\"login\"><h1>Firn</h1>");
    if let Some(problem) = problem {
        html.raw("<p class=\"problem\" role=\"alert\">").text(problem).raw("</p>");
    }
    html.raw(
        "<form method=\"post\" action=\"/console/login\"><label for=\"token\">Access token</label>\
         <input id=\"token\" name=\"token\" type=\"password\" autocomplete=\"off\" required>\
         <button>Open the console</button></form>\
         <p>On the machine that runs Firn, <code>firn env</code> prints one as <code>FIRN_TOKEN</code>.</p></main>",
    );
    html.raw("</body></html>");
    html.finish()
}

/// The console.
pub(super) fn render(view: &View) -> String {
    let mut html = Html::default();
    head(&mut html, true);
    header(&mut html, view);
    html.raw("<main>");
    pipeline(&mut html, &view.stages);
    tables(&mut html, &view.tables);
    open_findings(&mut html, &view.findings);
    commits(&mut html, &view.commits);
    html.raw("</main></body></html>");
    html.finish()
}

fn head(html: &mut Html, refresh: bool) {
    html.raw("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Firn</title>");
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    html.raw("<meta name=\"color-scheme\" content=\"light dark\">");
    if refresh {
        html.raw("<meta http-equiv=\"refresh\" content=\"5\">");
    }
    html.raw("<link rel=\"stylesheet\" href=\"/console/style.css\"></head><body>");
}

fn header(html: &mut Html, view: &View) {
    html.raw("<header><h1>Firn</h1><nav aria-label=\"Tenants\">");
    for tenant in &view.tenants {
        html.raw("<a href=\"/console?tenant=").text(tenant.as_str()).raw("\"");
        if Some(tenant) == view.tenant.as_ref() {
            html.raw(" aria-current=\"page\"");
        }
        html.raw(">").text(tenant.as_str()).raw("</a>");
    }
    html.raw(
        "</nav><form method=\"post\" action=\"/console/logout\"><button>Log out</button></form></header>",
    );
}

fn pipeline(html: &mut Html, stages: &[Stage]) {
    html.raw("<section><h2>Pipeline</h2><ol class=\"pipeline\">");
    for stage in stages {
        let (class, state) = match stage.status.state {
            StageState::Starting => ("starting", "starting"),
            StageState::Running => ("running", "running"),
            StageState::Suspended => ("suspended", "suspended"),
            StageState::Failing => ("failing", "failing"),
        };
        html.raw("<li class=\"").text(class).raw("\"><h3>").text(&stage.name).raw("</h3>");
        html.raw("<p class=\"state\">").text(state).raw("</p><dl>");
        if let Some(lag) = stage.status.lag_records {
            entry(html, "behind", &format!("{lag} records"));
        }
        if let Some(fresh) = stage.status.fresh_until_ms {
            entry(html, "newest", &duration::ago(fresh));
        }
        for (name, total) in &stage.status.totals {
            entry(html, &status::label(name), &total.to_string());
        }
        html.raw("</dl>");
        if !stage.status.message.is_empty() {
            html.raw("<p class=\"message\">").text(&stage.status.message).raw("</p>");
        }
        html.raw("</li>");
    }
    html.raw("</ol></section>");
}

fn entry(html: &mut Html, name: &str, value: &str) {
    html.raw("<div><dt>").text(name).raw("</dt><dd>").text(value).raw("</dd></div>");
}

fn tables(html: &mut Html, part: &Part<(Vec<TableSummary>, usize)>) {
    html.raw("<section><h2>Tables</h2>");
    if let Some((tables, more)) = readable(html, part) {
        let mut layers: Vec<&str> = LAYERS.to_vec();
        for table in tables {
            if !layers.contains(&table.layer.as_str()) {
                layers.push(&table.layer);
            }
        }
        html.raw("<div class=\"layers\">");
        for layer in layers {
            html.raw("<div><h3>").text(layer).raw("</h3>");
            let of_layer: Vec<_> =
                tables.iter().filter(|table| table.layer == layer).map(table_row).collect();
            if of_layer.is_empty() {
                html.raw("<p class=\"empty\">no tables yet</p>");
            } else {
                html.table(&["table", "rows", "files", "last commit"], &of_layer);
            }
            html.raw("</div>");
        }
        html.raw("</div>");
        if *more > 0 {
            html.raw("<p class=\"empty\">and ").text(&more.to_string()).raw(" more</p>");
        }
    }
    html.raw("</section>");
}

fn table_row(table: &TableSummary) -> Vec<String> {
    let number = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let changed = table.changed_ms.map_or_else(|| "never".to_owned(), duration::ago);
    vec![table.name.clone(), number(table.rows), number(table.files), changed]
}

fn open_findings(html: &mut Html, part: &Part<FindingsPage>) {
    html.raw("<section><h2>Open findings</h2>");
    if let Some(page) = readable(html, part) {
        if page.findings.is_empty() {
            html.raw("<p class=\"empty\">none</p>");
        } else {
            let row = |finding: &Finding| {
                let severity = finding.severity.as_str().to_owned();
                let (rule, title) = (finding.rule_id.clone(), finding.title.clone());
                vec![severity, findings::host(finding).to_owned(), rule, title, to_seconds(&finding.since)]
            };
            let rows: Vec<_> = page.findings.iter().map(row).collect();
            html.table(&["severity", "host", "rule", "what should be", "since"], &rows);
            let more = page.total.saturating_sub(page.findings.len());
            if more > 0 {
                html.raw("<p class=\"empty\">and ").text(&more.to_string()).raw(" more</p>");
            }
        }
    }
    html.raw("</section>");
}

fn commits(html: &mut Html, part: &Part<Vec<LogEntry>>) {
    html.raw("<section><h2>Last commits of main</h2>");
    if let Some(entries) = readable(html, part) {
        let row = |entry: &LogEntry| {
            let meta = &entry.commit_meta;
            let author = meta.authors.first().or(meta.committer.as_ref()).cloned().unwrap_or_default();
            let message = meta.message.lines().next().unwrap_or_default().to_owned();
            let time = to_seconds(meta.commit_time.as_deref().unwrap_or_default());
            vec![short(meta.hash.as_deref().unwrap_or_default()).to_owned(), time, author, message]
        };
        let rows: Vec<_> = entries.iter().map(row).collect();
        html.table(&["commit", "time", "author", "message"], &rows);
    }
    html.raw("</section>");
}

/// What was read; a part that could not be is explained in its place.
fn readable<'a, T>(html: &mut Html, part: &'a Part<T>) -> Option<&'a T> {
    match part {
        Ok(value) => Some(value),
        Err(reason) => {
            html.raw("<p class=\"problem\" role=\"alert\">").text(reason).raw("</p>");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use firn_runtime::StageStatus;
    use serde_json::json;

    use super::*;

    fn view() -> View {
        let status = StageStatus {
            state: StageState::Failing,
            message: "<script>alert(1)</script>".into(),
            lag_records: Some(4),
            ..Default::default()
        };
        let table =
            TableSummary { name: "lab.<b>".into(), layer: "lab".into(), rows: Some(3), ..Default::default() };
        let finding = json!({"id": "f", "host_id": "h1", "rule_id": "r", "title": "<i>", "severity": "high",
            "status": "open", "since": "2026-11-22T10:00:00Z", "version": 1, "evidence": {}});
        View {
            tenants: vec!["acme".parse().unwrap(), "zeta".parse().unwrap()],
            tenant: Some("acme".parse().unwrap()),
            stages: vec![Stage { name: "ingest".into(), status }],
            tables: Ok((vec![table], 2)),
            commits: Err("the <catalog> is away".into()),
            findings: Ok(serde_json::from_value(json!({"total": 1, "findings": [finding]})).unwrap()),
        }
    }

    #[test]
    fn nothing_shown_becomes_markup() {
        let page = render(&view());
        for markup in ["<script", "<b>", "<i>", "<catalog>"] {
            assert!(!page.contains(markup), "{markup}");
        }
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    }

    #[test]
    fn parts_that_fail_do_not_spoil_others() {
        let page = render(&view());
        assert!(page.contains("the &lt;catalog&gt; is away") && page.contains("<td>h1</td>"));
        assert!(page.contains("<li class=\"failing\">") && page.contains("4 records"));
        assert!(
            page.contains("<h3>bronze</h3>") && page.contains("<h3>lab</h3>") && page.contains("and 2 more")
        );
    }

    #[test]
    fn login_explains_what_is_wrong_and_refreshes_nothing() {
        let page = login(Some("the token has expired"));
        assert!(page.contains("the token has expired") && !page.contains("http-equiv"));
    }
}
