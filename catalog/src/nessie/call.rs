//! What every handler gets: the tenant, the path, the query, and who calls.

use std::collections::HashMap;

use axum::{
    extract::{FromRequestParts, Path, RawQuery},
    http::{HeaderMap, request::Parts},
};
use firn_auth::{Access, Action};
use serde::de::DeserializeOwned;

use super::{error::NessieError, filter::Filter, text};
use crate::{
    CatalogError,
    management::{AppState, Given, actor},
    version::{Hash, Key, Repository, Resolved, named_reference},
};

const DEFAULT_PAGE: usize = 250;
const LARGEST_PAGE: usize = 1000;

/// A request without its body.
pub(super) struct Call {
    state: AppState,
    headers: HeaderMap,
    path: HashMap<String, String>,
    query: Vec<(String, String)>,
}

impl FromRequestParts<AppState> for Call {
    type Rejection = NessieError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Self::Rejection> {
        let Path(path) = Path::<HashMap<String, String>>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| CatalogError::Invalid(rejection.body_text()))?;
        let Ok(RawQuery(query)) = RawQuery::from_request_parts(parts, state).await;
        let query = query.unwrap_or_default();
        let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Ok(Self { state: state.clone(), headers: parts.headers.clone(), path, query })
    }
}

impl Call {
    /// The tenant's repository, if the caller may do this somewhere in it.
    pub(super) async fn reach(&self, action: Action) -> Result<Reached, CatalogError> {
        let tenant = self.path("tenant");
        let access = self.state.guard.authorize(&self.headers, tenant, action).await?;
        let repository = self.state.versions.repository(tenant).by(actor(&access));
        Ok(Reached { repository, access })
    }

    /// What all handlers share.
    pub(super) fn state(&self) -> &AppState {
        &self.state
    }

    /// Takes note for the audit log that a content was answered. `reference` is the branch or tag that the path names.
    pub(super) fn note_read(&self, reached: &Reached, reference: Option<&str>, key: &Key) {
        let reference = reference.unwrap_or_else(|| self.path("ref"));
        self.state.reads.note(&reached.access, reference, key, Given::Metadata);
    }

    /// A part of the path.
    pub(super) fn path(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// The branch that the path names, and the commit that the caller expects in its history: `name` or `name@hash`.
    pub(super) fn target(&self) -> Result<(String, Option<Hash>), CatalogError> {
        let (name, hash) = self.path("ref").split_once('@').unwrap_or((self.path("ref"), ""));
        let name = if matches!(name, "" | "-") { "main" } else { name };
        let hash = if hash.is_empty() { None } else { Some(hash.parse().map_err(wrong_hash)?) };
        Ok((name.to_owned(), hash))
    }

    /// A parameter that isn't empty.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let given = self.query.iter().find(|(given, value)| given == name && !value.is_empty());
        given.map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub(super) fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// A key as a parameter.
    pub(super) fn key(&self, name: &str) -> Option<Key> {
        self.parameter(name).map(text::key)
    }

    /// Whether a parameter is `true`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// A parameter that is a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<usize>, CatalogError> {
        let Some(given) = self.parameter(name) else { return Ok(None) };
        let number = given.parse();
        number.map(Some).map_err(|_| CatalogError::Invalid(format!("'{name}' is a number, not '{given}'")))
    }

    /// Whether more than the usual is asked for.
    pub(super) fn fetches_all(&self) -> bool {
        self.parameter("fetch").is_some_and(|fetch| fetch.eq_ignore_ascii_case("ALL"))
    }

    /// The filter, if one is given.
    pub(super) fn filter(&self, variables: &'static [&'static str]) -> Result<Option<Filter>, CatalogError> {
        self.parameter("filter").map(|source| Filter::parse(source, variables)).transpose()
    }

    /// How many items a page may have.
    pub(super) fn page_size(&self) -> Result<usize, CatalogError> {
        let size = self.number("max-records")?.filter(|size| *size > 0);
        Ok(size.map_or(DEFAULT_PAGE, |size| size.min(LARGEST_PAGE)))
    }
}

/// A tenant's repository, and what the caller may do there.
pub(super) struct Reached {
    pub(super) repository: Repository,
    pub(super) access: Access,
}

impl Reached {
    /// The commit that an expression means, and the reference it names, if the caller may read anything there.
    pub(super) async fn read(&self, expression: &str) -> Result<(Resolved, Option<String>), CatalogError> {
        let name = named_reference(expression)?;
        self.access.require(Action::Read, name.as_deref())?;
        Ok((self.repository.resolve(expression).await?, name))
    }

    /// The same, if the caller may read all of it: for what tells of keys that nobody can leave out.
    pub(super) async fn read_all(&self, expression: &str) -> Result<Resolved, CatalogError> {
        let name = named_reference(expression)?;
        self.access.require_all(Action::Read, name.as_deref())?;
        self.repository.resolve(expression).await
    }
}

/// Reads a JSON body.
pub(super) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CatalogError> {
    serde_json::from_slice(bytes)
        .map_err(|error| CatalogError::Invalid(format!("the body can't be read: {error}")))
}

/// For hashes in paths and bodies.
pub(super) fn wrong_hash(error: impl std::fmt::Display) -> CatalogError {
    CatalogError::Invalid(error.to_string())
}
