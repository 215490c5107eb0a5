//! The records to be sent, one after another, with what is expected of each.

use chrono::{DateTime, Utc};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    Fleet,
    malformed::{Destination, Malformation},
    verdicts::{Verdicts, verdicts},
};

/// Makes lines from a fleet.
pub(super) struct Script {
    fleet: Fleet,
    share: f64,
    /// Apart from the fleet's, so that the fleet lives the same life whatever is spoilt.
    rng: StdRng,
}

/// A record, ready to be sent.
#[derive(Debug)]
pub(super) struct Line {
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
    pub(super) fn destination(&self) -> Destination {
        self.malformed.map_or(Destination::Bronze, Malformation::destination)
    }
}

impl Script {
    pub(super) fn new(seed: u64, devices: u32, malformed_share: f64) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ 0x6d61_6c66_6f72_6d65);
        Self { fleet: Fleet::new(seed, devices), share: malformed_share, rng }
    }

    pub(super) fn next(&mut self, number: u64, at: DateTime<Utc>) -> Line {
        let record = self.fleet.next_record(at);
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
