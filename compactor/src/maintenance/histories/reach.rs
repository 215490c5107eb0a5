//! What a catalog's states consist of, read from the files themselves: nothing here uses what the tests are about.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use apache_avro::{Reader, types::Value as Avro};
use serde_json::Value;

/// Status of an entry whose file its snapshot removed.
const DELETED: i32 = 2;

/// A metadata file with all that it leads to. Panics if one of them is missing.
pub(super) fn reach(metadata: &Path, reached: &mut BTreeSet<PathBuf>) {
    if !reached.insert(metadata.to_owned()) {
        return;
    }
    let document: Value = serde_json::from_slice(&read(metadata)).unwrap();
    for snapshot in document["snapshots"].as_array().into_iter().flatten() {
        let list = local(snapshot["manifest-list"].as_str().unwrap());
        if reached.insert(list.clone()) {
            for manifest in records(&list) {
                reach_manifest(&local(text(&field(&manifest, "manifest_path"))), reached);
            }
        }
    }
}

fn reach_manifest(manifest: &Path, reached: &mut BTreeSet<PathBuf>) {
    if !reached.insert(manifest.to_owned()) {
        return;
    }
    for entry in records(manifest) {
        if field(&entry, "status") != Avro::Int(DELETED) {
            let file = local(text(&field(&field(&entry, "data_file"), "file_path")));
            assert!(file.is_file(), "{} is needed and gone", file.display());
            reached.insert(file);
        }
    }
}

fn records(path: &Path) -> Vec<Avro> {
    let bytes = read(path);
    Reader::new(&bytes[..]).unwrap().map(Result::unwrap).collect()
}

fn field(record: &Avro, name: &str) -> Avro {
    let Avro::Record(fields) = record else { panic!("{record:?}") };
    fields.iter().find(|(field, _)| field == name).unwrap().1.clone()
}

fn text(value: &Avro) -> &str {
    let Avro::String(text) = value else { panic!("{value:?}") };
    text
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{} is needed: {error}", path.display()))
}

/// The path of a location.
pub(super) fn local(location: &str) -> PathBuf {
    location.strip_prefix("file://").unwrap().into()
}

/// All files below a folder.
pub(super) fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.insert(path);
        }
    }
    files
}
