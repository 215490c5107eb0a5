//! Tables and views as the version store's contents.

use firn_catalog_client::iceberg::TableIdent;
use serde_json::{Map, Value, json};

use super::{
    call::Scope,
    error::ApiError,
    names::{ident_key, key_ident},
};
use crate::{
    CatalogError,
    error::Missing,
    management::Given,
    metadata::Document,
    version::{Content, Key, Resolved},
};

/// What a key of the Iceberg API holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Table,
    View,
}

impl Kind {
    /// Nessie's type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Table => "ICEBERG_TABLE",
            Self::View => "ICEBERG_VIEW",
        }
    }

    pub(super) fn missing(self) -> Missing {
        match self {
            Self::Table => Missing::Table,
            Self::View => Missing::View,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
        }
    }

    pub(super) fn is_kind_of(self, content: &Content) -> bool {
        content.content_type() == self.content_type()
    }

    /// The content of a document at a location. Fields of the former content that Firn doesn't know are kept.
    pub(crate) fn content(self, former: Option<&Content>, location: &str, document: &Document) -> Content {
        let mut fields: Map<String, Value> =
            former.and_then(|former| former.0.as_object().cloned()).unwrap_or_default();
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        set("type", json!(self.content_type()));
        set("metadataLocation", json!(location));
        let id = |name: &str, none: i64| json!(document.int(name).unwrap_or(none));
        match self {
            Self::Table => {
                set("snapshotId", id("current-snapshot-id", -1));
                set("schemaId", id("current-schema-id", 0));
                set("specId", id("default-spec-id", 0));
                set("sortOrderId", id("default-sort-order-id", 0));
            }
            Self::View => {
                set("versionId", id("current-version-id", 1));
                set("schemaId", json!(document.current_view_schema_id()));
            }
        }
        Content::new(Value::Object(fields))
    }
}

/// A table or view that was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) ident: TableIdent,
    pub(super) key: Key,
    pub(super) resolved: Resolved,
    /// How the reference was spelled.
    pub(super) spec: String,
    pub(super) content: Content,
}

impl Found {
    /// Where its metadata file lies.
    pub(super) fn metadata_location(&self) -> Result<&str, ApiError> {
        metadata_location(&self.key, &self.content)
    }
}

/// Where a content's metadata file lies.
pub(super) fn metadata_location<'a>(key: &Key, content: &'a Content) -> Result<&'a str, ApiError> {
    content.0.get("metadataLocation").and_then(Value::as_str).ok_or_else(|| {
        CatalogError::Invalid(format!("the content of '{}' has no metadataLocation", key_ident(key))).into()
    })
}

impl Scope {
    /// Finds a table or view by its literal name.
    pub(super) async fn find_literal(
        &self,
        kind: Kind,
        ident: &TableIdent,
    ) -> Result<Option<Found>, ApiError> {
        let key = ident_key(ident)?;
        self.permit(&key)?;
        let resolved = self.resolve().await?;
        let content = self.repository.get(resolved.hash, std::slice::from_ref(&key)).await?.pop().flatten();
        let found = content.filter(|content| kind.is_kind_of(content));
        Ok(found.map(|content| Found {
            ident: ident.clone(),
            key,
            resolved,
            spec: self.spec.clone(),
            content,
        }))
    }

    /// Finds a table or view; if there is none of that name, what follows its last `@` may name a reference.
    pub(super) async fn find(&self, kind: Kind, ident: &TableIdent) -> Result<Option<Found>, ApiError> {
        if let Some(found) = self.find_literal(kind, ident).await? {
            return Ok(Some(found));
        }
        let Some((name, spec)) =
            ident.name.rsplit_once('@').filter(|(name, spec)| !name.is_empty() && !spec.is_empty())
        else {
            return Ok(None);
        };
        let Ok(elsewhere) = self.elsewhere(spec) else { return Ok(None) };
        let plain = TableIdent { namespace: ident.namespace.clone(), name: name.to_owned() };
        elsewhere.permit(&ident_key(&plain)?)?;
        match elsewhere.repository.resolve(spec).await {
            Ok(_) => elsewhere.find_literal(kind, &plain).await,
            Err(CatalogError::NotFound { .. } | CatalogError::Invalid(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The same; a 404 that names it if there is none.
    pub(super) async fn need(&self, kind: Kind, ident: &TableIdent) -> Result<Found, ApiError> {
        let found = self.find(kind, ident).await?;
        found.ok_or_else(|| ApiError::missing(kind.missing(), &ident.to_string()))
    }

    /// Takes note for the audit log of what the caller is given of what was found.
    pub(super) fn note_read(&self, found: &Found, given: Given) {
        self.state.reads.note(&self.access, &found.spec, &found.key, given);
    }

    /// Refuses a name that a table or view has already.
    pub(super) async fn refuse_taken(
        &self,
        resolved: &Resolved,
        ident: &TableIdent,
    ) -> Result<Key, ApiError> {
        let key = ident_key(ident)?;
        self.permit(&key)?;
        match self.repository.get(resolved.hash, std::slice::from_ref(&key)).await?.pop().flatten() {
            None => Ok(key),
            Some(content) => Err(taken(ident, &content)),
        }
    }
}

/// 409 for a name that is taken, saying by what.
pub(super) fn taken(ident: &TableIdent, content: &Content) -> ApiError {
    let what = match content.content_type() {
        "ICEBERG_TABLE" => "table",
        "ICEBERG_VIEW" => "view",
        "NAMESPACE" => "namespace",
        _ => "content of another kind",
    };
    ApiError::exists(format!("a {what} named '{ident}' exists already"))
}
