//! Which tenants exist, and since when.

use std::collections::HashMap;

use chrono::Utc;
use firn_catalog_client::ClientError;

use super::{HOUSE_TENANT, address::Taken, lake::Lake};

/// Clocks of catalog and gateways may differ by this: a record received up to this long before its tenant was created is
/// the tenant's.
const CLOCK_TOLERANCE_US: i64 = 60 * 1_000_000;

/// The catalog's tenants as they were last asked for.
#[derive(Default)]
pub(super) struct Directory {
    created_at_us: HashMap<String, i64>,
    asked_at_us: Option<i64>,
}

/// Whether a record's tenant existed when it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existence {
    Exists,
    DoesNot,
    /// The list is older than the record: ask again.
    Ask,
}

impl Directory {
    /// Asks the catalog if these records name a tenant that is not known from a list as new as they are.
    pub(super) async fn know(
        &mut self,
        lake: &dyn Lake,
        addressed: &[(Option<String>, Taken)],
    ) -> Result<(), ClientError> {
        let unknown = addressed.iter().any(|(tenant, taken)| {
            let existence = |tenant: &String| self.existence(tenant, taken.received_at_us);
            tenant.as_ref().map(existence) == Some(Existence::Ask)
        });
        if unknown { self.refresh(lake).await } else { Ok(()) }
    }

    /// Whose record it is, after `know`: the named tenant's, or the house's.
    pub(super) fn owner(&self, named: Option<String>, mut taken: Taken) -> (String, Taken) {
        match named {
            // A list that still can't decide was made after the record was read: that decides it.
            Some(tenant) if self.existence(&tenant, taken.received_at_us) == Existence::Exists => {
                (tenant, taken)
            }
            Some(tenant) => {
                taken.misaddressed(format!("there was no tenant '{tenant}' when the record was received"));
                (HOUSE_TENANT.to_owned(), taken)
            }
            None => (HOUSE_TENANT.to_owned(), taken),
        }
    }

    /// Decides from the record and from when the tenant was created, so that the answer is the same whenever it is asked.
    fn existence(&self, tenant: &str, received_at_us: i64) -> Existence {
        match self.created_at_us.get(tenant) {
            Some(created_at_us) if *created_at_us <= received_at_us.saturating_add(CLOCK_TOLERANCE_US) => {
                Existence::Exists
            }
            Some(_) => Existence::DoesNot,
            // The list was asked for after the record came, so the tenant was not there.
            None if self.asked_at_us.is_some_and(|asked_at_us| asked_at_us > received_at_us) => {
                Existence::DoesNot
            }
            None => Existence::Ask,
        }
    }

    /// Asks the catalog.
    async fn refresh(&mut self, lake: &dyn Lake) -> Result<(), ClientError> {
        // Taken before asking: what is created meanwhile may be missing in the answer.
        let asked_at_us = Utc::now().timestamp_micros();
        self.created_at_us = lake.tenants().await?;
        self.asked_at_us = Some(asked_at_us);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_does_not_depend_on_when_it_is_asked() {
        let second = 1_000_000;
        let created = HashMap::from([("acme".to_owned(), 1000 * second)]);
        for asked_at in [1001, 5000] {
            let directory =
                Directory { created_at_us: created.clone(), asked_at_us: Some(asked_at * second) };
            assert_eq!(directory.existence("acme", 2000 * second), Existence::Exists);
            assert_eq!(directory.existence("acme", 990 * second), Existence::Exists, "within the tolerance");
            assert_eq!(
                directory.existence("acme", 900 * second),
                Existence::DoesNot,
                "before it was created"
            );
        }
    }

    #[test]
    fn a_list_older_than_the_record_decides_nothing() {
        assert_eq!(Directory::default().existence("new", 5), Existence::Ask);
        let directory = Directory { created_at_us: HashMap::new(), asked_at_us: Some(10) };
        assert_eq!(directory.existence("new", 9), Existence::DoesNot);
        assert_eq!(directory.existence("new", 10), Existence::Ask);
    }
}
