//! The catalog and the tables, as far as the worker's loop knows them.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use async_trait::async_trait;
use firn_catalog_client::{ClientError, ClientErrorKind, Suspension};

use super::outside::{Fate, Outside};
use crate::worker::{
    address::Taken,
    commit::{Committed, Failure, is_new},
    lake::Lake,
    positions::Positions,
};

/// Files are written before a commit is asked for, now and then slowly.
const WRITING: Duration = Duration::from_millis(300);
const SLOWLY: Duration = Duration::from_secs(30);
/// A request that nobody waits for any more gets there within this time.
const ASTRAY: Duration = Duration::from_secs(20);

fn away(request: &str) -> ClientError {
    ClientError {
        kind: ClientErrorKind::Unavailable,
        status: Some(503),
        error_type: None,
        request: request.to_owned(),
        message: "the catalog is away".to_owned(),
    }
}

#[async_trait]
impl Lake for Outside {
    async fn tenants(&self) -> Result<HashMap<String, i64>, ClientError> {
        self.travel().await;
        if self.fails() {
            return Err(away("tenants"));
        }
        Ok(self.state().tables.keys().map(|tenant| (tenant.clone(), 0)).collect())
    }

    async fn suspensions(&self) -> Result<Vec<Suspension>, ClientError> {
        self.travel().await;
        if self.fails() {
            return Err(away("suspensions"));
        }
        let suspension = |tenant: &String| Suspension {
            tenant: tenant.clone(),
            stage: "ingest".to_owned(),
            reason: String::new(),
            by: "somebody".to_owned(),
            since: String::new(),
        };
        Ok(self.state().suspended.iter().map(suspension).collect())
    }

    async fn commit(&self, tenant: &str, records: Vec<Taken>) -> Result<Committed, Failure> {
        self.travel().await;
        let later = |why: &str| Failure::Later(why.to_owned());
        if self.fails() {
            return Err(later("the catalog is away"));
        }
        let before = self.state().tables[tenant].positions.clone();
        let records: Vec<Taken> = records.into_iter().filter(|taken| is_new(&before, taken)).collect();
        if records.is_empty() {
            return Ok(Committed { positions: before, ..Committed::default() });
        }
        self.pause(if self.below(30) == 0 { SLOWLY } else { WRITING }).await;
        if self.fails() {
            return Err(later("the object store is away"));
        }
        let fate = self.fate();
        if fate == Fate::Refused {
            return Err(later("the catalog refused"));
        }
        // It gets there whatever becomes of who sent it.
        let (outside, name) = (self.clone(), tenant.to_owned());
        let request = tokio::spawn(async move {
            if fate == Fate::Unheard && outside.below(2) == 0 {
                outside.pause(ASTRAY).await;
            }
            outside.travel().await;
            outside.land(&name, &before, &records)
        });
        if fate == Fate::Unheard {
            self.travel().await;
            return Err(later("nobody knows whether it landed"));
        }
        let landed = request.await.map_err(|error| later(&error.to_string()))?;
        self.travel().await;
        landed
    }
}

impl Outside {
    /// A commit at the catalog: it asserts the positions that it moves, as they were when its records were chosen.
    fn land(&self, tenant: &str, before: &Positions, records: &[Taken]) -> Result<Committed, Failure> {
        let mut moved = Positions::new();
        for taken in records {
            let next = moved.entry(taken.partition).or_default();
            *next = (taken.offset + 1).max(*next);
        }
        let mut state = self.state();
        let present = state.tables[tenant].positions.clone();
        if moved.keys().any(|partition| before.get(partition) != present.get(partition)) {
            state.told.raced += 1;
            return Err(Failure::Raced("the positions moved".to_owned()));
        }
        for (partition, next) in &moved {
            let from = before.get(partition).copied().unwrap_or(0);
            let own = records.iter().filter(|taken| taken.partition == *partition).map(|taken| taken.offset);
            let (own, wanted) = (own.collect::<BTreeSet<_>>(), state.places(tenant, *partition, from, *next));
            if own != wanted {
                let passed = wanted.difference(&own).collect::<Vec<_>>();
                state.wrong.push(format!(
                    "{tenant}/{partition}: positions pass records that aren't taken: {passed:?}"
                ));
            }
        }
        state.note(("landed", tenant, &moved));
        state.told.commits += 1;
        let table = state.tables.entry(tenant.to_owned()).or_default();
        table.rows.extend(records.iter().map(|taken| (taken.partition, taken.offset)));
        table.positions.extend(&moved);
        Ok(Committed {
            positions: table.positions.clone(),
            taken: records.len() as u64,
            quarantined: 0,
            newest_us: records.iter().map(|taken| taken.received_at_us).max(),
        })
    }
}
