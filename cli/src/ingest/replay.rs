//! `firn ingest replay`: asks for one step after the other.

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use firn_ingest::{PartitionOffset, ReplayFrom, ReplayRequest, ReplayStep};
use serde::Serialize;
use serde_json::json;

use crate::{connection::ConnectionArgs, duration, failure::usage, output};

/// Arguments of `firn ingest replay`.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct ReplayArgs {
    /// Records in quarantine that this version understands; they move to bronze
    #[arg(long, group = "what")]
    quarantine: bool,
    /// Only those with this reason, such as wrong_type; may be given several times
    #[arg(long = "kind", value_name = "KIND", requires = "quarantine")]
    kinds: Vec<String>,
    /// Records of the log from an offset of a partition on; may be given several times
    #[arg(long, group = "what", value_name = "PARTITION:OFFSET", value_parser = offset)]
    from_offset: Vec<PartitionOffset>,
    /// Records of the log from a time on: 2026-11-22T10:00:00Z, or 3h for three hours ago
    #[arg(long, group = "what", value_name = "TIME", value_parser = time)]
    from_time: Option<DateTime<Utc>>,
    /// Branch that takes them; replays of the log need one that isn't main
    #[arg(long, default_value = "main")]
    branch: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// All steps together.
#[derive(Debug, Default, Serialize)]
struct Total {
    read: u64,
    inventory: u64,
    quarantined: u64,
    present: u64,
}

/// Runs `firn ingest replay`.
pub(super) async fn run(args: &ReplayArgs) -> Result<()> {
    let from = from(args)?;
    let connection = args.connection.connect().await?;
    let path = format!("/v1/tenants/{}/ingest/replay", connection.tenant);
    let mut total = Total::default();
    let mut next = Some(from);
    while let Some(from) = next {
        let request = ReplayRequest { branch: args.branch.clone(), from };
        let step: ReplayStep = connection.post(&path, &json!(request)).await.with_context(|| {
            format!("the replay stopped after {} records; started again it goes on", total.read)
        })?;
        total.read += step.read;
        total.inventory += step.inventory;
        total.quarantined += step.quarantined;
        total.present += step.present;
        next = step.next;
    }
    if args.json {
        return output::json(&total);
    }
    let Total { read, inventory, quarantined, present } = total;
    let rest = if args.quarantine { "stay in quarantine" } else { "to quarantine" };
    output::line(&format!(
        "{read} records read: {inventory} to bronze.inventory, {quarantined} {rest}, {present} were there already \
         (branch {})",
        args.branch
    ))
}

fn from(args: &ReplayArgs) -> Result<ReplayFrom> {
    if args.quarantine {
        return Ok(ReplayFrom::Quarantine { kinds: args.kinds.clone(), cursor: None });
    }
    if args.branch == "main" {
        return Err(usage(
            "--branch: main takes each record of the log once, by itself; name another branch ('firn branch create')",
        ));
    }
    Ok(match args.from_time {
        Some(time) => ReplayFrom::Time { since_ms: time.timestamp_millis() },
        None => ReplayFrom::Offsets { offsets: args.from_offset.clone() },
    })
}

fn offset(text: &str) -> Result<PartitionOffset, String> {
    let parsed = text.split_once(':').and_then(|(partition, offset)| {
        Some(PartitionOffset { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
    });
    parsed.ok_or_else(|| "expected PARTITION:OFFSET, such as 3:1500".to_owned())
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let ago =
        duration::parse(text).map_err(|_| "expected 2026-11-22T10:00:00Z, or 3h for three hours ago")?;
    Ok(Utc::now() - ago)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn offsets_and_times_are_read_as_people_write_them() {
        assert_eq!(offset("3:1500"), Ok(PartitionOffset { partition: 3, offset: 1500 }));
        for wrong in ["", "3", "3:", ":5", "a:5", "3:5:7"] {
            assert!(offset(wrong).is_err(), "{wrong}");
        }
        assert_eq!(time("2026-11-22T10:00:00Z").unwrap().timestamp(), 1_795_341_600);
        assert!((Utc::now() - time("3h").unwrap()).num_minutes().abs_diff(180) <= 1);
        assert!(time("yesterday").is_err());
    }
}
