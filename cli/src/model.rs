//! `firn model`: what silver and gold are made of.

mod docs;
mod graph;
mod run;
mod sources;
mod test;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use firn_catalog_client::TenantClient;
use firn_compactor::{
    Model, ModelFiles, ModelGraph, SourceTables, TenantModels, change_own_models, check_own_models, forecast,
    models,
};
use firn_table::{FileIo, StorageConfig};
use serde::Serialize;

use crate::{connection::ConnectionArgs, output};

/// Subcommands of `firn model`.
#[derive(clap::Subcommand)]
pub(crate) enum ModelCommand {
    /// List the models in the order they run
    Ls(ReadArgs),
    /// Check model files beside the shipped models: syntax, columns, types, circles; needs no server, but with --ref
    Check(CheckArgs),
    /// Tell what the next promotion would do, and why
    Plan(PlanArgs),
    /// Run models now, on main or a branch, and publish what they make there
    Run(run::RunArgs),
    /// Show that models make of example rows what their cases say; needs no server, but with --ref
    Test(test::TestArgs),
    /// Draw which model reads which, in words or as SVG
    Graph(graph::GraphArgs),
    /// Document models and their columns, as Markdown or JSON
    Docs(docs::DocsArgs),
    /// Put model files among the tenant's own, on main or a branch
    Apply(ApplyArgs),
    /// Take files out of the tenant's own models; the tables they filled stay
    Rm(RemoveArgs),
}

