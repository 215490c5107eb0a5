//! Dashboards over the indices of the sink, as saved objects (NDJSON) that Kibana and OpenSearch Dashboards import.
//!
//! Both still take the format that they had in common: index patterns, aggregation-based visualisations, dashboards. Ids
//! are fixed, so that an import replaces an older version.

mod panels;

use serde_json::{Value, json};

use crate::sink::{STATE_ALIAS, TRANSITIONS_PREFIX};
use panels::{Bucket, DASHBOARDS, Dashboard, Kind, Metric, Over, Panel};

impl Over {
    fn pattern_id(self) -> &'static str {
        match self {
            Self::Findings => "firn-findings",
            Self::Transitions => "firn-transitions",
        }
    }

    fn title(self) -> String {
        match self {
            Self::Findings => STATE_ALIAS.to_owned(),
            Self::Transitions => format!("{TRANSITIONS_PREFIX}*"),
        }
    }
}

/// All dashboards with what they need, one saved object a line.
#[must_use]
pub fn dashboards() -> String {
    let mut objects: Vec<Value> =
        [Over::Findings, Over::Transitions].into_iter().map(index_pattern).collect();
    for dashboard in &DASHBOARDS {
        objects.extend(dashboard.panels.iter().map(visualization));
        objects.push(board(dashboard));
    }
    objects.iter().map(|object| format!("{object}\n")).collect()
}

fn index_pattern(over: Over) -> Value {
    json!({
        "type": "index-pattern",
        "id": over.pattern_id(),
        "attributes": { "title": over.title(), "timeFieldName": "@timestamp" },
        "references": [],
    })
}

/// Texts within texts: the format wants parts of an object as JSON text.
fn visualization(panel: &Panel) -> Value {
    let source = json!({
        "query": { "language": "kuery", "query": panel.query },
        "filter": [],
        "indexRefName": "kibanaSavedObjectMeta.searchSourceJSON.index",
    });
    let reference = json!({
        "name": "kibanaSavedObjectMeta.searchSourceJSON.index", "type": "index-pattern", "id": panel.over.pattern_id(),
    });
    json!({
        "type": "visualization",
        "id": format!("firn-{}", panel.id),
        "attributes": {
            "title": panel.title,
            "description": "",
            "uiStateJSON": "{}",
            "version": 1,
            "visState": state(panel).to_string(),
            "kibanaSavedObjectMeta": { "searchSourceJSON": source.to_string() },
        },
        "references": [reference],
    })
}

fn state(panel: &Panel) -> Value {
    let (kind, params) = match panel.kind {
        Kind::Number => (
            "metric",
            json!({ "addTooltip": true, "metric": { "style": { "fontSize": 60 } }, "type": "metric" }),
        ),
        Kind::Pie => {
            ("pie", json!({ "type": "pie", "addLegend": true, "isDonut": true, "addTooltip": true }))
        }
        Kind::Bars => ("histogram", chart("histogram")),
        Kind::Lines => ("line", chart("line")),
        Kind::Table => ("table", json!({ "perPage": 20, "showTotal": false })),
    };
    let mut aggregations = vec![match panel.metric {
        Metric::Count => metric("count", json!({})),
        Metric::Distinct(field) => metric("cardinality", json!({ "field": field })),
        Metric::Average(field) => metric("avg", json!({ "field": field })),
        Metric::Max(field) => metric("max", json!({ "field": field })),
    }];
    for (at, bucket) in panel.buckets.iter().enumerate() {
        let schema = match (panel.kind, at) {
            (Kind::Table, _) => "bucket",
            (Kind::Bars | Kind::Lines, 1..) => "group",
            _ => "segment",
        };
        let (kind, params) = match bucket {
            Bucket::Top(field, size) => {
                ("terms", json!({ "field": field, "size": size, "order": "desc", "orderBy": "1" }))
            }
            Bucket::Time => {
                ("date_histogram", json!({ "field": "@timestamp", "interval": "auto", "min_doc_count": 1 }))
            }
        };
        let id = (at + 2).to_string();
        aggregations
            .push(json!({ "id": id, "enabled": true, "type": kind, "schema": schema, "params": params }));
    }
    json!({ "title": panel.title, "type": kind, "params": params, "aggs": aggregations })
}

fn metric(kind: &str, params: Value) -> Value {
    json!({ "id": "1", "enabled": true, "type": kind, "schema": "metric", "params": params })
}

fn chart(kind: &str) -> Value {
    json!({
        "type": kind,
        "addLegend": true,
        "addTooltip": true,
        "categoryAxes": [{ "id": "CategoryAxis-1", "type": "category", "position": "bottom", "show": true,
            "scale": { "type": "linear" }, "labels": { "show": true, "truncate": 100 }, "title": {} }],
        "valueAxes": [{ "id": "ValueAxis-1", "name": "LeftAxis-1", "type": "value", "position": "left", "show": true,
            "scale": { "type": "linear", "mode": "normal" }, "labels": { "show": true }, "title": {} }],
        "seriesParams": [{ "show": true, "type": kind, "mode": "stacked", "valueAxis": "ValueAxis-1",
            "data": { "id": "1", "label": "" } }],
    })
}

fn board(dashboard: &Dashboard) -> Value {
    let (mut panels, mut references) = (Vec::new(), Vec::new());
    let (mut x, mut y, mut row) = (0, 0, 0);
    for (at, panel) in dashboard.panels.iter().enumerate() {
        let (width, height) = panel.size;
        if x + width > 48 {
            (x, y, row) = (0, y + row, 0);
        }
        let name = format!("panel_{at}");
        panels.push(json!({
            "panelIndex": at.to_string(), "panelRefName": name, "embeddableConfig": {},
            "gridData": { "x": x, "y": y, "w": width, "h": height, "i": at.to_string() },
        }));
        references.push(json!({ "name": name, "type": "visualization", "id": format!("firn-{}", panel.id) }));
        (x, row) = (x + width, row.max(height));
    }
    let source = json!({ "query": { "language": "kuery", "query": "" }, "filter": [] });
    json!({
        "type": "dashboard",
        "id": dashboard.id,
        "attributes": {
            "title": dashboard.title,
            "description": dashboard.description,
            "hits": 0,
            "version": 1,
            "timeRestore": true,
            "timeFrom": "now-30d",
            "timeTo": "now",
            "optionsJSON": json!({ "useMargins": true, "hidePanelTitles": false }).to_string(),
            "panelsJSON": Value::Array(panels).to_string(),
            "kibanaSavedObjectMeta": { "searchSourceJSON": source.to_string() },
        },
        "references": references,
    })
}
