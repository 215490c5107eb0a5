//! What was sent of one tenant's records, and what of it was found.

use std::fmt;

use serde::Serialize;

use crate::simulate::{Destination, Line, Outcome};

/// Of each record, by its number.
#[derive(Default)]
pub(super) struct Account {
    records: Vec<Record>,
    /// Rows that are of no record that was sent.
    foreign: u64,
}

#[derive(Clone, Copy)]
struct Record {
    outcome: Outcome,
    destination: Destination,
    /// Rows of bronze; more than can be counted are as wrong as two.
    bronze: u8,
    quarantine: u8,
}

/// Where a row was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Bronze,
    Quarantine,
}

/// How many were sent, and what the gateway said of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sent {
    pub(super) records: u64,
    /// Taken, durably: each is to be found once.
    pub(super) acknowledged: u64,
    /// Not taken: none is to be found.
    pub(super) rejected: u64,
    /// Nobody can tell: each is to be found once at the most.
    pub(super) unknown: u64,
}

/// How rows differ from what was sent, in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Differences {
    /// Acknowledged and not there.
    pub(super) lost: u64,
    /// There more than once.
    pub(super) doubled: u64,
    /// In quarantine though well-formed, or in bronze though malformed.
    pub(super) misplaced: u64,
    /// Rejected, and there all the same.
    pub(super) unexpected: u64,
    /// Rows of no record that was sent.
    pub(super) foreign: u64,
}

impl Account {
    /// The records that follow those before, with what became of each.
    pub(super) fn note(&mut self, lines: &[Line], outcomes: &[Outcome]) {
        let noted = lines.iter().zip(outcomes).map(|(line, outcome)| Record {
            outcome: *outcome,
            destination: line.destination(),
            bronze: 0,
            quarantine: 0,
        });
        self.records.extend(noted);
    }

    /// A row of the record with this number; none if it tells no number.
    pub(super) fn found(&mut self, place: Place, number: Option<u64>) {
        let index = number.and_then(|number| usize::try_from(number).ok());
        let Some(record) = index.and_then(|index| self.records.get_mut(index)) else {
            self.foreign += 1;
            return;
        };
        let rows = match place {
            Place::Bronze => &mut record.bronze,
            Place::Quarantine => &mut record.quarantine,
        };
        *rows = rows.saturating_add(1);
    }

    pub(super) fn sent(&self) -> Sent {
        let count = |outcome| self.records.iter().filter(|record| record.outcome == outcome).count() as u64;
        Sent {
            records: self.records.len() as u64,
            acknowledged: count(Outcome::Acknowledged),
            rejected: count(Outcome::Rejected),
            unknown: count(Outcome::Unknown),
        }
    }

    pub(super) fn differences(&self) -> Differences {
        let mut differences = Differences { foreign: self.foreign, ..Differences::default() };
        for record in &self.records {
            let rows = u32::from(record.bronze) + u32::from(record.quarantine);
            let elsewhere = match record.destination {
                Destination::Bronze => record.quarantine,
                Destination::Quarantine => record.bronze,
                Destination::Refused => 0,
            };
            differences.lost += u64::from(record.outcome == Outcome::Acknowledged && rows == 0);
            differences.doubled += u64::from(rows > 1);
            differences.misplaced += u64::from(elsewhere > 0);
            differences.unexpected += u64::from(record.outcome == Outcome::Rejected && rows > 0);
        }
        differences
    }
}

impl Sent {
    pub(super) fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.acknowledged += other.acknowledged;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
    }
}

impl Differences {
    pub(super) fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.misplaced += other.misplaced;
        self.unexpected += other.unexpected;
        self.foreign += other.foreign;
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, doubled, misplaced, unexpected, foreign } = self;
        write!(
            f,
            "{lost} records lost, {doubled} doubled, {misplaced} in the wrong table, {unexpected} there though rejected, \
             {foreign} rows of none"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(records: &[(Outcome, Destination)]) -> Account {
        let record = |&(outcome, destination)| Record { outcome, destination, bronze: 0, quarantine: 0 };
        Account { records: records.iter().map(record).collect(), foreign: 0 }
    }

    #[test]
    fn rows_that_are_as_sent_differ_in_nothing() {
        use Destination::{Bronze, Quarantine, Refused};
        use Outcome::{Acknowledged, Rejected, Unknown};
        let mut account = account(&[
            (Acknowledged, Bronze),
            (Acknowledged, Quarantine),
            (Rejected, Refused),
            (Unknown, Bronze),
            (Unknown, Bronze),
        ]);
        account.found(Place::Bronze, Some(0));
        account.found(Place::Quarantine, Some(1));
        account.found(Place::Bronze, Some(4));
        assert!(account.differences().is_empty(), "{}", account.differences());
        assert_eq!(account.sent(), Sent { records: 5, acknowledged: 2, rejected: 1, unknown: 2 });
    }

    #[test]
    fn each_difference_is_told() {
        let told = |outcome, destination, rows: &[(Place, u64)]| {
            let mut account = account(&[(outcome, destination)]);
            rows.iter().for_each(|(place, number)| account.found(*place, Some(*number)));
            account.differences()
        };
        use Destination::{Bronze, Quarantine, Refused};
        use Outcome::{Acknowledged, Rejected, Unknown};
        let none = Differences::default();
        assert_eq!(told(Acknowledged, Bronze, &[]), Differences { lost: 1, ..none });
        let twice = [(Place::Bronze, 0), (Place::Bronze, 0)];
        assert_eq!(told(Acknowledged, Bronze, &twice), Differences { doubled: 1, ..none });
        assert_eq!(told(Unknown, Bronze, &twice), Differences { doubled: 1, ..none });
        assert_eq!(told(Unknown, Quarantine, &twice[..1]), Differences { misplaced: 1, ..none });
        assert_eq!(
            told(Acknowledged, Bronze, &[(Place::Quarantine, 0)]),
            Differences { misplaced: 1, ..none }
        );
        assert_eq!(told(Rejected, Refused, &twice[..1]), Differences { unexpected: 1, ..none });
        assert_eq!(told(Rejected, Refused, &[(Place::Bronze, 7)]), Differences { foreign: 1, ..none });
    }
}
