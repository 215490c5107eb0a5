//! What work takes: time of the processor, time on the clock, memory.

use std::{fs, ops::Add, time::Instant};

use anyhow::Result;
use firn_runtime::Usage;

/// What the clock of processor time tells apart.
const TICK_S: f64 = 0.01;

/// What something took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) cpu_s: f64,
    pub(crate) wall_s: f64,
    /// Largest resident memory of the process meanwhile.
    pub(crate) peak_mb: f64,
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu_s: self.cpu_s + other.cpu_s,
            wall_s: self.wall_s + other.wall_s,
            peak_mb: self.peak_mb.max(other.peak_mb),
        }
    }
}

/// What work takes, of all threads of this process.
pub(crate) async fn measured(work: impl Future<Output = Result<()>>) -> Result<Cost> {
    // From now on the peak is counted anew; not every kernel allows it.
    _ = fs::write("/proc/self/clear_refs", "5");
    let (before, started) = (Usage::of_this_process()?, Instant::now());
    work.await?;
    let (wall_s, after) = (started.elapsed().as_secs_f64(), Usage::of_this_process()?);
    let cpu_s = (after.cpu - before.cpu).as_secs_f64();
    Ok(Cost { cpu_s, wall_s, peak_mb: after.peak_resident_bytes as f64 / (1 << 20) as f64 })
}

/// One line of the table, with the limit's share if there is a limit.
pub(crate) fn print(what: &str, rows: u64, cost: Cost, limit: Option<Cost>) {
    let share = limit.map(|limit| format!("{:.2}", limit.cpu_s / cost.cpu_s)).unwrap_or_default();
    let rate = rows as f64 / cost.cpu_s.max(TICK_S);
    let Cost { cpu_s, wall_s, peak_mb } = cost;
    println!("{what:<36} {cpu_s:>9.2} {wall_s:>9.2} {rate:>12.0} {share:>6} {peak_mb:>8.0}");
}
