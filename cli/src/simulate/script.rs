//! The records to be sent, one after another, with what is expected of each.

use chrono::{DateTime, Utc};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    Fleet,
    malformed::{Destination, Malformation},
    verdicts::{Verdicts, verdicts},
};

/// What comes before the number in an `event_id` that tells it.
const NUMBERED: &str = "number-";

/// The number that an `event_id` tells.
pub(crate) fn number_of(event_id: &str) -> Option<u64> {
    event_id.strip_prefix(NUMBERED)?.parse().ok()
}

/// The number that the bytes of a record tell, however malformed they are.
pub(crate) fn number_in(record: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(record);
    let (_, behind) = text.split_once("\"event_id\":\"")?;
    number_of(behind.split_once('"')?.0)
}

/// Makes lines from a fleet.
pub(crate) struct Script {
    fleet: Fleet,
    share: f64,
    /// Apart from the fleet's, so that the fleet lives the same life whatever is spoilt.
    rng: StdRng,
    /// Whether records have their number as `event_id`.
    numbered: bool,
}

/// A record, ready to be sent.
#[derive(Debug)]
pub(crate) struct Line {
    pub(super) number: u64,
    pub(super) event_id: String,
    pub(super) host_id: String,
    pub(super) at: DateTime<Utc>,
    pub(super) malformed: Option<Malformation>,
    pub(super) bytes: Vec<u8>,
    /// What the rules should say of it, if it can be read.
    pub(super) verdicts: Option<Verdicts>,
}

impl Line {
    pub(crate) fn destination(&self) -> Destination {
        self.malformed.map_or(Destination::Bronze, Malformation::destination)
    }
}

impl Script {
    pub(super) fn new(seed: u64, devices: u32, malformed_share: f64) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ 0x6d61_6c66_6f72_6d65);
        Self { fleet: Fleet::new(seed, devices), share: malformed_share, rng, numbered: false }
    }

    /// The same, but a record's `event_id` tells its number: see [`number_of`].
    pub(crate) fn numbered(seed: u64, devices: u32, malformed_share: f64) -> Self {
        Self { numbered: true, ..Self::new(seed, devices, malformed_share) }
    }

    pub(crate) fn next(&mut self, number: u64, at: DateTime<Utc>) -> Line {
        let mut record = self.fleet.next_record(at);
        if self.numbered {
            record.event_id = Some(format!("{NUMBERED}{number}"));
        }
        let malformed = self.rng.random_bool(self.share).then(|| Malformation::pick(&mut self.rng));
        let spoilt = malformed.map(|malformation| malformation.spoil(&record));
        // Serializing plain data into memory can't fail; an empty line would be refused and show in the ledger.
        let bytes = spoilt.unwrap_or_else(|| serde_json::to_vec(&record)).unwrap_or_default();
        Line {
            number,
            event_id: record.event_id.clone().unwrap_or_default(),
            host_id: record.host_id.clone(),
            at,
            verdicts: malformed.is_none().then(|| verdicts(&record, at)),
            malformed,
            bytes,
        }
    }
}
