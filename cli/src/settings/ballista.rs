//! `[maintenance.ballista]`: the cluster where rewrites are sorted that are too large for one machine.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use firn_table::SortCluster;
use serde::Deserialize;

use crate::{duration, failure::usage};

/// `[maintenance.ballista]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    not(feature = "ballista"),
    expect(dead_code, reason = "read, so that a wrong key is told in any build")
)]
pub(crate) struct BallistaSection {
    /// Where the scheduler listens.
    pub(crate) scheduler_url: String,
    /// Files that have fewer bytes together are sorted here.
    #[serde(default = "min_bytes")]
    min_bytes: u64,
    /// Whether executors get the keys by which a table's files are read.
    #[serde(default)]
    share_keys: bool,
    /// Longest time that the cluster may take for a sort.
    #[serde(default = "timeout", deserialize_with = "duration::deserialize")]
    timeout: Duration,
}

fn min_bytes() -> u64 {
    1 << 30
}

fn timeout() -> Duration {
    Duration::from_secs(3_600)
}

impl BallistaSection {
    /// The cluster; nobody talks to it before there is something to sort.
    #[cfg(feature = "ballista")]
    pub(super) fn cluster(&self) -> Result<Arc<dyn SortCluster>> {
        let Self { min_bytes, share_keys, timeout, .. } = *self;
        let scheduler_url = self.scheduler_url.clone();
        let config = firn_ballista::BallistaConfig { scheduler_url, min_bytes, share_keys, timeout };
        let cluster = firn_ballista::BallistaCluster::new(config);
        let cluster =
            cluster.map_err(|error| usage(format!("maintenance.ballista.scheduler_url: {error}")))?;
        Ok(Arc::new(cluster))
    }

    /// This firn knows no cluster.
    #[cfg(not(feature = "ballista"))]
    pub(super) fn cluster(&self) -> Result<Arc<dyn SortCluster>> {
        Err(usage(
            "maintenance.ballista: this firn was built without Ballista; build it with 'cargo build --release \
             --features ballista', or take the section out of the configuration",
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{data_dir::DataDir, settings::Settings};

    /// What a start makes of the section.
    fn cluster(text: &str) -> Result<Arc<dyn SortCluster>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("firn.toml"), format!("[maintenance.ballista]\n{text}\n")).unwrap();
        let settings = Settings::load(None, &DataDir::new(folder.path()));
        let settings = settings.map_err(|error| error.to_string())?;
        Ok(settings.maintenance.config().unwrap().cluster.unwrap())
    }

    #[test]
    fn keys_are_known_in_any_build() {
        assert!(cluster("").unwrap_err().contains("scheduler_url"));
        assert!(cluster("scheduler_url = 'http://s:50050'\nurl = 'x'").unwrap_err().contains("url"));
    }

    #[cfg(feature = "ballista")]
    #[test]
    fn large_sorts_go_to_the_scheduler_that_is_named() {
        let named = cluster("scheduler_url = 'http://s:50050'\ntimeout = '2h'").unwrap();
        assert!(named.takes(1 << 30) && !named.takes((1 << 30) - 1), "{named:?}");
        assert!(format!("{named:?}").contains("7200s"), "{named:?}");
        assert!(cluster("scheduler_url = 'http://s:50050'\nmin_bytes = 7").unwrap().takes(7));
        let error = cluster("scheduler_url = 's:50050'").unwrap_err();
        assert!(
            error.starts_with("maintenance.ballista.scheduler_url") && error.contains("HOST:PORT"),
            "{error}"
        );
    }

    #[cfg(not(feature = "ballista"))]
    #[test]
    fn a_firn_without_ballista_says_so() {
        let error = cluster("scheduler_url = 'http://s:50050'").unwrap_err();
        assert!(
            error.starts_with("maintenance.ballista") && error.contains("--features ballista"),
            "{error}"
        );
    }
}
