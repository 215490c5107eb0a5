//! `firn policy explain`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use chrono::TimeDelta;
use firn_policy::{CompiledRule, Episode, Verdict};

use super::{
    backtest::{self, Span},
    source,
};
use crate::{connection::ConnectionArgs, output};

/// Arguments of `firn policy explain`.
#[derive(clap::Args)]
pub(crate) struct ExplainArgs {
    /// A policy file, or the id of one of the tenant's policies
    policy: String,
    /// Id or name of a computer: what the policy says of it, and why
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Days of the computer's history to replay
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    days: u32,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn policy explain`.
pub(super) async fn run(args: &ExplainArgs) -> Result<()> {
    let file = Path::new(&args.policy);
    let rule = if file.is_file() {
        source::compiled(file)?.with_context(|| args.policy.clone())?
    } else {
        let client = args.connection.connect().await?.lake_client()?;
        let present = source::of_tenant(&client, "main").await?;
        let policy = present.policies.iter().find(|policy| policy.id == args.policy);
        let policy = policy.with_context(|| {
            format!(
                "there is no file '{0}', and the tenant has no policy '{0}': see 'firn policy ls'",
                args.policy
            )
        })?;
        firn_policy::compile(policy, &firn_inventory::bronze_schema())?
    };
    describe(&rule)?;
    match &args.host {
        Some(host) => of_host(args, &rule, host).await,
        None => Ok(()),
    }
}

fn describe(rule: &CompiledRule) -> Result<()> {
    let policy = &rule.policy;
    output::line(&format!("{} ({}): {}", policy.id, policy.severity.as_str(), policy.title))?;
    output::line(&format!("compliant is  {}", source::rule_text(policy).trim()))?;
    if !rule.columns.is_empty() {
        output::line(&format!("reads         {}", rule.columns.join(", ")))?;
    }
    if !policy.platforms.is_empty() {
        output::line(&format!("platforms     {}", policy.platforms.join(", ")))?;
    }
    if policy.grace_s > 0 {
        output::line(&format!("grace         {}", crate::duration::in_words(policy.grace_s)))?;
    }
    if let Some(window) = &policy.window {
        let slide_s = window.slide_s.unwrap_or(window.size_s);
        let [size, slide, late] = [window.size_s, slide_s, window.lateness_s].map(crate::duration::in_words);
        output::line(&format!("windows       of {size}, one every {slide}; samples may come {late} late"))?;
    }
    output::line(&format!("revision      {}", rule.revision))
}

async fn of_host(args: &ExplainArgs, rule: &CompiledRule, host: &str) -> Result<()> {
    let client = args.connection.connect().await?.lake_client()?;
    let span = Span::last(TimeDelta::days(args.days.into()));
    let Some(history) = backtest::history_of(&client, rule, host, &span).await? else {
        bail!("silver.inventory isn't there yet: nothing was received, or it was not promoted");
    };
    let Some(newest) = history.newest else {
        bail!("no record of a computer '{host}' within {} days", args.days);
    };
    output::line("")?;
    if rule.policy.is_per_record() {
        let verdict = match newest.verdict {
            Verdict::Pass => "complies",
            Verdict::Fail => "is in breach",
            Verdict::NoResult => "has no result (a column that decides is null, or the platform is another)",
        };
        output::line(&format!(
            "{host} {verdict} by its newest record, received {}",
            backtest::text(newest.received_us)
        ))?;
        output::line(&format!("because {}", newest.evidence))?;
    } else {
        output::line(&format!(
            "the newest record of {host} was received {}",
            backtest::text(newest.received_us)
        ))?;
    }
    let row = |episode: &Episode| {
        let ended = episode.resolved_us.map_or_else(|| "still open".to_owned(), backtest::text);
        vec![backtest::text(episode.opened_us), ended, episode.evidence.to_string()]
    };
    let rows = history.found.episodes.iter().map(row).collect();
    output::rows(&["opened", "resolved", "evidence"], rows, "no finding in that time")
}
