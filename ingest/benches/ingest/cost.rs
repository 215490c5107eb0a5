//! What work takes, and how it is told.

use std::time::Instant;

use anyhow::Result;
use firn_runtime::Usage;

/// What the clock of processor time tells apart.
const TICK_S: f64 = 0.01;

/// Records, and what it took to take them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) records: u64,
    cpu_s: f64,
    wall_s: f64,
}

impl Cost {
    /// Of work that answers how many records it took: of all threads of this process.
    pub(crate) async fn of(work: impl Future<Output = Result<u64>>) -> Result<Self> {
        let (before, started) = (Usage::of_this_process()?.cpu, Instant::now());
        let records = work.await?;
        let cpu_s = (Usage::of_this_process()?.cpu - before).as_secs_f64();
        Ok(Self { records, cpu_s, wall_s: started.elapsed().as_secs_f64() })
    }

    /// Several rounds as one.
    pub(crate) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.cpu_s += other.cpu_s;
        self.wall_s += other.wall_s;
    }

    /// Records in a second of one core.
    pub(crate) fn per_core(&self) -> f64 {
        self.records as f64 / self.cpu_s.max(TICK_S)
    }
}

/// Prints the headings of the lines to come.
pub(crate) fn print_headings() {
    println!("{:<46} {:>9} {:>9} {:>14} {:>7}", "", "cpu s", "wall s", "records/s core", "share");
}

/// Prints a line, and its share of a limit.
pub(crate) fn print(what: &str, cost: &Cost, limit: Option<&Cost>) {
    let share = limit.map(|limit| format!("{:.2}", cost.per_core() / limit.per_core())).unwrap_or_default();
    let (cpu_s, wall_s, per_core) = (cost.cpu_s, cost.wall_s, cost.per_core());
    println!("{what:<46} {cpu_s:>9.2} {wall_s:>9.2} {per_core:>14.0} {share:>7}");
}
