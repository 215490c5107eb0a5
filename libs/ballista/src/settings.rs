//! Settings that go to the cluster with a job.

use ballista_core::{
    config::BALLISTA_ADAPTIVE_PLANNER_ENABLED, extension::SessionConfigExt, serde::protobuf::KeyValuePair,
};
use datafusion::prelude::SessionConfig;
use firn_table::SortJob;

/// Settings of the session, and how to reach the job's files: the names are those that stock executors know (`s3.endpoint` and the
/// like). Where keys are not shared, executors take theirs from their own environment.
pub(crate) fn of(job: &SortJob, share_keys: bool) -> Vec<KeyValuePair> {
    // A plan that is made already is refused by a planner that adapts plans.
    let config = SessionConfig::new_with_ballista().set_bool(BALLISTA_ADAPTIVE_PLANNER_ENABLED, false);
    let entries = config.options().entries().into_iter();
    let mut settings =
        entries.map(|entry| KeyValuePair { key: entry.key, value: entry.value }).collect::<Vec<_>>();
    let mut set = |key: &str, value: Option<String>| {
        settings.extend(value.map(|value| KeyValuePair { key: format!("s3.{key}"), value: Some(value) }));
    };
    let endpoint = job.storage.endpoint.clone();
    set("allow_http", endpoint.as_ref().map(|endpoint| endpoint.starts_with("http://").to_string()));
    set("endpoint", endpoint);
    set("region", job.storage.region.clone());
    if let (true, Some((id, secret))) = (share_keys, job.storage.credentials.clone()) {
        set("access_key_id", Some(id));
        set("secret_access_key", Some(secret));
        set("session_token", job.session_token.clone());
    }
    settings
}
