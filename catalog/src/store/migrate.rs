//! Migrations: the same numbers for both backends, embedded, run when a database is opened.

use super::StoreError;

/// A step from one schema to the next.
pub(super) struct Migration {
    /// From 1, without gaps.
    pub(super) number: i64,
    /// One script, run as a whole.
    pub(super) sql: &'static str,
}

pub(super) const SQLITE: &[Migration] =
    &[Migration { number: 1, sql: include_str!("../../../migrations/sqlite/0001_catalog.sql") }];

pub(super) const POSTGRES: &[Migration] =
    &[Migration { number: 1, sql: include_str!("../../../migrations/postgres/0001_catalog.sql") }];

/// Made outside of any migration, since it says which of them ran.
pub(super) const CREATE_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS catalog_migrations (number BIGINT NOT NULL PRIMARY KEY)";
pub(super) const APPLIED: &str = "SELECT coalesce(max(number), 0) FROM catalog_migrations";
pub(super) const RECORD: &str = "INSERT INTO catalog_migrations (number) VALUES ($1)";

/// The migrations that a database at schema `applied` lacks; refuses one that is ahead of this program.
pub(super) fn pending(all: &'static [Migration], applied: i64) -> Result<&'static [Migration], StoreError> {
    let known = all.last().map_or(0, |migration| migration.number);
    if applied > known {
        return Err(StoreError::Refused(format!(
            "the catalog's database has schema {applied}, but this version of firn knows schemas up to {known}: \
             start the newer version that wrote it, or restore a backup made before the upgrade"
        )));
    }
    let start = all.iter().position(|migration| migration.number > applied).unwrap_or(all.len());
    Ok(&all[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_backends_have_the_same_numbers_without_gaps() {
        let numbers = |all: &[Migration]| all.iter().map(|migration| migration.number).collect::<Vec<_>>();
        assert_eq!(numbers(SQLITE), numbers(POSTGRES));
        assert_eq!(numbers(SQLITE), (1..=SQLITE.len() as i64).collect::<Vec<_>>());
    }

    #[test]
    fn a_newer_schema_is_refused_by_number() {
        let error = pending(SQLITE, 99).err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("schema 99") && text.contains("backup")));
    }
}
