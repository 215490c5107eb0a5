//! `firn events`: what happened in a tenant's catalog, and what happens.

use std::{collections::VecDeque, time::Duration};

use anyhow::Result;
use firn_catalog_client::{ClientErrorKind, Event, TenantClient};

use crate::{
    connection::ConnectionArgs,
    output,
    references::{short, to_seconds},
};

const PAGE: usize = 1_000;
/// How long the server waits for the next event.
const WAIT_MS: u64 = 25_000;
/// Before a server that is away is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Arguments of `firn events`.
#[derive(clap::Args)]
pub(crate) struct EventsArgs {
    /// Only what comes after this event's number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: i64,
    /// The newest of them, at most
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
    /// Go on with what happens, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Print each as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn events`.
pub(crate) async fn run(args: &EventsArgs) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    let mut newest = VecDeque::new();
    let mut after = args.after;
    loop {
        let page = client.events(after, PAGE, 0).await?;
        newest.extend(page.events);
        newest.drain(..newest.len().saturating_sub(args.limit));
        if page.next == after {
            break;
        }
        after = page.next;
    }
    newest.iter().try_for_each(|event| print(event, args.json))?;
    if args.follow { follow(&client, after, args.json).await } else { Ok(()) }
}

async fn follow(client: &TenantClient, mut after: i64, json: bool) -> Result<()> {
    loop {
        match client.events(after, PAGE, WAIT_MS).await {
            Ok(page) => {
                page.events.iter().try_for_each(|event| print(event, json))?;
                after = page.next;
            }
            Err(error) if matches!(error.kind, ClientErrorKind::Unavailable | ClientErrorKind::Unknown) => {
                output::complain(&format!("{error}; asking again"));
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn print(event: &Event, json: bool) -> Result<()> {
    if json {
        return output::line(&serde_json::to_string(event)?);
    }
    let text = |name: &str| output::plain(event.data[name].as_str().unwrap_or_default());
    let what = match event.data["message"].as_str() {
        Some(message) => output::plain(message.lines().next().unwrap_or_default()),
        None => text("principal"),
    };
    output::line(&format!(
        "{:>6}  {}  {:<18}  {}  {}  {what}",
        event.sequence,
        to_seconds(&event.time),
        event.event_type,
        short(&text("hash")),
        text("reference"),
    ))
}
