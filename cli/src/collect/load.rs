//! How busy and how full it is.

use firn_inventory::Inventory;
use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, System};

pub(super) async fn collect(inventory: &mut Inventory) {
    let mut system = System::new();
    system.refresh_memory();
    system.refresh_cpu_usage();
    // Use is a difference: it needs two readings some time apart.
    tokio::time::sleep(MINIMUM_CPU_UPDATE_INTERVAL).await;
    system.refresh_cpu_usage();
    let count = i32::try_from(system.cpus().len()).ok().filter(|count| *count > 0);
    inventory.cpu_count = count;
    inventory.cpu_usage = count.map(|_| hundredths(system.global_cpu_usage()));
    inventory.memory_total_bytes = i64::try_from(system.total_memory()).ok().filter(|total| *total > 0);
    inventory.memory_used_bytes = i64::try_from(system.used_memory()).ok();
    if let Ok(volume) = rustix::fs::statvfs("/") {
        let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(volume.f_frsize)).ok();
        inventory.disk_total_bytes = bytes(volume.f_blocks);
        inventory.disk_free_bytes = bytes(volume.f_bavail);
    }
}

/// Percent as hundredths of a percent.
fn hundredths(percent: f32) -> i32 {
    #[allow(clippy::cast_possible_truncation, reason = "clamped to 0..=10,000 before")]
    let hundredths = (percent * 100.0).round().clamp(0.0, 10_000.0) as i32;
    hundredths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_in_hundredths_of_a_percent_and_bounded() {
        assert_eq!([hundredths(12.345), hundredths(250.0), hundredths(-1.0)], [1235, 10_000, 0]);
    }
}
