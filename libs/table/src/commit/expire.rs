//! Which snapshots may go.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

/// Ids of the snapshots older than a time that no reference needs. Each branch keeps its newest `keep_last` ancestors, each
/// tag its snapshot; what lies between stays only if it is young.
pub(crate) fn expirable(metadata: &Value, older_than_ms: i64, keep_last: usize) -> Vec<i64> {
    let snapshots = metadata["snapshots"].as_array().map_or(&[][..], Vec::as_slice);
    let parents = snapshots
        .iter()
        .filter_map(|snapshot| {
            Some((snapshot["snapshot-id"].as_i64()?, snapshot["parent-snapshot-id"].as_i64()))
        })
        .collect::<HashMap<_, _>>();
    let mut kept = BTreeSet::new();
    for (head, is_branch) in heads(metadata) {
        let mut ancestors_left = if is_branch { keep_last.max(1) } else { 1 };
        let mut next = Some(head);
        while let Some(id) = next.filter(|_| ancestors_left > 0) {
            kept.insert(id);
            ancestors_left -= 1;
            next = parents.get(&id).copied().flatten();
        }
    }
    let old = snapshots
        .iter()
        .filter(|snapshot| snapshot["timestamp-ms"].as_i64().is_some_and(|at| at < older_than_ms));
    old.filter_map(|snapshot| snapshot["snapshot-id"].as_i64()).filter(|id| !kept.contains(id)).collect()
}

/// Snapshot of each reference, and whether it is a branch.
fn heads(metadata: &Value) -> Vec<(i64, bool)> {
    let refs = metadata["refs"].as_object().into_iter().flatten().map(|(_, reference)| reference);
    let mut heads = refs
        .filter_map(|reference| Some((reference["snapshot-id"].as_i64()?, reference["type"] != "tag")))
        .collect::<Vec<_>>();
    heads.extend(metadata["current-snapshot-id"].as_i64().map(|id| (id, true)));
    heads
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Snapshots 1 to 5 in a line, a second apart; `main` at 5.
    fn metadata(refs: Value) -> Value {
        let snapshots = (1..=5)
            .map(|id| match id {
                1 => json!({"snapshot-id": 1, "timestamp-ms": 1000}),
                id => json!({"snapshot-id": id, "parent-snapshot-id": id - 1, "timestamp-ms": id * 1000}),
            })
            .collect::<Vec<_>>();
        json!({"current-snapshot-id": 5, "snapshots": snapshots, "refs": refs})
    }

    #[test]
    fn old_snapshots_go_and_the_newest_stay() {
        assert_eq!(expirable(&metadata(json!({})), 4000, 1), vec![1, 2, 3]);
        assert_eq!(expirable(&metadata(json!({})), 10_000, 2), vec![1, 2, 3]);
        assert_eq!(expirable(&metadata(json!({})), 10_000, 0), vec![1, 2, 3, 4]);
        assert_eq!(expirable(&metadata(json!({})), 0, 1), Vec::<i64>::new());
    }

    #[test]
    fn what_references_need_stays() {
        let refs = json!({
            "main": {"snapshot-id": 5, "type": "branch"},
            "audit": {"snapshot-id": 2, "type": "tag"},
            "dev": {"snapshot-id": 4, "type": "branch"},
        });
        assert_eq!(expirable(&metadata(refs.clone()), 10_000, 1), vec![1, 3]);
        assert_eq!(expirable(&metadata(refs), 10_000, 3), vec![1]);
    }
}
