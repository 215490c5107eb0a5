//! The models that come with Firn, from `models/*.sql` beside this crate.

use super::{Model, ModelError, ModelFiles, ModelGraph};

const FILES: [(&str, &str); 8] = [
    ("silver_inventory.sql", include_str!("../../models/silver_inventory.sql")),
    ("silver_device.sql", include_str!("../../models/silver_device.sql")),
    ("silver_device_daily.sql", include_str!("../../models/silver_device_daily.sql")),
    ("silver_software.sql", include_str!("../../models/silver_software.sql")),
    ("gold_compliance.sql", include_str!("../../models/gold_compliance.sql")),
    ("gold_compliance_daily.sql", include_str!("../../models/gold_compliance_daily.sql")),
    ("gold_device_health.sql", include_str!("../../models/gold_device_health.sql")),
    ("gold_org_metrics.sql", include_str!("../../models/gold_org_metrics.sql")),
];

/// The cases of the shipped models, by the names of their files.
const CASES: [(&str, &str); 8] = [
    ("silver_inventory.sql", include_str!("../../models/silver_inventory.test.toml")),
    ("silver_device.sql", include_str!("../../models/silver_device.test.toml")),
    ("silver_device_daily.sql", include_str!("../../models/silver_device_daily.test.toml")),
    ("silver_software.sql", include_str!("../../models/silver_software.test.toml")),
    ("gold_compliance.sql", include_str!("../../models/gold_compliance.test.toml")),
    ("gold_compliance_daily.sql", include_str!("../../models/gold_compliance_daily.test.toml")),
    ("gold_device_health.sql", include_str!("../../models/gold_device_health.test.toml")),
    ("gold_org_metrics.sql", include_str!("../../models/gold_org_metrics.test.toml")),
];

/// Files of cases for the shipped models, by the names of their models' files.
#[must_use]
pub fn shipped_cases() -> ModelFiles {
    CASES.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
}

/// The shipped models in the order they run.
pub fn models() -> Result<ModelGraph, ModelError> {
    let parsed: Result<Vec<_>, _> = FILES.iter().map(|(file, text)| Model::parse(file, text)).collect();
    ModelGraph::new(parsed?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shipped_models_parse_and_run_after_their_inputs() {
        let graph = models().unwrap();
        let names: Vec<_> = graph.models().iter().map(|model| model.table.to_string()).collect();
        expect_test::expect![[r#"
            [
                "silver.inventory",
                "gold.org_metrics",
                "silver.device",
                "gold.compliance",
                "gold.device_health",
                "silver.device_daily",
                "gold.compliance_daily",
                "silver.software",
            ]
        "#]]
        .assert_debug_eq(&names);
    }
}
