//! Where policies come from: files, and the tenant's table.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use firn_catalog_client::{TenantClient, iceberg::TableIdent};
use firn_inventory::{bronze_schema, tables::POLICY_RULES};
use firn_policy::{
    CompiledRule, Policy, PolicyError, RULES_SEEDED_PROPERTY, is_policy_file, rules_from_batches, shipped,
};
use firn_table::{FileIo, StorageConfig, Table, TableErrorKind, TableScan};

/// The policy files among `paths`, folders searched one level deep.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        for entry in std::fs::read_dir(path).with_context(|| format!("can't read {}", path.display()))? {
            let file = entry?.path();
            if is_policy_file(&file) {
                files.push(file);
            }
        }
        if files.len() == before {
            bail!("no policy file in {}: their names end in .toml, .yaml or .yml", path.display());
        }
        files[before..].sort();
    }
    Ok(files)
}

/// Reads and compiles a file; the inner error says what is wrong with the policy.
pub(super) fn compiled(file: &Path) -> Result<Result<CompiledRule, PolicyError>> {
    let shown = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("can't read {shown}"))?;
    Ok(firn_policy::parse(&text, &shown).and_then(|policy| firn_policy::compile(&policy, &bronze_schema())))
}

/// Policies of all files, each good and each id once.
pub(super) fn policies(paths: &[PathBuf]) -> Result<Vec<Policy>> {
    let mut policies: Vec<Policy> = Vec::new();
    for file in files(paths)? {
        let policy = compiled(&file)?.with_context(|| file.display().to_string())?.policy;
        if policies.iter().any(|known| known.id == policy.id) {
            bail!("{}: policy '{}' stands in another of the files too", file.display(), policy.id);
        }
        policies.push(policy);
    }
    Ok(policies)
}

/// The policies of a tenant at a reference.
pub(super) struct Present {
    pub(super) policies: Vec<Policy>,
    /// What is wrong with rows that are no policies.
    pub(super) problems: Vec<String>,
    /// Snapshot that they were read from.
    pub(super) snapshot_id: Option<i64>,
}

/// Reads the tenant's policies; before its table is there, or filled, those that come with firn.
pub(super) async fn of_tenant(client: &TenantClient, reference: &str) -> Result<Present> {
    let (namespace, name) = POLICY_RULES;
    let ident = TableIdent::new(namespace, name);
    let file_io = FileIo::new(StorageConfig::default());
    let new = Present { policies: shipped(), problems: Vec::new(), snapshot_id: None };
    let table = match Table::load(client, &file_io, reference, &ident).await {
        Ok(table) => table,
        Err(error) if error.kind == TableErrorKind::NotFound => {
            // Of an unknown reference the same is said: ask for it by name.
            client.reference(reference).await?;
            return Ok(new);
        }
        Err(error) => return Err(error.into()),
    };
    read(&table).await.with_context(|| format!("reading the tenant's policies at {reference}"))
}

/// Reads the policies of a loaded table.
pub(super) async fn read(table: &Table) -> Result<Present> {
    let Some(snapshot) = table.current_snapshot() else {
        let seeded = table.properties().contains_key(RULES_SEEDED_PROPERTY);
        let policies = if seeded { Vec::new() } else { shipped() };
        return Ok(Present { policies, problems: Vec::new(), snapshot_id: None });
    };
    let scan = TableScan::new(table, Some(snapshot.id)).await?;
    let session = datafusion::prelude::SessionContext::new();
    let batches = session.read_table(std::sync::Arc::new(scan))?.collect().await?;
    let mut present = Present { policies: Vec::new(), problems: Vec::new(), snapshot_id: Some(snapshot.id) };
    for rule in rules_from_batches(&batches) {
        match rule {
            Ok(policy) => present.policies.push(policy),
            Err(error) => present.problems.push(error.to_string()),
        }
    }
    present.policies.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(present)
}

/// What a policy asks, in one text.
pub(super) fn rule_text(policy: &Policy) -> String {
    if let Some(absence_s) = policy.absence_s {
        return format!("a record within {}", crate::duration::in_words(absence_s));
    }
    match &policy.window {
        None => policy.rule.clone(),
        Some(window) => {
            let size = crate::duration::in_words(window.size_s);
            format!("{} in windows of {size}, {} in a row", policy.rule.trim(), window.in_a_row)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = "id = 'x'\ntitle = 'X'\nseverity = 'low'\nrule = 'disk_encrypted'\n";

    const YAML: &str = "id: z\ntitle: Z\nseverity: low\nrule: disk_encrypted\n";

    #[test]
    fn folder_gives_its_policies_without_their_tests() {
        let folder = tempfile::tempdir().unwrap();
        assert!(files(&[folder.path().to_owned()]).unwrap_err().to_string().contains("no policy file"));
        for (name, text) in [
            ("b.toml", GOOD),
            ("a.toml", &GOOD.replace("'x'", "'y'")),
            ("b.test.toml", ""),
            ("c.md", ""),
            ("d.yaml", YAML),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let ids = |paths: &[PathBuf]| {
            policies(paths).map(|all| all.into_iter().map(|policy| policy.id).collect::<Vec<_>>())
        };
        assert_eq!(ids(&[folder.path().to_owned()]).unwrap(), ["y", "x", "z"]);
        let twice = ids(&[folder.path().to_owned(), folder.path().join("b.toml")]).unwrap_err().to_string();
        assert!(twice.contains("policy 'x' stands in another"), "{twice}");
    }
}
