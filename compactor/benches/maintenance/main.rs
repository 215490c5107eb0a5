//! Speed and memory of maintenance, beside limits that are measured in the same run, in turns.
//!
//! `cargo bench -p firn-compactor --bench maintenance -- [--rows N] [--copy-mb N] [--memory-mb N] [--rounds N] [PART...]`
//!
//! The limit of a rewrite is arrow-rs alone: it reads the same Parquet files in one thread and writes their rows into one, compressed
//! alike. That of a copy by row groups is a copy of the files. The catalog runs in the same process, and its time counts as Firn's. Time
//! is that of the processor, so that rows per second are those of one core. Only the ratio means anything on another machine.

#![allow(clippy::print_stdout)]

#[path = "../../../benches/measure/cost.rs"]
mod cost;
#[path = "../../../benches/measure/lake.rs"]
#[expect(dead_code, reason = "promotion's benchmark needs more of it")]
mod lake;
mod limit;
mod numbers;
mod planning;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use firn_catalog_client::iceberg::TableIdent;
use firn_compactor::{Compacted, CompactorConfig, TableMaintenance};
use firn_runtime::Usage;
use firn_table::{Operation, RowOrder};

use cost::{Cost, measured, print};
use lake::{Fleet, Lake, bronze};
use numbers::Numbers;

/// As the binary `firn` has.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A table property.
const MIN_ROW_GROUP_BYTES: &str = "firn.maintenance.min-row-group-bytes";
/// Files of the part small, and bytes of each.
const SMALL_FILES: usize = 10_000;
const SMALL_BYTES: usize = 100 << 10;
/// Bytes of each file that is copied, which has one row group.
const COPIED_BYTES: usize = 16 << 20;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Inventories into larger files, decoded
    Decode,
    /// The same in another order
    Sort,
    /// By row groups, without decoding
    Copy,
    /// Planning a scan of 100,000 files in 1,000 manifests
    Plan,
    /// 10,000 files of 100 KB into files of the target size
    Small,
}

#[derive(Clone, Debug, Parser)]
struct Args {
    /// Which to measure; all if none is named
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Inventories that are rewritten
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Computers that they are of
    #[arg(long, default_value_t = 20_000)]
    hosts: u64,
    /// Megabytes that are copied
    #[arg(long, default_value_t = 512)]
    copy_mb: usize,
    /// Memory of Firn's side, as configured
    #[arg(long, default_value_t = 1_024)]
    memory_mb: usize,
    /// Threads of Firn's side
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Times that limit and Firn are measured in turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(!cfg!(debug_assertions), "a debug build measures nothing: run 'cargo bench'");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build()?;
    runtime.block_on(run(&args))
}

async fn run(args: &Args) -> Result<()> {
    let lake = Lake::open(None).await?;
    println!("{} threads, {} MB\n", args.threads, args.memory_mb);
    println!(
        "{:<36} {:>9} {:>9} {:>12} {:>6} {:>8}",
        "", "cpu s", "wall s", "per s, core", "share", "peak MB"
    );
    if args.wants(Part::Decode) || args.wants(Part::Sort) {
        lake.fill(args.rows, Fleet { hosts: args.hosts, ordered_ids: false }).await?;
        // Whatever its row groups are like.
        let never = (MIN_ROW_GROUP_BYTES, "1000000000000");
        lake.commit(&bronze(), Operation::Append { files: Vec::new() }, &[never]).await?;
    }
    if args.wants(Part::Decode) {
        rewrites(&lake, args, "rows, decoded", RowOrder::Kept).await?;
    }
    if args.wants(Part::Sort) {
        let order = RowOrder::parse("sort(host_id, received_at)").map_err(anyhow::Error::msg)?;
        rewrites(&lake, args, "rows, sorted", order).await?;
    }
    if args.wants(Part::Copy) {
        copies(&lake, args).await?;
    }
    if args.wants(Part::Plan) {
        planning::measure(&lake).await?;
    }
    if args.wants(Part::Small) {
        small_files(&lake, args).await?;
    }
    Ok(())
}

