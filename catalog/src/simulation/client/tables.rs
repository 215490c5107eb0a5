//! Tables, over Iceberg REST: each commit counts one up and insists on the count that it saw.

use serde_json::{Value, json};

use super::{
    super::{
        history::{Saw, Verdict, What},
        world::{NAMESPACE, TENANT},
    },
    Answer, Client, verdict,
};
use crate::version::Key;

const TABLES: u64 = 4;
/// Tries of a request that can be repeated.
const ATTEMPTS: usize = 4;

impl Client {
    /// One of the tables' names.
    pub(super) fn table(&self) -> String {
        format!("t{}", self.world.chance.below(TABLES))
    }

    /// Loads a table; `None` if there was no answer that has one.
    pub(super) async fn load(&self, branch: &str, table: &str) -> Option<Value> {
        let (began, replica) = (self.world.sequence.next(), self.world.replica());
        let path = format!("{}/tables/{table}", namespace(branch));
        let answer = self.ask(&replica, "GET", &path, None, None).await;
        let status = answer.as_ref().map(|(status, _)| *status);
        self.world.ledger.note(&format!(
            "{} loads {table} on {branch} from {}: {status:?}",
            self.name(),
            replica.number
        ));
        let key = Key(vec![NAMESPACE.to_owned(), table.to_owned()]);
        let (status, body) = answer?;
        match status {
            200 => {
                let location = body["metadata-location"].as_str().map(str::to_owned);
                self.saw(branch, began, Saw::Table(key, location));
                Some(body)
            }
            404 => {
                self.saw(branch, began, Saw::Table(key, None));
                None
            }
            503 => None,
            other => {
                self.world.history().wrong.push(format!("loading {table} on {branch}: {other} {body}"));
                None
            }
        }
    }

    pub(super) async fn create_table(&self) {
        let (branch, table) = (self.world.branch(), self.table());
        let body = json!({
            "name": table,
            "schema": {"type": "struct", "fields": [{"id": 1, "name": "id", "type": "long", "required": true}]},
            "properties": {"count": "0", "change": self.name()},
        });
        let path = format!("{}/tables", namespace(&branch));
        self.submit(&branch, &format!("create {table}"), &path, &body).await;
    }

    pub(super) async fn commit_table(&self) {
        let (branch, table) = (self.world.branch(), self.table());
        let Some(loaded) = self.load(&branch, &table).await else { return };
        let Some(change) = self.count_up(&loaded) else { return };
        let path = format!("{}/tables/{table}", namespace(&branch));
        let answer = self.submit(&branch, &format!("commit to {table}"), &path, &change).await;
        if let Some((200, body)) = answer
            && body["metadata"]["properties"]["change"] != self.name()
        {
            self.world.history().wrong.push(format!("{}: the answer is another commit's", self.name()));
        }
    }

    pub(super) async fn commit_tables(&self) {
        let branch = self.world.branch();
        let first = self.world.chance.below(TABLES);
        let mut changes = Vec::new();
        for number in [first, (first + 1) % TABLES] {
            let table = format!("t{number}");
            let Some(loaded) = self.load(&branch, &table).await else { return };
            let Some(mut change) = self.count_up(&loaded) else { return };
            change["identifier"] = json!({"namespace": [NAMESPACE], "name": table});
            changes.push(change);
        }
        let path = format!("/iceberg/v1/{}/transactions/commit", prefix(&branch));
        self.submit(&branch, "commit to two tables", &path, &json!({"table-changes": changes})).await;
    }

    /// The next count; half of the time with a snapshot, too.
    fn count_up(&self, loaded: &Value) -> Option<Value> {
        let metadata = &loaded["metadata"];
        let seen = metadata["properties"]["count"].as_str()?;
        let next = seen.parse::<u64>().ok()? + 1;
        let set = json!({"count": next.to_string(), "change": self.name()});
        let mut requirements = vec![
            json!({"type": "assert-table-uuid", "uuid": metadata["table-uuid"]}),
            json!({"type": "assert-property", "key": "count", "value": seen}),
        ];
        let mut updates = vec![json!({"action": "set-properties", "updates": set})];
        if self.world.chance.happens(0.5) {
            let parent = metadata["current-snapshot-id"].as_i64().filter(|id| *id != -1);
            let (id, sequence) = (self.snapshot_id(), metadata["last-sequence-number"].as_i64()? + 1);
            let mut snapshot = json!({
                "snapshot-id": id,
                "sequence-number": sequence,
                "timestamp-ms": metadata["last-updated-ms"],
                "manifest-list": format!("{}/metadata/snap-{id}.avro", metadata["location"].as_str()?),
                "summary": {"operation": "append"},
                "schema-id": 0,
            });
            if let Some(parent) = parent {
                snapshot["parent-snapshot-id"] = json!(parent);
            }
            requirements
                .push(json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": parent}));
            updates.push(json!({"action": "add-snapshot", "snapshot": snapshot}));
            updates.push(json!({
                "action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": id,
            }));
        }
        Some(json!({"requirements": requirements, "updates": updates}))
    }

    fn snapshot_id(&self) -> u64 {
        (self.number + 1) * 1_000_000 + self.turn
    }

    /// Sends a change; most of the time with a key, by which it can be sent again while nobody knows what became of it.
    async fn submit(&self, branch: &str, how: &str, path: &str, body: &Value) -> Answer {
        let began = self.world.sequence.next();
        let key = self.world.chance.happens(0.7).then(|| {
            let id = u128::from(self.number) << 64 | u128::from(self.turn);
            uuid::Uuid::from_u128(id).to_string()
        });
        let attempts = if key.is_some() { ATTEMPTS } else { 1 };
        let (mut answer, mut told, mut doubt) = (None, String::new(), false);
        for _ in 0..attempts {
            let replica = self.world.replica();
            answer = self.ask(&replica, "POST", path, key.as_deref(), Some(body)).await;
            let status = answer.as_ref().map_or(0, |(status, _)| *status);
            told += &format!(" {status} from {}", replica.number);
            // Of an earlier try, 503 says nothing.
            doubt = verdict(&answer) == Verdict::Unknown || doubt && status == 503;
            if !doubt {
                break;
            }
        }
        let verdict = if doubt { Verdict::Unknown } else { verdict(&answer) };
        self.note(What::Commit, branch, began, verdict, &format!("{how}:{told}"));
        answer
    }
}

fn prefix(branch: &str) -> String {
    if branch == "main" { TENANT.to_owned() } else { format!("{TENANT}~{}", hex::encode(branch)) }
}

fn namespace(branch: &str) -> String {
    format!("/iceberg/v1/{}/namespaces/{NAMESPACE}", prefix(branch))
}
