//! `firn alerts repartition`: talks to the log itself, as an alerts worker does, since none may be at work.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use firn_alerts::{Move, Repartitioned};
use firn_runtime::tls::{self, Tls};
use serde_json::json;

use crate::{
    failure::usage,
    output,
    server::{self, Plan, Service},
    service::{nowhere, settings, signing_key},
    settings::Backend,
};

/// Arguments of `firn alerts repartition`.
#[derive(clap::Args)]
pub(crate) struct RepartitionArgs {
    /// Configuration file, the one of `firn alerts serve`
    #[arg(long, value_name = "FILE", env = "FIRN_CONFIG")]
    config: Option<PathBuf>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// How long gateways may take to learn of new partitions: nothing is moved before
    #[arg(long, value_name = "TIME", default_value = "65s", value_parser = crate::duration::parse)]
    settle: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) async fn run(args: &RepartitionArgs) -> Result<()> {
    let settings = settings(args.config.as_deref())?;
    if settings.stream.backend != Backend::Kafka {
        return Err(usage(
            "stream.backend: the topics of an embedded log keep the partitions that they were made with, so there is nothing to \
             move; name the configuration of a server over Kafka with --config",
        ));
    }
    settings.check_service(Service::Alerts)?;
    let key = signing_key(&settings)?;
    let tls = Tls::of_client(&settings.tls)?;
    tls::install(&tls);
    let plan = Plan { services: &[Service::Alerts], settings, tls, dir: nowhere(), key, patient: false };
    let alerts = server::alerts(plan).await?;
    let done = if args.dry_run {
        alerts.plan_repartition().await?
    } else {
        alerts.repartition(args.settle, output::complain).await?
    };
    if args.json {
        let moves = |Move { from, to, hosts }: &Move| json!({ "from": from, "to": to, "hosts": hosts });
        return output::json(&json!({
            "dry_run": args.dry_run,
            "partitions_before": done.partitions.0,
            "partitions": done.partitions.1,
            "hosts": done.hosts,
            "moves": done.moves.iter().map(moves).collect::<Vec<_>>(),
            "records": done.records,
            "transitions": done.transitions,
        }));
    }
    let row =
        |Move { from, to, hosts }: &Move| [from.to_string(), to.to_string(), hosts.to_string()].to_vec();
    output::rows(&["from", "to", "hosts"], done.moves.iter().map(row).collect(), "no host has to move")?;
    output::line(&summary(&done, args.dry_run))
}

fn summary(done: &Repartitioned, dry_run: bool) -> String {
    let Repartitioned { partitions: (before, now), hosts, records, transitions, .. } = done;
    let moved = done.moved();
    if dry_run {
        return format!(
            "{before} partitions would become {now}, {moved} of {hosts} hosts would move, and up to {records} records that wait \
             would be judged before"
        );
    }
    format!(
        "{now} partitions (before: {before}): {moved} of {hosts} hosts moved, after {records} records that waited were judged \
         ({transitions} transitions); alerts workers go on by themselves"
    )
}
