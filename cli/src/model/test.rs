//! `firn model test`: what models make of example rows, without a server.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use firn_compactor::{ModelFiles, TEST_SUFFIX, shipped_cases, test_models};

use super::{sources::SourceArgs, sql_files};
use crate::output;

/// Arguments of `firn model test`.
#[derive(clap::Args)]
pub(crate) struct TestArgs {
    /// Model files (SQL), or folders of them; the cases of NAME.sql stand beside it in NAME.test.toml (default: the shipped models)
    files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sources: SourceArgs,
}

/// Runs all cases of all models before the first that doesn't hold ends it.
pub(super) async fn run(args: &TestArgs) -> Result<()> {
    let (models, cases) = match args.files.is_empty() {
        true => (ModelFiles::new(), shipped_cases()),
        false => (super::load(&args.files)?, cases(&args.files)?),
    };
    for file in models.keys().filter(|file| !cases.contains_key(*file)) {
        let beside = file.strip_suffix(".sql").unwrap_or(file);
        output::complain(&format!("{file}: no cases; they would stand in {beside}{TEST_SUFFIX}"));
    }
    let outcomes = test_models(&models, &cases, &args.sources.tables(&models).await?).await?;
    if args.json {
        output::json(&outcomes)?;
    }
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.differences.is_empty()).collect();
    for outcome in failed.iter().filter(|_| !args.json) {
        output::complain(&format!("{}: case '{}':", outcome.file, outcome.case));
        outcome.differences.iter().for_each(|line| output::complain(&format!("  {}", output::plain(line))));
    }
    if !failed.is_empty() {
        bail!("{} of {} cases fail", failed.len(), outcomes.len());
    }
    if args.json { Ok(()) } else { output::line(&format!("{} cases hold", outcomes.len())) }
}

/// The cases beside model files, by the names of these.
fn cases(paths: &[PathBuf]) -> Result<ModelFiles> {
    let mut cases = ModelFiles::new();
    for path in paths {
        for file in sql_files(path)? {
            let beside = PathBuf::from(file.with_extension("").display().to_string() + TEST_SUFFIX);
            if beside.exists() {
                cases.insert(name_of(&file), read(&beside)?);
            }
        }
    }
    Ok(cases)
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MODEL: &str = "-- model: gold.by_type\n-- kind: aggregate\nSELECT os_type, count(*) AS hosts FROM silver.device GROUP BY os_type";

    async fn test(cases: Option<&str>) -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("by_type.sql"), MODEL).unwrap();
        if let Some(cases) = cases {
            std::fs::write(folder.path().join("by_type.test.toml"), cases).unwrap();
        }
        let sources = SourceArgs::default();
        run(&TestArgs { files: vec![folder.path().to_owned()], json: false, sources }).await
    }

    #[tokio::test]
    async fn cases_beside_own_models_hold_or_fail_and_shipped_ones_hold() {
        let case = |hosts: u32| {
            format!(
                "[[case]]\nname = 'n'\noutput = [{{ os_type = 'linux', hosts = {hosts} }}]\n[case.input]\n\
                 'silver.device' = [{{ host_id = 'a', os_type = 'linux' }}]\n"
            )
        };
        test(Some(&case(1))).await.unwrap();
        assert_eq!(test(Some(&case(2))).await.unwrap_err().to_string(), "1 of 1 cases fail");
        test(None).await.unwrap();
        let sources = SourceArgs::default();
        run(&TestArgs { files: Vec::new(), json: false, sources }).await.unwrap();
    }
}