/// Which models, and how they are printed.
#[derive(clap::Args)]
pub(crate) struct ReadArgs {
    /// Only the models that come with firn; needs no server
    #[arg(long)]
    shipped: bool,
    /// Branch, tag or hash to read the tenant's own models from
    #[arg(long = "ref", default_value = "main")]
    reference: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn model check`.
#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    /// Model files (SQL), or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    sources: sources::SourceArgs,
}

/// Arguments of `firn model plan`.
#[derive(clap::Args)]
pub(crate) struct PlanArgs {
    /// Branch, tag or hash to look at
    #[arg(long = "ref", default_value = "main")]
    reference: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn model apply`.
#[derive(clap::Args)]
pub(crate) struct ApplyArgs {
    /// Model files (SQL), or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Branch to put them on; they run once they are on main
    #[arg(long, default_value = "main")]
    branch: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn model rm`.
#[derive(clap::Args)]
pub(crate) struct RemoveArgs {
    /// Names of files, as 'firn model ls' shows them
    #[arg(required = true)]
    files: Vec<String>,
    /// Branch to take them from
    #[arg(long, default_value = "main")]
    branch: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// A model as `firn model ls` shows it.
#[derive(Serialize)]
struct ModelLine {
    table: String,
    kind: firn_compactor::ModelKind,
    reads: Vec<String>,
    key: Vec<String>,
    interval_s: Option<u64>,
    freshness_s: Option<u64>,
    checks: Vec<String>,
    file: String,
    hash: String,
}

impl ModelLine {
    fn of(model: &Model) -> Self {
        Self {
            table: model.table.to_string(),
            kind: model.kind,
            reads: model.inputs.iter().map(ToString::to_string).collect(),
            key: model.key.clone(),
            interval_s: model.interval.map(|interval| interval.as_secs()),
            freshness_s: model.freshness.map(|longest| longest.as_secs()),
            checks: model.checks.iter().map(|check| check.name.clone()).collect(),
            file: model.file.clone(),
            hash: model.hash(),
        }
    }
}

/// Runs `firn model`.
pub(crate) async fn run(command: &ModelCommand) -> Result<()> {
    match command {
        ModelCommand::Ls(args) => list(args).await,
        ModelCommand::Check(args) => check(args).await,
        ModelCommand::Plan(args) => plan(args).await,
        ModelCommand::Run(args) => run::run(args).await,
        ModelCommand::Test(args) => test::run(args).await,
        ModelCommand::Graph(args) => graph::run(args).await,
        ModelCommand::Docs(args) => docs::run(args).await,
        ModelCommand::Apply(args) => apply(args).await,
        ModelCommand::Rm(args) => remove(args).await,
    }
}

fn file_io() -> FileIo {
    FileIo::new(StorageConfig::default())
}

/// The models that are asked for, and the tables that they read and none of them makes.
async fn read_with_sources(args: &ReadArgs) -> Result<(ModelGraph, SourceTables)> {
    if args.shipped {
        return Ok((models()?, SourceTables::shipped()));
    }
    let client = args.connection.connect().await?.lake_client()?;
    let graph = of_tenant(&client, args).await?;
    let sources = SourceTables::read_by(&graph, &client, &file_io(), &args.reference).await?;
    Ok((graph, sources))
}

/// The models that are asked for.
async fn read(args: &ReadArgs) -> Result<ModelGraph> {
    if args.shipped {
        return Ok(models()?);
    }
    of_tenant(&args.connection.connect().await?.lake_client()?, args).await
}

/// The shipped models and the tenant's own; says so where these don't fit.
async fn of_tenant(client: &TenantClient, args: &ReadArgs) -> Result<ModelGraph> {
    let models = TenantModels::of(client, &file_io(), &args.reference).await?;
    if let Some(problem) = &models.problem {
        output::complain(&format!("the tenant's own models are left out: {problem}"));
    }
    Ok(models.graph.as_ref().clone())
}

async fn list(args: &ReadArgs) -> Result<()> {
    let graph = read(args).await?;
    let lines: Vec<_> = graph.models().iter().map(ModelLine::of).collect();
    if args.json {
        return output::json(&lines);
    }
    let row = |line: &ModelLine| {
        let kind = kind_name(line.kind);
        vec![line.table.clone(), kind, line.reads.join(", "), line.key.join(", "), line.file.clone()]
    };
    let headings = ["table", "kind", "reads", "key", "file"];
    output::rows(&headings, lines.iter().map(row).collect(), "no models")
}

fn kind_name(kind: firn_compactor::ModelKind) -> String {
    format!("{kind:?}").to_lowercase()
}

/// The files' texts by name.
fn load(paths: &[PathBuf]) -> Result<ModelFiles> {
    let mut files = ModelFiles::new();
    for path in paths {
        for file in sql_files(path)? {
            let shown = file.display().to_string();
            let text = std::fs::read_to_string(&file).with_context(|| format!("can't read {shown}"))?;
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if files.insert(name.clone(), text).is_some() {
                bail!("{shown}: another of the files is named {name}, too: rename one of them");
            }
        }
    }
    Ok(files)
}

fn sql_files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("can't read {}", path.display()))? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "sql") {
            files.push(file);
        }
    }
    if files.is_empty() {
        bail!("no model file in {}: their names end in .sql", path.display());
    }
    files.sort();
    Ok(files)
}

async fn check(args: &CheckArgs) -> Result<()> {
    let files = load(&args.files)?;
    let graph = check_own_models(&files, &args.sources.tables(&files).await?).await?;
    for model in graph.models().iter().filter(|model| files.contains_key(&model.file)) {
        let reads = model.inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        output::line(&format!(
            "{}: {} is fine, kind {}, reads {reads}",
            model.file,
            model.table,
            kind_name(model.kind)
        ))?;
    }
    Ok(())
}

async fn plan(args: &PlanArgs) -> Result<()> {
    let client = args.connection.connect().await?.lake_client()?;
    let forecasts = forecast(&client, &file_io(), &args.reference).await?;
    if args.json {
        return output::json(&forecasts);
    }
    let row = |forecast: &firn_compactor::Forecast| {
        let unread = forecast.unread_records.to_string();
        vec![forecast.model.clone(), forecast.action.to_owned(), unread, forecast.reason.clone()]
    };
    let headings = ["model", "action", "unread", "why"];
    output::rows(&headings, forecasts.iter().map(row).collect(), "no models")
}

async fn apply(args: &ApplyArgs) -> Result<()> {
    let put = load(&args.files)?;
    let names = put.keys().cloned().collect::<Vec<_>>().join(", ");
    let client = args.connection.connect().await?.lake_client()?;
    let now = change_own_models(&client, &file_io(), &args.branch, put, &[]).await?;
    let when = match args.branch.as_str() {
        "main" => "the next promotion runs them".to_owned(),
        branch => format!("'firn merge {branch}' puts them in force"),
    };
    output::line(&format!("put {names} on {}; {} own models in all; {when}", args.branch, now.len()))
}

async fn remove(args: &RemoveArgs) -> Result<()> {
    let client = args.connection.connect().await?.lake_client()?;
    let now = change_own_models(&client, &file_io(), &args.branch, ModelFiles::new(), &args.files).await?;
    let names = args.files.join(", ");
    output::line(&format!("took {names} from {}; {} own models are left", args.branch, now.len()))
}