/// All inventories into one file, beside arrow-rs.
async fn rewrites(lake: &Lake, args: &Args, what: &str, order: RowOrder) -> Result<()> {
    let (files, base) = (lake.bronze_files().await?, current(lake, &bronze()).await?);
    let (mut bare, mut firn) = (Cost::default(), Cost::default());
    let held = Usage::of_this_process()?.resident_bytes >> 20;
    for _ in 0..args.rounds {
        bare = bare + measured(limit::rewrite(files.clone())).await?;
        let rewrite = async {
            let compacted = compact(lake, args, &bronze(), true, order.clone()).await?;
            ensure!(compacted.copied_files == 0 && compacted.conflicting_groups == 0, "{compacted:?}");
            Ok(())
        };
        firn = firn + measured(rewrite).await?;
        go_back(lake, &bronze(), base).await?;
    }
    let rows = args.rows * args.rounds as u64;
    print(&format!("{what}: arrow-rs alone"), rows, bare, None);
    print(&format!("{what}: firn"), rows, firn, Some(bare));
    println!("{:<36} {:>64} MB before it", "", held);
    Ok(())
}

/// Files of one good row group each, beside a copy of the files.
async fn copies(lake: &Lake, args: &Args) -> Result<()> {
    let table = Numbers::create(lake, "copied").await?;
    let files = (args.copy_mb << 20).div_ceil(COPIED_BYTES);
    table.fill(files, COPIED_BYTES).await?;
    let base = current(lake, table.ident()).await?;
    let listed = lake.load(table.ident()).await?.data_files(None).await?;
    let bytes: u64 = listed.iter().map(|file| file.size_bytes).sum();
    let paths = listed.iter().map(|file| limit::path(&file.location)).collect::<Vec<_>>();
    let (mut bare, mut firn) = (Cost::default(), Cost::default());
    for _ in 0..args.rounds {
        bare = bare + measured(limit::copy(paths.clone())).await?;
        let copy = async {
            let compacted = compact(lake, args, table.ident(), true, RowOrder::Kept).await?;
            ensure!(compacted.copied_files == files, "{files} files: {compacted:?}");
            Ok(())
        };
        firn = firn + measured(copy).await?;
        go_back(lake, table.ident(), base).await?;
    }
    let megabytes = (bytes >> 20) * args.rounds as u64;
    print("MB, copied: files alone", megabytes, bare, None);
    print("MB, copied: firn", megabytes, firn, Some(bare));
    println!("{:<36} {:>29.2} of its speed by the clock", "", bare.wall_s / firn.wall_s);
    Ok(())
}

/// Many small files, of which one job makes large ones.
async fn small_files(lake: &Lake, args: &Args) -> Result<()> {
    let table = Numbers::create(lake, "small").await?;
    table.fill(SMALL_FILES, SMALL_BYTES).await?;
    let before = lake.load(table.ident()).await?;
    let (snapshots, files) = (before.snapshots().len(), before.data_files(None).await?);
    let bytes: u64 = files.iter().map(|file| file.size_bytes).sum();
    let mut compacted = Compacted::default();
    let cost = measured(async {
        compacted = compact(lake, args, table.ident(), false, RowOrder::Kept).await?;
        Ok(())
    });
    print("MB, of small files", bytes >> 20, cost.await?, None);
    let after = lake.load(table.ident()).await?;
    let commits = after.snapshots().len() - snapshots;
    println!("  {} files became {} in {commits} commits", files.len(), after.data_files(None).await?.len());
    ensure!(compacted.rewritten_files == files.len(), "{compacted:?}");
    Ok(())
}

async fn compact(
    lake: &Lake,
    args: &Args,
    table: &TableIdent,
    all: bool,
    order: RowOrder,
) -> Result<Compacted> {
    let config = CompactorConfig {
        threads: args.threads,
        memory_bytes: args.memory_mb << 20,
        ..CompactorConfig::default()
    };
    let maintenance = TableMaintenance::new(config, lake.file_io.clone())?.in_order(order);
    let table = lake.load(table).await?;
    let groups = maintenance.plan(&table, all).await?;
    let compacted = maintenance.compact(&table, &groups, |_| {}).await?;
    ensure!(compacted.conflicting_groups == 0, "{compacted:?}");
    Ok(compacted)
}

async fn current(lake: &Lake, table: &TableIdent) -> Result<Option<i64>> {
    Ok(lake.load(table).await?.current_snapshot().map(|snapshot| snapshot.id))
}

/// Takes the table back to a snapshot, so that the next round finds what this one found.
async fn go_back(lake: &Lake, table: &TableIdent, snapshot: Option<i64>) -> Result<()> {
    let base_snapshot_id = current(lake, table).await?;
    let snapshot_id = snapshot.unwrap_or_default();
    lake.commit(table, Operation::SetCurrent { snapshot_id, base_snapshot_id }, &[]).await
}
