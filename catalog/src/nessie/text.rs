//! Keys, times and commit metadata in Nessie's writing.

use chrono::{DateTime, SecondsFormat, Utc};
use firn_catalog_client::nessie::{CommitMeta, ContentKey};

use crate::{
    CatalogError,
    version::{Commit, Hash, Key, Meta},
};

/// Elements are joined by dots; a dot within one is written as one of these.
const ESCAPED_DOTS: [char; 2] = ['\u{1d}', '\u{0}'];

/// A key from one text.
pub(super) fn key(text: &str) -> Key {
    Key(text.split('.').map(|element| element.replace(ESCAPED_DOTS, ".")).collect())
}

/// A key as one text, for page tokens.
pub(super) fn key_text(key: &Key) -> String {
    let elements: Vec<String> = key.0.iter().map(|element| element.replace('.', "\u{1d}")).collect();
    elements.join(".")
}

/// A key in JSON.
pub(super) fn wire_key(key: &Key) -> ContentKey {
    ContentKey { elements: key.0.clone() }
}

/// A key from JSON.
pub(super) fn own_key(key: ContentKey) -> Key {
    Key(key.elements)
}

fn instant(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// A commit's metadata.
pub(super) fn wire_meta(commit: &Commit) -> CommitMeta {
    let meta = &commit.meta;
    let authors = if meta.authors.is_empty() { vec![meta.committer.clone()] } else { meta.authors.clone() };
    CommitMeta {
        hash: Some(commit.hash.to_string()),
        committer: Some(meta.committer.clone()),
        authors,
        message: meta.message.clone(),
        commit_time: Some(instant(commit.time)),
        author_time: Some(instant(meta.author_time.unwrap_or(commit.time))),
        all_properties: meta.properties.clone(),
        parent_commit_hashes: commit.parents.iter().map(Hash::to_string).collect(),
    }
}

/// Metadata of a commit to be made. Committer, time, hash and parents are the server's to say.
pub(super) fn own_meta(meta: CommitMeta, committer: &str) -> Result<Meta, CatalogError> {
    let author_time = meta.author_time.as_deref().map(DateTime::parse_from_rfc3339).transpose();
    let author_time = author_time.map_err(|error| {
        CatalogError::Invalid(format!("'authorTime' is an instant such as 2026-11-22T10:00:00Z: {error}"))
    })?;
    Ok(Meta {
        committer: committer.to_owned(),
        authors: meta.authors,
        author_time: author_time.map(|time| time.to_utc()),
        message: meta.message,
        properties: meta.all_properties,
    })
}
