//! What is on the dashboards.

/// A chart.
pub(super) struct Panel {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) kind: Kind,
    pub(super) over: Over,
    /// In what Kibana's query language, OpenSearch's and Lucene's have in common.
    pub(super) query: &'static str,
    pub(super) metric: Metric,
    pub(super) buckets: &'static [Bucket],
    /// Width and height on a grid of 48 columns.
    pub(super) size: (u32, u32),
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Number,
    Pie,
    Bars,
    Lines,
    Table,
}

/// Which documents.
#[derive(Clone, Copy)]
pub(super) enum Over {
    /// The present state of all findings.
    Findings,
    /// Every transition.
    Transitions,
}

#[derive(Clone, Copy)]
pub(super) enum Metric {
    Count,
    Distinct(&'static str),
    Average(&'static str),
    Max(&'static str),
}

#[derive(Clone, Copy)]
pub(super) enum Bucket {
    /// The largest so many.
    Top(&'static str, u32),
    /// Over time.
    Time,
}

pub(super) struct Dashboard {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    pub(super) panels: &'static [Panel],
}

const LIVE: &str = "firn.status: (open OR acknowledged OR snoozed)";

pub(super) const DASHBOARDS: [Dashboard; 5] = [
    Dashboard {
        id: "firn-fleet",
        title: "Firn: fleet compliance",
        description: "What is in breach now, and how that came.",
        panels: &[
            panel(
                "fleet-open",
                "Open findings",
                Kind::Number,
                Over::Findings,
                LIVE,
                Metric::Count,
                &[],
                (12, 10),
            ),
            panel(
                "fleet-hosts",
                "Computers in breach",
                Kind::Number,
                Over::Findings,
                LIVE,
                Metric::Distinct("host.id"),
                &[],
                (12, 10),
            ),
            panel(
                "fleet-severity",
                "By severity",
                Kind::Pie,
                Over::Findings,
                LIVE,
                Metric::Count,
                &[Bucket::Top("firn.severity", 4)],
                (12, 10),
            ),
            panel(
                "fleet-status",
                "By status",
                Kind::Pie,
                Over::Findings,
                "",
                Metric::Count,
                &[Bucket::Top("firn.status", 5)],
                (12, 10),
            ),
            panel(
                "fleet-rules",
                "By rule",
                Kind::Bars,
                Over::Findings,
                LIVE,
                Metric::Count,
                &[Bucket::Top("rule.id", 20)],
                (24, 14),
            ),
            panel(
                "fleet-flow",
                "Opened and resolved",
                Kind::Bars,
                Over::Transitions,
                "firn.status: (open OR resolved)",
                Metric::Count,
                &[Bucket::Time, Bucket::Top("firn.status", 5)],
                (24, 14),
            ),
        ],
    },
    Dashboard {
        id: "firn-rule",
        title: "Firn: rule drill-down",
        description: "Filter by rule.id: which computers break it, where, and since when.",
        panels: &[
            panel(
                "rule-hosts",
                "Computers in breach",
                Kind::Table,
                Over::Findings,
                LIVE,
                Metric::Max("@timestamp"),
                &[Bucket::Top("rule.id", 15), Bucket::Top("host.hostname", 100)],
                (24, 18),
            ),
            panel(
                "rule-organizations",
                "By organisation",
                Kind::Pie,
                Over::Findings,
                LIVE,
                Metric::Count,
                &[Bucket::Top("organization.id", 20)],
                (24, 18),
            ),
            panel(
                "rule-flow",
                "Opened over time",
                Kind::Lines,
                Over::Transitions,
                "firn.status: open",
                Metric::Count,
                &[Bucket::Time, Bucket::Top("rule.id", 15)],
                (48, 12),
            ),
        ],
    },
    Dashboard {
        id: "firn-host",
        title: "Firn: host history",
        description: "Filter by host.hostname: every transition of its findings.",
        panels: &[
            panel(
                "host-transitions",
                "Transitions",
                Kind::Table,
                Over::Transitions,
                "",
                Metric::Max("@timestamp"),
                &[
                    Bucket::Top("host.hostname", 50),
                    Bucket::Top("rule.id", 15),
                    Bucket::Top("event.action", 8),
                ],
                (48, 20),
            ),
            panel(
                "host-flow",
                "Over time",
                Kind::Bars,
                Over::Transitions,
                "",
                Metric::Count,
                &[Bucket::Time, Bucket::Top("event.action", 8)],
                (48, 12),
            ),
        ],
    },
    Dashboard {
        id: "firn-organization",
        title: "Firn: organisations",
        description: "Findings, busy processors and full disks by organisation. Averages of all computers are in gold.org_metrics.",
        panels: &[
            panel(
                "organization-findings",
                "Findings by organisation and severity",
                Kind::Bars,
                Over::Findings,
                LIVE,
                Metric::Count,
                &[Bucket::Top("organization.id", 20), Bucket::Top("firn.severity", 4)],
                (48, 14),
            ),
            panel(
                "organization-cpu",
                "Computers with busy processors",
                Kind::Bars,
                Over::Transitions,
                "rule.id: cpu-load AND firn.status: open",
                Metric::Distinct("host.id"),
                &[Bucket::Top("organization.id", 20)],
                (24, 12),
            ),
            panel(
                "organization-disk",
                "Computers short of disk space",
                Kind::Bars,
                Over::Transitions,
                "rule.id: disk-space AND firn.status: open",
                Metric::Distinct("host.id"),
                &[Bucket::Top("organization.id", 20)],
                (24, 12),
            ),
        ],
    },
    Dashboard {
        id: "firn-pipeline",
        title: "Firn: pipeline health",
        description: "How much flows, and how long after the fact it is told.",
        panels: &[
            panel(
                "pipeline-rate",
                "Transitions by cause",
                Kind::Lines,
                Over::Transitions,
                "",
                Metric::Count,
                &[Bucket::Time, Bucket::Top("firn.cause", 6)],
                (24, 12),
            ),
            panel(
                "pipeline-delay",
                "Average delay from the fact to the log, ms",
                Kind::Lines,
                Over::Transitions,
                "",
                Metric::Average("firn.delay_ms"),
                &[Bucket::Time],
                (24, 12),
            ),
            panel(
                "pipeline-worst",
                "Longest delay by partition, ms",
                Kind::Table,
                Over::Transitions,
                "",
                Metric::Max("firn.delay_ms"),
                &[Bucket::Top("firn.partition", 64)],
                (24, 12),
            ),
            panel(
                "pipeline-tenants",
                "Transitions by tenant",
                Kind::Pie,
                Over::Transitions,
                "",
                Metric::Count,
                &[Bucket::Top("firn.tenant", 20)],
                (24, 12),
            ),
        ],
    },
];

#[allow(clippy::too_many_arguments, reason = "a row of a table")]
const fn panel(
    id: &'static str,
    title: &'static str,
    kind: Kind,
    over: Over,
    query: &'static str,
    metric: Metric,
    buckets: &'static [Bucket],
    size: (u32, u32),
) -> Panel {
    Panel { id, title, kind, over, query, metric, buckets, size }
}
