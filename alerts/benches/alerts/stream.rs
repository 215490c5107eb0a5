//! How many records a core takes through the shipped rules, with state kept and changes told.

use anyhow::{Context as _, Result};
use firn_inventory::{BronzeBuilder, LogPosition, bronze_schema, read};
use firn_policy::{CompiledRule, compile, shipped};
use firn_stream::Record;
use tempfile::TempDir;

use crate::{
    Args,
    cost::{Cost, measured, print},
    house::{House, total},
};

/// What a limit does with records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Nothing.
    Read,
    /// They become rows.
    Decode,
    /// Rules judge them.
    Evaluate,
}

/// Prints limits and Firn, in turns over several rounds.
pub(crate) async fn measure(args: &Args) -> Result<()> {
    let folder = TempDir::with_prefix("firn-bench-")?;
    let house = House::open(folder.path(), args.kafka).await?;
    let policies = shipped();
    let rules = policies.iter().map(|policy| compile(policy, &bronze_schema()));
    let rules = rules.collect::<Result<Vec<_>, _>>()?;
    let works = [Work::Read, Work::Decode, Work::Evaluate];
    // All computers are known before anything is measured, as they are on any day but the first.
    house.fill(0, args.hosts, args.hosts).await?;
    house.judge(args.hosts).await?;
    for work in works {
        limit(&house, work, args.hosts, &rules).await?;
    }
    let (mut known, mut costs) = (args.hosts, [Cost::default(); 4]);
    let told_before = total(&house.board, "transitions");
    for _ in 0..args.rounds {
        house.fill(known, args.records, args.hosts).await?;
        for (cost, work) in costs.iter_mut().zip(works) {
            *cost = *cost + measured(limit(&house, work, args.records, &rules)).await?;
        }
        costs[3] = costs[3] + measured(house.judge(args.records)).await?;
        known += args.records;
    }
    let told = total(&house.board, "transitions") - told_before;
    let [read, decode, evaluate, firn] = costs;
    let (records, count) = (args.rounds * args.records, rules.len());
    println!("stream, {count} rules, {} rounds of {} records, {told} transitions", args.rounds, args.records);
    println!("{:<36} {:>9} {:>9} {:>12} {:>6} {:>8}", "", "cpu s", "wall s", "records/s", "share", "peak MB");
    print("  limit: log alone", records, read, None);
    print("  limit: log, decode", records, decode, None);
    print("  limit: log, decode, expressions", records, evaluate, None);
    print("  firn: alerts", records, firn, Some(evaluate));
    Ok(())
}

/// Does with the next records what a limit does, in a group of its own.
async fn limit(house: &House, work: Work, count: u64, rules: &[CompiledRule]) -> Result<()> {
    house.read(&format!("limit-{work:?}"), count, |records| take(work, records, rules)).await
}

fn take(work: Work, records: &[Record], rules: &[CompiledRule]) -> Result<()> {
    if work == Work::Read {
        return Ok(());
    }
    let mut builder = BronzeBuilder::with_capacity(records.len());
    let (topic_id, source) = ("bench".to_owned(), "native".to_owned());
    let mut position = LogPosition { topic_id, partition: 0, offset: 0, received_at_us: 0, source };
    for record in records {
        (position.offset, position.received_at_us) = (record.offset, record.timestamp_ms * 1_000);
        builder.push_row(&read(record.value.as_deref().context("a record without payload")?)?, &position);
    }
    let rows = builder.finish();
    if work == Work::Evaluate {
        for rule in rules {
            std::hint::black_box((rule.evaluate(&rows), rule.samples(&rows)));
        }
    }
    Ok(())
}
