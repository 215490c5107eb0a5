//! What work takes: time of the processor, time on the clock, memory.

use std::{fs, ops::Add, time::Instant};

use anyhow::{Context, Result};

/// Clock ticks of a second in /proc.
const TICKS: f64 = 100.0;

/// What something took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) cpu_s: f64,
    wall_s: f64,
    /// Largest resident memory of the process meanwhile.
    peak_mb: f64,
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
    let (before, started) = (cpu_s()?, Instant::now());
    work.await?;
    Ok(Cost { cpu_s: cpu_s()? - before, wall_s: started.elapsed().as_secs_f64(), peak_mb: peak_mb()? })
}

/// Processor time of this process, user and system.
fn cpu_s() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat").context("this needs Linux's /proc")?;
    // The name of the process, in brackets, may hold anything; utime and stime are the 12th and 13th word behind it.
    let (_, words) = stat.rsplit_once(')').context("/proc/self/stat is not as expected")?;
    let ticks = words.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS)
}

fn peak_mb() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("this needs Linux's /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line
        .and_then(|line| line.split_whitespace().next())
        .context("/proc/self/status is not as expected")?;
    Ok(kb.parse::<f64>()? / 1_024.0)
}

/// One line of the table, with the limit's share if there is a limit.
pub(crate) fn print(what: &str, rows: u64, cost: Cost, limit: Option<Cost>) {
    let share = limit.map(|limit| format!("{:.2}", limit.cpu_s / cost.cpu_s)).unwrap_or_default();
    let rate = rows as f64 / cost.cpu_s.max(1.0 / TICKS);
    let Cost { cpu_s, wall_s, peak_mb } = cost;
    println!("{what:<36} {cpu_s:>9.2} {wall_s:>9.2} {rate:>12.0} {share:>6} {peak_mb:>8.0}");
}
