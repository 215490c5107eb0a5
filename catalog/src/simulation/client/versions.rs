//! Branches, merges and contents without files, straight at the version store: nothing here can be repeated, so an answer that is
//! lost stays unknown.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    super::{
        history::{Saw, Verdict, What},
        world::{NAMESPACE, Replica},
    },
    Client, verdict_of,
};
use crate::{
    CatalogError,
    store::Hash,
    version::{CommitRequest, Content, Key, MergeMode, MergeRequest, MergeSource, Meta, Op},
};

const VALUES: u64 = 3;

impl Client {
    /// Where a branch is; `None` if nobody says, or it isn't there.
    async fn head(&self, replica: &Replica, branch: &str) -> Option<Hash> {
        let began = self.world.sequence.next();
        match self.wait(replica.repository.resolve(branch)).await? {
            Ok(resolved) => {
                self.saw(branch, began, Saw::Head(Some(resolved.hash)));
                Some(resolved.hash)
            }
            Err(CatalogError::NotFound { .. }) => {
                self.saw(branch, began, Saw::Head(None));
                None
            }
            Err(CatalogError::Unavailable(_)) => None,
            Err(error) => {
                self.world.history().wrong.push(format!("looking where {branch} is: {error}"));
                None
            }
        }
    }

    fn meta(&self) -> Meta {
        let committer = format!("client {}", self.number);
        Meta { committer, message: self.name(), ..Meta::default() }
    }

    /// Sets or removes a value, on what was there or on the state that was seen.
    pub(super) async fn commit_value(&self) {
        let (branch, replica) = (self.world.branch(), self.world.replica());
        let key = Key(vec![NAMESPACE.to_owned(), format!("v{}", self.world.chance.below(VALUES))]);
        let Some(head) = self.head(&replica, &branch).await else { return };
        let keys = [key.clone()];
        let Some(Ok(mut found)) = self.wait(replica.repository.get(head, &keys)).await else { return };
        let present = found.pop().flatten();
        let by_head = self.world.chance.happens(0.5);
        let expected = (!by_head).then(|| present.clone());
        let operation = match &present {
            Some(_) if self.world.chance.happens(0.2) => Op::Delete { key, expected },
            _ => {
                let mut content = Content::new(json!({"type": "TEST", "value": self.name()}));
                if let Some(id) = present.as_ref().and_then(Content::id) {
                    content = content.with_id(id);
                }
                Op::Put { key, content, expected }
            }
        };
        let request = CommitRequest {
            branch: branch.clone(),
            expected_head: by_head.then_some(head),
            operations: vec![operation],
            meta: self.meta(),
            idempotency: None,
        };
        let began = self.world.sequence.next();
        let answer = self.wait(replica.repository.commit(request)).await;
        let how = format!("set a value through {}", replica.number);
        self.note(What::Commit, &branch, began, verdict_of(answer.as_ref()), &how);
    }

    pub(super) async fn create_branch(&self) {
        let (from, replica) = (self.world.branch(), self.world.replica());
        let Some(head) = self.head(&replica, &from).await else { return };
        let branch = format!("b{}", self.name());
        let began = self.world.sequence.next();
        let answer = self.wait(replica.repository.create_reference(&branch, false, head)).await;
        let verdict = verdict_of(answer.as_ref());
        if verdict == Verdict::Acknowledged {
            self.world.branches().push(branch.clone());
        }
        self.note(What::Branch, &branch, began, verdict, &format!("made from {from}"));
    }

    pub(super) async fn delete_branch(&self) {
        let (branch, replica) = (self.world.branch(), self.world.replica());
        if branch == "main" {
            return;
        }
        let began = self.world.sequence.next();
        let answer = self.wait(replica.repository.delete_reference(&branch, None)).await;
        self.world.branches().retain(|other| *other != branch);
        self.note(What::NoBranch, &branch, began, verdict_of(answer.as_ref()), "deleted");
    }

    pub(super) async fn merge(&self) {
        let (from, into, replica) = (self.world.branch(), self.world.branch(), self.world.replica());
        let Some(source) = self.head(&replica, &from).await else { return };
        let request = MergeRequest {
            branch: into.clone(),
            expected_head: None,
            source: MergeSource::Merge(source),
            meta: self.meta(),
            default_mode: MergeMode::Normal,
            modes: BTreeMap::new(),
            reconciled: Vec::new(),
            dry_run: false,
            idempotency: None,
        };
        let began = self.world.sequence.next();
        let answer = self.wait(replica.repository.merge(request)).await;
        let verdict = match &answer {
            // Conflicts, or nothing to merge.
            Some(Ok(merged)) if !merged.applied => Verdict::Refused,
            answer => verdict_of(answer.as_ref()),
        };
        self.note(What::Commit, &into, began, verdict, &format!("merge {from} through {}", replica.number));
    }
}
