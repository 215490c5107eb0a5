//! `firn alerts rebuild`: talks to the log itself, as an alerts worker does, since none may be at work.

use std::path::{Path, PathBuf};

use anyhow::Result;
use firn_alerts::{Alerts, Difference, Rebuilt};
use firn_runtime::tls::{self, Tls};
use serde_json::json;

use crate::{
    data_dir::DataDir,
    failure::usage,
    output,
    server::{self, Plan, Service},
    service::{nowhere, settings, signing_key},
    settings::{Backend, Settings},
};

/// Arguments of `firn alerts rebuild`.
#[derive(clap::Args)]
pub(crate) struct RebuildArgs {
    /// Configuration file, the one of `firn alerts serve` or `firn up`
    #[arg(long, value_name = "FILE", env = "FIRN_CONFIG")]
    config: Option<PathBuf>,
    /// Data directory of a `firn up` that is stopped
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Only say where states differ from the ledger
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) async fn run(args: &RebuildArgs) -> Result<()> {
    let done = match &args.data_dir {
        Some(dir) => beside_its_catalog(args, dir).await?,
        None => rebuild(args, &service(args).await?).await?,
    };
    if args.json {
        return output::json(&document(&done, args.dry_run));
    }
    let row = |differs: &Difference| {
        let Difference { tenant, host_id, rule_id, state, ledger } = differs.clone();
        vec![tenant, host_id, rule_id.unwrap_or_else(|| "(all)".to_owned()), state, ledger]
    };
    let rows = done.differences.iter().map(row).collect();
    output::rows(
        &["tenant", "host", "rule", "state", "ledger"],
        rows,
        "every state says what the ledger says",
    )?;
    output::line(&summary(&done, args.dry_run))
}

async fn rebuild(args: &RebuildArgs, alerts: &Alerts) -> Result<Rebuilt> {
    Ok(if args.dry_run {
        alerts.plan_rebuild(output::complain).await?
    } else {
        alerts.rebuild(output::complain).await?
    })
}

async fn service(args: &RebuildArgs) -> Result<Alerts> {
    let settings = settings(args.config.as_deref())?;
    if settings.stream.backend != Backend::Kafka {
        return Err(usage(
            "stream.backend: an embedded log is in the directory of its 'firn up': stop that, and name the directory with \
             --data-dir; or name the configuration of a server over Kafka with --config",
        ));
    }
    settings.check_service(Service::Alerts)?;
    let key = signing_key(&settings)?;
    let tls = Tls::of_client(&settings.tls)?;
    tls::install(&tls);
    let plan = Plan { services: &[Service::Alerts], settings, tls, dir: nowhere(), key, patient: false };
    server::alerts(plan).await
}

/// The directory's lock keeps a server out meanwhile.
async fn beside_its_catalog(args: &RebuildArgs, dir: &Path) -> Result<Rebuilt> {
    let dir = DataDir::new(dir);
    if !dir.signing_key_file().parent().is_some_and(Path::exists) {
        return Err(usage(format!("--data-dir: {} is no data directory of a server", dir.root().display())));
    }
    let settings = Settings::load(args.config.as_deref(), &dir)?;
    let tls = Tls::of_server(&settings.tls)?;
    tls::install(&tls);
    let locked = dir.lock()?;
    let key = locked.signing_key_or_new(settings.auth.signing_key.as_ref())?;
    let services = &[Service::Catalog, Service::Alerts];
    let plan = Plan { services, settings, tls, dir: locked.dir.clone(), key, patient: false };
    server::with_alerts(plan, async |alerts| rebuild(args, &alerts).await).await
}

fn document(done: &Rebuilt, dry_run: bool) -> serde_json::Value {
    let difference = |differs: &Difference| {
        let Difference { tenant, host_id, rule_id, state, ledger } = differs;
        json!({ "tenant": tenant, "host_id": host_id, "rule_id": rule_id, "state": state, "ledger": ledger })
    };
    json!({
        "dry_run": dry_run,
        "hosts": done.hosts,
        "findings": done.findings,
        "lost": done.lost,
        "wrong": done.wrong,
        "doubled": done.doubled,
        "busy": done.busy,
        "differences": done.differences.iter().map(difference).collect::<Vec<_>>(),
    })
}

fn summary(done: &Rebuilt, dry_run: bool) -> String {
    let Rebuilt { hosts, findings, lost, wrong, doubled, busy, .. } = done;
    let did = if dry_run { "would be" } else { "were" };
    let mut text = format!(
        "{} of {hosts} states {did} made anew ({lost} lost, {wrong} wrong), by {findings} findings in the ledger",
        lost + wrong
    );
    if *doubled > 0 {
        text.push_str(&format!(
            "; {doubled} findings have transitions of one version, told by a worker without its state"
        ));
    }
    if *busy {
        text.push_str(
            "; alerts workers were at work meanwhile: what differs may be what they wrote, so look again",
        );
    }
    text
}
