//! Refusals on their way into the audit log: gathered, so that however many requests are refused one writes at a time, and
//! bounded, since who is refused is the one who decides how many there are.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{Action, Denied, Principal, TenantName};

/// More different refusals than this wait for nobody.
const MAX_WAITING: usize = 1_000;

/// A refusal, or several that differ in nothing but their time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Where.
    #[schema(value_type = String)]
    pub tenant: TenantName,
    /// Who, by the principal's full name.
    pub principal: String,
    /// What was refused.
    pub action: Action,
    /// What was answered.
    pub reason: String,
    /// How often.
    pub count: u64,
    /// The `x-request-id` of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Those that aren't written yet.
#[derive(Debug, Default)]
pub struct Refusals {
    /// `Some` while somebody writes.
    waiting: Mutex<Option<Waiting>>,
}

/// Count and last request id, by what makes a refusal another one.
type Waiting = HashMap<(TenantName, String, Action, String), (u64, Option<String>)>;

impl Refusals {
    /// Takes note of one. Answers whether nobody writes: then it is for the caller to begin, with [`Refusals::take`] until
    /// there is nothing more.
    #[must_use]
    pub fn add(
        &self,
        tenant: &TenantName,
        principal: &Principal,
        action: Action,
        why: &Denied,
        request_id: Option<&str>,
    ) -> bool {
        self.count(Refused {
            tenant: tenant.clone(),
            principal: principal.name().to_owned(),
            action,
            reason: why.to_string(),
            count: 1,
            request_id: request_id.map(str::to_owned),
        })
    }

    fn count(&self, refused: Refused) -> bool {
        let Refused { tenant, principal, action, reason, count, request_id } = refused;
        metrics::counter!("firn_access_denied_total").increment(count);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = waiting.is_none();
        let all = waiting.get_or_insert_default();
        let key = (tenant, principal, action, reason);
        if all.len() < MAX_WAITING || all.contains_key(&key) {
            let seen = all.entry(key).or_default();
            *seen = (seen.0 + count, request_id);
        } else {
            Self::lost(count);
        }
        idle
    }

    /// Says that so many are missing in the audit log.
    pub fn lost(count: u64) {
        metrics::counter!("firn_audit_lost_total").increment(count);
    }

    /// All that wait; `None` if there are none, and whoever wrote is done.
    pub fn take(&self) -> Option<Vec<Refused>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting.replace(Waiting::new()).unwrap_or_default();
        if found.is_empty() {
            *waiting = None;
            return None;
        }
        let each = |((tenant, principal, action, reason), (count, request_id))| Refused {
            tenant,
            principal,
            action,
            reason,
            count,
            request_id,
        };
        Some(found.into_iter().map(each).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(principal: &str, request_id: &str) -> Refused {
        Refused {
            tenant: "acme".parse().unwrap(),
            principal: principal.to_owned(),
            action: Action::Write,
            reason: "no".to_owned(),
            count: 1,
            request_id: Some(request_id.to_owned()),
        }
    }

    #[test]
    fn same_refusals_are_one_with_a_count_and_one_caller_writes() {
        let refusals = Refusals::default();
        assert!(refusals.count(refused("a", "1")));
        assert!(!refusals.count(refused("a", "2")) && !refusals.count(refused("b", "3")));
        let mut all = refusals.take().unwrap();
        all.sort_by_key(|one| one.principal.clone());
        assert_eq!(all, [Refused { count: 2, ..refused("a", "2") }, refused("b", "3")]);
        // It still writes; what comes meanwhile is its, too.
        assert!(!refusals.count(refused("a", "4")));
        assert_eq!(refusals.take().unwrap().len(), 1);
        assert_eq!(refusals.take(), None);
        assert!(refusals.count(refused("a", "5")));
    }

    #[test]
    fn there_is_room_for_so_many_and_more_of_the_same() {
        let refusals = Refusals::default();
        for number in 0..MAX_WAITING + 7 {
            let _ = refusals.count(refused(&number.to_string(), "x"));
        }
        assert!(!refusals.count(refused("0", "y")));
        let all = refusals.take().unwrap();
        assert_eq!(all.len(), MAX_WAITING);
        assert_eq!(all.iter().find(|one| one.principal == "0").unwrap().count, 2);
    }
}
