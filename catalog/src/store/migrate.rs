//! Migrations: the same numbers for both backends, embedded, run when a database is opened.
//!
//! They expand first and contract later, so that an upgrade needs no pause: while it is rolled out, the version before works
//! over the schema of the new one. A migration says which schemas' programs it leaves behind ([`Migration::oldest`]), and
//! the database remembers that floor. A program refuses a database only if its own schema lies below the floor.

use super::StoreError;

/// A step from one schema to the next.
pub(super) struct Migration {
    /// From 1, without gaps.
    pub(super) number: i64,
    /// Programs that know schemas from this one on still work after it; `number` itself for one that contracts.
    pub(super) oldest: i64,
    /// One script, run as a whole.
    pub(super) sql: &'static str,
}

pub(super) const SQLITE: &[Migration] = &[
    Migration { number: 1, oldest: 1, sql: include_str!("../../../migrations/sqlite/0001_catalog.sql") },
    Migration { number: 2, oldest: 1, sql: include_str!("../../../migrations/sqlite/0002_compression.sql") },
];

pub(super) const POSTGRES: &[Migration] = &[
    Migration { number: 1, oldest: 1, sql: include_str!("../../../migrations/postgres/0001_catalog.sql") },
    Migration {
        number: 2,
        oldest: 1,
        sql: include_str!("../../../migrations/postgres/0002_compression.sql"),
    },
];

/// Made outside of any migration, since they say which of them ran, and which programs those left behind.
pub(super) const CREATE_TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS catalog_migrations (number BIGINT NOT NULL PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS catalog_floors (number BIGINT NOT NULL PRIMARY KEY, oldest BIGINT NOT NULL)",
];
pub(super) const APPLIED: &str = "SELECT coalesce(max(number), 0) FROM catalog_migrations";
/// A schema without a floor has its own number for one.
pub(super) const FLOOR: &str = "SELECT coalesce(max(coalesce(f.oldest, m.number)), 0)
    FROM catalog_migrations m LEFT JOIN catalog_floors f ON f.number = m.number";
pub(super) const RECORD: &str = "INSERT INTO catalog_migrations (number) VALUES ($1)";
pub(super) const RECORD_FLOOR: &str = "INSERT INTO catalog_floors (number, oldest) VALUES ($1, $2)";

/// The newest schema that this program knows.
pub(super) fn newest() -> i64 {
    POSTGRES.last().map_or(0, |migration| migration.number)
}

/// The migrations that a database at schema `applied` lacks; refuses one that left this program behind.
pub(super) fn pending(
    all: &'static [Migration],
    applied: i64,
    floor: i64,
) -> Result<&'static [Migration], StoreError> {
    let known = all.last().map_or(0, |migration| migration.number);
    if floor > known {
        return Err(StoreError::Refused(format!(
            "the catalog's database has schema {applied}, which needs a firn that knows schema {floor}, but this version \
             of firn knows schemas up to {known}: start the newer version that wrote it, or restore a backup made before \
             the upgrade"
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
    fn a_newer_schema_is_refused_by_number_if_it_left_this_program_behind() {
        let error = pending(SQLITE, 99, 98).err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("schema 99") && text.contains("backup")));
        assert!(pending(SQLITE, 99, newest()).is_ok_and(<[Migration]>::is_empty));
    }

    #[test]
    fn no_migration_leaves_the_version_before_behind_without_an_expansion_first() {
        for pair in [SQLITE, POSTGRES].iter().flat_map(|all| all.windows(2)) {
            assert!(
                pair[1].oldest >= pair[0].oldest && pair[1].oldest <= pair[1].number,
                "{}",
                pair[1].number
            );
        }
    }
}
