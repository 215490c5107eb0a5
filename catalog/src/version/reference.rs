//! Creating, moving and deleting branches and tags.

use super::{
    NamedRef, Repository,
    events::reference_event,
    heads::{no_reference, no_tenant},
    syntax::{MAIN, checked_name},
};
use crate::{
    CatalogError,
    store::{DocumentPut, Hash, NewEvent, ReferenceMove, Refusal, Write, Written},
};

/// Without an expected hash a move reads the head first; commits that win in between make it try again.
const MAX_ATTEMPTS: usize = 64;
/// Kind of the documents that say when a reference goes, by its name.
pub(crate) const EXPIRY: &str = "expiry";

impl Repository {
    /// All branches and tags by name.
    pub async fn references(&self) -> Result<Vec<NamedRef>, CatalogError> {
        let rows = self.shared.store.references(&self.name).await?;
        Ok(rows.into_iter().map(NamedRef::from).collect())
    }

    /// Creates a branch or tag.
    pub async fn create_reference(&self, name: &str, tag: bool, at: Hash) -> Result<NamedRef, CatalogError> {
        let name = checked_name(name)?;
        self.check_kept(at).await?;
        let event = reference_event("reference-created", name, tag, None, Some(at), &self.actor);
        let moved = ReferenceMove { name: name.to_owned(), tag, from: None, to: Some(at) };
        // What was said of an earlier one of the name says nothing of this one.
        let forgotten = DocumentPut {
            kind: EXPIRY.to_owned(),
            tenant: self.name.to_string(),
            key: name.to_owned(),
            expected_version: None,
            body: None,
        };
        match self.move_reference(moved, event, vec![forgotten]).await? {
            Moved::Done => Ok(NamedRef { name: name.to_owned(), tag, hash: at }),
            Moved::Elsewhere(_) => {
                Err(CatalogError::AlreadyExists(format!("a branch or tag named '{name}' exists already")))
            }
        }
    }

    /// Points a reference elsewhere, if it is at `expected`.
    pub async fn assign_reference(
        &self,
        name: &str,
        expected: Option<Hash>,
        to: Hash,
    ) -> Result<NamedRef, CatalogError> {
        self.check_kept(to).await?;
        let old = self.move_existing("reference-assigned", name, expected, Some(to)).await?;
        Ok(NamedRef { hash: to, ..old })
    }

    /// Deletes a reference, if it is at `expected`; `main` can't be deleted. Answers where it was.
    pub async fn delete_reference(
        &self,
        name: &str,
        expected: Option<Hash>,
    ) -> Result<NamedRef, CatalogError> {
        if name == MAIN {
            return Err(CatalogError::Invalid(format!(
                "'{MAIN}' is the default branch and can't be deleted"
            )));
        }
        self.move_existing("reference-deleted", name, expected, None).await
    }

    async fn move_existing(
        &self,
        kind: &'static str,
        name: &str,
        expected: Option<Hash>,
        to: Option<Hash>,
    ) -> Result<NamedRef, CatalogError> {
        for _ in 0..MAX_ATTEMPTS {
            let found = self.shared.heads.read(&self.name, name).await?;
            let from = expected.unwrap_or(found.hash);
            if from != found.hash {
                return Err(elsewhere(name, from, found.hash));
            }
            let event = reference_event(kind, name, found.tag, Some(from), to, &self.actor);
            let moved = ReferenceMove { name: name.to_owned(), tag: found.tag, from: Some(from), to };
            match (self.move_reference(moved, event, Vec::new()).await?, expected) {
                (Moved::Done, _) => return Ok(found),
                (Moved::Elsewhere(None), _) => return Err(no_reference(name)),
                (Moved::Elsewhere(Some(now)), Some(expected)) => return Err(elsewhere(name, expected, now)),
                (Moved::Elsewhere(Some(_)), None) => {}
            }
        }
        Err(CatalogError::Unavailable(format!(
            "'{name}' moves too often: give the hash where it is expected"
        )))
    }

    async fn move_reference(
        &self,
        moved: ReferenceMove,
        event: NewEvent,
        documents: Vec<DocumentPut>,
    ) -> Result<Moved, CatalogError> {
        let write = Write {
            repository: self.name.to_string(),
            references: vec![moved],
            documents,
            events: vec![event],
            ..Write::default()
        };
        match self.shared.store.write(&write).await? {
            Written::Done => Ok(Moved::Done),
            Written::Refused(Refusal::Reference { found, .. }) => Ok(Moved::Elsewhere(found)),
            Written::Refused(_) => Err(no_tenant(&self.name)),
        }
    }
}

enum Moved {
    Done,
    Elsewhere(Option<Hash>),
}

fn elsewhere(name: &str, expected: Hash, found: Hash) -> CatalogError {
    CatalogError::ReferenceConflict(format!(
        "'{name}' is at {found}, not at the expected {expected}: load it again"
    ))
}
