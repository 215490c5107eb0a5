//! Collections of garbage: what `firn catalog gc` and `firn table orphans` ask of the catalog, and how its report is shown.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail};
use firn_catalog_client::{GcReport, GcRequest, GcState, TenantClient};

use crate::{duration, output};

/// Pause between two looks at a running collection.
const POLL: Duration = Duration::from_millis(300);

/// What stays in any case.
#[derive(clap::Args)]
pub(crate) struct KeepArgs {
    /// Keep whatever is younger; at least an hour
    #[arg(long, value_name = "AGE", default_value = "7d", value_parser = duration::parse)]
    safety_age: Duration,
    /// Keep older states of branches and tags only this long (default: for ever)
    #[arg(long, value_name = "AGE", value_parser = duration::parse)]
    keep_history: Option<Duration>,
    /// The same for one branch or tag; may be repeated
    #[arg(long, value_name = "REF=AGE", value_parser = reference_age)]
    keep: Vec<(String, Duration)>,
}

fn reference_age(text: &str) -> Result<(String, Duration), String> {
    match text.split_once('=') {
        Some((reference, age)) if !reference.is_empty() => Ok((reference.to_owned(), duration::parse(age)?)),
        _ => Err(format!("'{text}' is not of the form REF=AGE, such as dev=30d")),
    }
}

impl KeepArgs {
    /// A collection of everything in a tenant.
    pub(crate) fn request(&self, dry_run: bool) -> GcRequest {
        let history_of = self.keep.iter().map(|(reference, age)| (reference.clone(), age.as_secs()));
        GcRequest {
            dry_run,
            safety_age_s: Some(self.safety_age.as_secs()),
            history_s: self.keep_history.map(|age| age.as_secs()),
            history_of: history_of.collect::<BTreeMap<_, _>>(),
            table: None,
        }
    }
}

/// Starts a collection and waits for its report.
pub(crate) async fn run(client: &TenantClient, request: &GcRequest) -> Result<GcReport> {
    let started = client.start_gc(request).await?;
    loop {
        let run = client.last_gc().await?;
        match (run.state, run.report) {
            _ if run.id != started.id => bail!("another garbage collection was started meanwhile"),
            (GcState::Running, _) => tokio::time::sleep(POLL).await,
            (GcState::Done, Some(report)) => return Ok(report),
            _ => bail!("garbage collection failed: {}", run.error.unwrap_or_default()),
        }
    }
}

/// Lists the files that went, or would.
pub(crate) fn print_files(report: &GcReport) -> Result<()> {
    let rows =
        report.removed.iter().map(|file| vec![size(file.bytes), file.reason.clone(), file.location.clone()]);
    output::rows(&["size", "why", "file"], rows.collect(), "no file to remove")?;
    let listed = report.removed.len() as u64;
    if report.files_removed > listed {
        output::line(&format!("… and {} more", report.files_removed - listed))?;
    }
    Ok(())
}

/// Says what keeps files from being removed.
pub(crate) fn print_obstacles(report: &GcReport) -> Result<()> {
    if report.files_changed > 0 {
        output::line(&format!("{} files changed meanwhile and stay", report.files_changed))?;
    }
    for file in &report.unreadable {
        output::complain(&format!(
            "can't be read, so no file was removed: {}: {}",
            file.location, file.reason
        ));
    }
    Ok(())
}

/// Bytes in words.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_as_people_write_them() {
        assert_eq!(
            [size(0), size(999), size(1_500), size(2_000_000_000)],
            ["0 B", "999 B", "1.5 KB", "2.0 GB"]
        );
        assert_eq!(reference_age("a/b=30d"), Ok(("a/b".to_owned(), Duration::from_secs(30 * 86_400))));
        assert!(reference_age("dev").is_err() && reference_age("=1d").is_err());
    }
}
