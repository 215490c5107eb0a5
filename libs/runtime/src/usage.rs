//! What a process takes of the machine: processor time and memory, as Linux tells them.

use std::{fs, io, time::Duration};

/// Clock ticks of a second in `/proc`: 100 wherever Linux runs Rust.
const TICKS_PER_S: f64 = 100.0;

/// What a process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all its threads since it began, user and system, in steps of 10 ms.
    pub cpu: Duration,
    /// Memory that it holds now.
    pub resident_bytes: u64,
    /// The most that it ever held.
    pub peak_resident_bytes: u64,
}

impl Usage {
    /// Of this process.
    ///
    /// # Errors
    /// Where there is no Linux `/proc`.
    pub fn of_this_process() -> io::Result<Self> {
        Self::of("self")
    }

    fn of(process: &str) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let strange = || io::Error::new(io::ErrorKind::InvalidData, "/proc is not as Linux writes it");
        Ok(Self {
            cpu: cpu(&stat).ok_or_else(strange)?,
            resident_bytes: bytes(&status, "VmRSS:").ok_or_else(strange)?,
            peak_resident_bytes: bytes(&status, "VmHWM:").ok_or_else(strange)?,
        })
    }
}

/// utime and stime are the 12th and 13th word behind the name, which is in brackets and may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, words) = stat.rsplit_once(')')?;
    let mut words = words.split_whitespace().skip(11);
    let mut ticks = || words.next()?.parse::<f64>().ok();
    Some(Duration::from_secs_f64((ticks()? + ticks()?) / TICKS_PER_S))
}

fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_linux_writes_is_read() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 1 1";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu("7 (a"), None);
        assert_eq!(bytes("Name:\ta\nVmRSS:\t    1024 kB\n", "VmRSS:"), Some(1 << 20));
        assert_eq!(bytes("Name:\ta\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_takes_something() {
        let usage = Usage::of_this_process().unwrap();
        assert!(usage.resident_bytes > 100_000 && usage.peak_resident_bytes >= usage.resident_bytes);
        // Enough work that a clock of 10 ms sees it.
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(60) {
            std::hint::black_box(begun.elapsed());
        }
        assert!(Usage::of_this_process().unwrap().cpu > usage.cpu);
    }
}
