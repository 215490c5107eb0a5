//! Rewrites step back while ingest does not keep up. How far it is behind is what its commits say: how long their newest row was on
//! its way. So a compactor knows it wherever it runs, and needs neither the log nor the workers for it.

use std::time::{Duration, Instant};

use firn_catalog_client::{TenantClient, iceberg::TableIdent};
use firn_table::{Arrival, FileIo, Table};

use super::{Maintenance, MaintenancePlace, millis};
use crate::{CompactorError, MaintenanceConfig, compactor::now_ms, promotion::MAIN};

/// Commits that are older say nothing of now.
const LOOK_BACK: Duration = Duration::from_secs(120);

/// Since when rewrites of a tenant wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waiting {
    since: Option<Instant>,
}

impl Waiting {
    /// Whether they go on waiting. After the longest pause they get one turn, lest tables decay under a load that never ends.
    fn is_due(&mut self, behind: Duration, config: &MaintenanceConfig, now: Instant) -> bool {
        if behind <= config.pause_behind {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let waits = now.duration_since(since) < config.longest_pause;
        if !waits {
            self.since = Some(now);
        }
        waits
    }
}

impl Maintenance {
    /// How far ingest is behind, in words, if rewrites have to wait for it.
    pub(super) async fn pressure(
        &self,
        client: &TenantClient,
        place: &mut MaintenancePlace,
    ) -> Result<Option<String>, CompactorError> {
        let behind = behind(client, &self.file_io).await?;
        if !place.waiting.is_due(behind, &self.config.maintenance, Instant::now()) {
            return Ok(None);
        }
        let behind_s = behind.as_secs();
        Ok(Some(format!(
            "rewrites wait: bronze.inventory gets its rows {behind_s} s after they were received"
        )))
    }
}

async fn behind(client: &TenantClient, file_io: &FileIo) -> Result<Duration, CompactorError> {
    let ident = TableIdent::new("bronze", "inventory");
    let table = match Table::load(client, file_io, MAIN, &ident).await.map_err(CompactorError::from) {
        Err(error) if error.is_not_found() => return Ok(Duration::ZERO),
        loaded => loaded?,
    };
    let arrivals = table.arrivals("received_at", now_ms() - millis(LOOK_BACK)).await?;
    Ok(arrivals.iter().map(on_its_way).max().unwrap_or_default())
}

/// How long the newest row of a commit took to get there.
fn on_its_way(arrival: &Arrival) -> Duration {
    let ms = arrival.committed_ms.saturating_sub(arrival.largest / 1_000);
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites_wait_while_ingest_is_behind_but_not_for_ever() {
        let config = MaintenanceConfig::default();
        let (behind, start) = (config.pause_behind + Duration::from_millis(1), Instant::now());
        let mut waiting = Waiting::default();
        assert!(!waiting.is_due(config.pause_behind, &config, start));
        assert!(waiting.is_due(behind, &config, start));
        let later = start + config.longest_pause;
        assert!(waiting.is_due(behind, &config, later - Duration::from_secs(1)));
        assert!(!waiting.is_due(behind, &config, later), "one turn");
        assert!(waiting.is_due(behind, &config, later), "and then it waits again");
        assert!(!waiting.is_due(Duration::ZERO, &config, later));
        assert!(waiting.is_due(behind, &config, later + config.longest_pause), "from the beginning");
    }

    #[test]
    fn a_row_from_the_future_is_of_another_clock() {
        let arrival = |committed_ms, largest| on_its_way(&Arrival { committed_ms, largest });
        assert_eq!(arrival(90_000, 30_000_000), Duration::from_secs(60));
        assert_eq!(arrival(10_000, 30_000_000), Duration::ZERO);
    }
}
