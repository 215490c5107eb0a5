//! Deleting what was replaced, and what nothing leads to.

use std::collections::HashSet;

use iceberg::spec::{FormatVersion, Manifest, ManifestList};

use super::{Scrub, Survey, names::plain, survey::unreadable};
use crate::{TableError, TableErrorKind};

/// What holds or leads to rows that are meant, and is reached by nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doomed {
    /// Files that may go, by location.
    pub files: Vec<String>,
    /// Files that are too young to be sure that no commit under way will lead to them.
    pub young: Vec<String>,
}

impl Scrub {
    /// What is to be deleted: what this scrub replaced, and, if they are as old as `older_than_ms` (milliseconds since the
    /// epoch), files that hold such rows or lead to some and that nothing leads to. `survey` is one that found nothing reached.
    pub async fn doomed(&self, survey: &Survey, older_than_ms: i64) -> Result<Doomed, TableError> {
        let tree = &survey.tree;
        let lists: HashSet<String> = tree.lists.iter().map(|list| plain(&list.location)).collect();
        let is_reached = |key: &String| {
            lists.contains(key) || tree.manifests.contains_key(key) || tree.files.contains_key(key)
        };
        let mut gone: HashSet<String> = survey.dirty.keys().cloned().collect();
        gone.extend(self.replaced.iter().cloned());
        gone.retain(|key| !is_reached(key));
        // Manifests that lead to what is gone, then lists that lead to such manifests.
        let strays = tree.stored.iter().filter(|(key, _)| key.ends_with(".avro") && !is_reached(key));
        let mut named = Vec::new();
        for (key, file) in strays {
            let avro = match self.file_io.read(&file.location).await {
                Err(error) if error.kind == TableErrorKind::NotFound => continue,
                read => read?,
            };
            let names = tokio::task::spawn_blocking(move || named_files(&avro)).await;
            named.push((key, names.map_err(|error| unreadable(&file.location, error))?));
        }
        for _ in 0..2 {
            for (key, names) in &named {
                if names.iter().any(|name| gone.contains(name) || self.is_missing(survey, name)) {
                    gone.insert((*key).clone());
                }
            }
        }
        let mut doomed = Doomed::default();
        for key in gone {
            let Some(file) = tree.stored.get(&key) else { continue };
            let is_certain = self.replaced.contains(&key) || file.modified_ms <= older_than_ms;
            let place = if is_certain { &mut doomed.files } else { &mut doomed.young };
            place.push(file.location.clone());
        }
        doomed.files.sort();
        doomed.young.sort();
        Ok(doomed)
    }

    /// Deletes files, as [`Scrub::doomed`] named them; one that is gone already is no error.
    pub async fn remove(&mut self, files: &[String]) -> Result<(), TableError> {
        for location in files {
            self.file_io.delete(location).await?;
            self.replaced.remove(&plain(location));
        }
        Ok(())
    }

    /// Whether a file below the folder is not there.
    fn is_missing(&self, survey: &Survey, key: &str) -> bool {
        key.starts_with(&format!("{}/", plain(&self.root))) && !survey.tree.stored.contains_key(key)
    }
}

/// What a manifest or manifest list names, by plain location; nothing if it is neither.
fn named_files(avro: &[u8]) -> Vec<String> {
    if let Ok(manifest) = Manifest::parse_avro(avro) {
        return manifest.entries().iter().map(|entry| plain(entry.file_path())).collect();
    }
    for version in [FormatVersion::V2, FormatVersion::V3] {
        if let Ok(list) = ManifestList::parse_with_version(avro, version) {
            return list.entries().iter().map(|manifest| plain(&manifest.manifest_path)).collect();
        }
    }
    Vec::new()
}
