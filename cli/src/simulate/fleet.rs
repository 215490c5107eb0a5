//! All computers, taking turns.

use chrono::{DateTime, Utc};
use firn_inventory::Inventory;
use rand::{SeedableRng, rngs::StdRng};

use super::device::Device;

/// A fleet. Deterministic by seed.
pub(crate) struct Fleet {
    rng: StdRng,
    devices: Vec<Device>,
    turn: usize,
}

impl Fleet {
    /// `devices` computers, at least one.
    pub(crate) fn new(seed: u64, devices: u32) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let devices = (0..devices.max(1)).map(|number| Device::born(number, &mut rng)).collect();
        Self { rng, devices, turn: 0 }
    }

    /// The next report, at an instant: each computer in turn, but for those that are silent now.
    pub(crate) fn next_record(&mut self, at: DateTime<Utc>) -> Inventory {
        // After one round of silence somebody speaks anyway, so that a fleet of one can't hang.
        for _ in 1..self.devices.len() {
            let device = &mut self.devices[self.turn];
            if !device.is_silent(&mut self.rng) {
                break;
            }
            self.turn = (self.turn + 1) % self.devices.len();
        }
        let report = self.devices[self.turn].report(at, &mut self.rng);
        self.turn = (self.turn + 1) % self.devices.len();
        report
    }

    #[cfg(test)]
    pub(super) fn supported(&self) -> impl Iterator<Item = bool> {
        self.devices.iter().map(Device::is_supported)
    }
}
