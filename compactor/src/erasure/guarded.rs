//! Legal holds against what an erasure found.

use firn_catalog_client::{Hold, TenantClient, nessie::Reference};
use firn_table::{FileIo, RowMatch, Scrub, Survey};

use super::fence::{tables, uuid};
use crate::CompactorError;

/// What forbids to erase what a survey found, in words; `None` if nothing does.
pub(super) async fn by_holds(
    client: &TenantClient,
    file_io: &FileIo,
    scrub: &Scrub,
    survey: &Survey,
) -> Result<Option<String>, CompactorError> {
    let holds = client.holds().await?;
    for hold in holds.iter().filter(|hold| hold.active) {
        if is_guarded(client, file_io, scrub, survey, hold).await? {
            let text = format!(
                "{} keeps some of the data: this goes on once it is released ('firn hold release {}')",
                hold.describe(),
                hold.id
            );
            return Ok(Some(text));
        }
    }
    Ok(None)
}

async fn is_guarded(
    client: &TenantClient,
    file_io: &FileIo,
    scrub: &Scrub,
    survey: &Survey,
    hold: &Hold,
) -> Result<bool, CompactorError> {
    if let Some(subject) = &hold.held.subject {
        let held = RowMatch::default().with_keys(&[subject.column.as_str()], [vec![subject.value.clone()]]);
        return Ok(scrub.shared(survey, &held).await? > 0);
    }
    let named: Vec<_> = if let Some(name) = &hold.held.table {
        let all = tables(client, file_io, |_: &Reference| true).await?;
        all.into_iter().filter(|(_, table)| table.ident().to_string() == *name).collect()
    } else if let Some(name) = &hold.held.reference {
        tables(client, file_io, |reference: &Reference| reference.name() == name.as_str()).await?
    } else {
        return Ok(true);
    };
    Ok(named.iter().any(|(_, table)| survey.tables.contains(uuid(table))))
}
