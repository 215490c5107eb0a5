//! How many tables and references a tenant may have. Counted only where there is a limit.

use firn_auth::Access;

use crate::{
    CatalogError,
    version::{CommitRequest, Content, Op, Repository},
};

/// Refuses a commit that would leave its branch with more tables and views than the tenant may have. Two at once may both
/// pass: the limit is there to keep a tenant's size in hand, not to be met exactly.
pub(crate) async fn check_tables(
    repository: &Repository,
    access: &Access,
    request: &CommitRequest,
) -> Result<(), CatalogError> {
    let Some(most) = access.limits().tables else { return Ok(()) };
    let puts: Vec<_> = request
        .operations
        .iter()
        .filter_map(|operation| match operation {
            Op::Put { key, content, .. } if content.is_table_or_view() => Some(key.clone()),
            _ => None,
        })
        .collect();
    if puts.is_empty() {
        return Ok(());
    }
    let head = repository.resolve(&request.branch).await?.hash;
    let present = repository.get(head, &puts).await?;
    let added =
        present.iter().filter(|content| !content.as_ref().is_some_and(Content::is_table_or_view)).count();
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if added == 0 {
        return Ok(());
    }
    if added + repository.table_count(head).await? > most {
        return Err(full(access, most, "tables and views on a branch"));
    }
    Ok(())
}

/// Refuses one more branch or tag than the tenant may have.
pub(crate) async fn check_references(repository: &Repository, access: &Access) -> Result<(), CatalogError> {
    let Some(most) = access.limits().references else { return Ok(()) };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if repository.references().await?.len() < most {
        return Ok(());
    }
    Err(full(access, most, "branches and tags"))
}

/// Coming back later doesn't help, so this is no 429.
fn full(access: &Access, most: usize, what: &str) -> CatalogError {
    CatalogError::Forbidden(format!(
        "the tenant '{}' may have {most} {what}: drop some, or ask its operator for more",
        access.tenant()
    ))
}
