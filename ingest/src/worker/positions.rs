//! A tenant's positions: properties of the table that the records go to.

use std::collections::{BTreeMap, BTreeSet};

use firn_inventory::tables::{BRONZE_INVENTORY, position_property};

/// Next offset by partition; a partition that is absent has given nothing.
pub(super) type Positions = BTreeMap<i32, i64>;

const PREFIX: &str = "firn.position.";

/// Why positions can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PositionsError {
    #[error("property '{key}' of {table} is '{value}', not an offset: correct it to the next offset to take")]
    Damaged { table: String, key: String, value: String },
    #[error(
        "{table} was filled from topic {} and the topic is now {now}: it was recreated, and where to go on can't \
         be guessed. If the old topic's records are all in, {}; then the new topic is read from its beginning",
        .before.join(", "), way_out(.table, .before.first().map_or("", String::as_str))
    )]
    Recreated { table: String, before: Vec<String>, now: String },
}

/// How the positions in a topic that is gone are given up.
fn way_out(table: &str, topic: &str) -> String {
    let (namespace, name) = BRONZE_INVENTORY;
    if table == format!("{namespace}.{name}") {
        format!("run 'firn ingest positions --forget {topic}'")
    } else {
        format!("remove the properties {PREFIX}{topic}.*")
    }
}

/// Reads the positions in `topic_id` from table properties.
pub(super) fn read(
    properties: &BTreeMap<String, String>,
    topic_id: &str,
    (namespace, name): (&str, &str),
) -> Result<Positions, PositionsError> {
    let table = || format!("{namespace}.{name}");
    let mut positions = Positions::new();
    let mut others = BTreeSet::new();
    for (key, value) in properties.range(PREFIX.to_owned()..) {
        let Some((id, partition)) = key.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('.')) else {
            break;
        };
        if id != topic_id {
            others.insert(id.to_owned());
            continue;
        }
        let damaged = || PositionsError::Damaged { table: table(), key: key.clone(), value: value.clone() };
        let partition: i32 = partition.parse().map_err(|_| damaged())?;
        let offset: i64 = value.parse().map_err(|_| damaged())?;
        positions.insert(partition, offset);
    }
    // Positions in both: the tenant went on with this topic before.
    if positions.is_empty() && !others.is_empty() {
        return Err(PositionsError::Recreated {
            table: table(),
            before: others.into_iter().collect(),
            now: topic_id.to_owned(),
        });
    }
    Ok(positions)
}

/// The keys of all positions in a topic.
pub(super) fn keys_in(properties: &BTreeMap<String, String>, topic_id: &str) -> Vec<String> {
    let prefix = format!("{PREFIX}{topic_id}.");
    properties.keys().filter(|key| key.starts_with(&prefix)).cloned().collect()
}

/// Positions as properties.
pub(super) fn properties(positions: &Positions, topic_id: &str) -> BTreeMap<String, String> {
    positions
        .iter()
        .map(|(partition, next)| (position_property(topic_id, *partition), next.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{read as read_of, *};

    fn read(properties: &BTreeMap<String, String>, topic_id: &str) -> Result<Positions, PositionsError> {
        read_of(properties, topic_id, BRONZE_INVENTORY)
    }

    #[test]
    fn what_was_written_is_read() {
        let positions = Positions::from([(0, 7), (11, 123)]);
        let mut written = properties(&positions, "id-1");
        written.insert("a".into(), "b".into());
        written.insert("zz".into(), "b".into());
        assert_eq!(read(&written, "id-1"), Ok(positions));
        assert_eq!(read(&BTreeMap::new(), "id-1"), Ok(Positions::new()));
    }

    #[test]
    fn positions_in_another_topic_only_are_an_error_that_names_the_way_out() {
        let old = properties(&Positions::from([(0, 7)]), "old");
        let error = read(&old, "new").unwrap_err();
        assert!(error.to_string().contains("'firn ingest positions --forget old'"), "{error}");
        let mut both = old;
        both.extend(properties(&Positions::from([(0, 1)]), "new"));
        assert_eq!(read(&both, "new"), Ok(Positions::from([(0, 1)])));
    }

    #[test]
    fn damaged_positions_are_not_taken_for_absent() {
        let damaged = BTreeMap::from([("firn.position.id.0".to_owned(), "many".to_owned())]);
        assert!(matches!(read(&damaged, "id"), Err(PositionsError::Damaged { .. })));
    }
}
