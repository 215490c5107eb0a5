//! SQL functions that rules have beyond DataFusion's own. Register them wherever a rule's text is shown as SQL.

mod installed;
mod version;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

/// `version_at_least(version, least)` and `installed(software, name)`.
#[must_use]
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::from(version::VersionAtLeast::default())),
        Arc::new(ScalarUDF::from(installed::Installed::default())),
    ]
}
