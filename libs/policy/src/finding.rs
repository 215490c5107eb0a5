//! The life of a finding, as pure functions of what is known and what is seen.
//!
//! ```text
//!              breach                grace over
//! Compliant ------------> Pending ----------------> Open <---> Acknowledged
//!     ^                      |                      ^ |            |
//!     |        pass          |       snooze over    | v            |
//!     +----------------------+                    Snoozed          |
//!                                                     | pass       | pass
//! Resolved <------------------------------------------+------------+  (also from Open)
//!     | breach: Pending again, or Open at once without grace
//! ```
//!
//! A finding that flaps, by its policy's limit, isn't resolved by the first record that complies: it stays where it is until the
//! computer has complied for as long as the limit says.
//!
//! `Pending` is not told to anyone: only what people should know of makes a [`Transition`] and raises the version. Instants
//! of transitions follow from records and rules alone, never from when they were noticed.

use serde::{Deserialize, Serialize};

use crate::{FlappingLimit, Policy, Verdict};

/// Where a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingStatus {
    /// No breach.
    Compliant,
    /// A breach within its grace.
    Pending,
    /// A breach that people should know of.
    Open,
    /// Someone has taken it on.
    Acknowledged,
    /// Quiet until a time.
    Snoozed,
    /// Over.
    Resolved,
}

impl FindingStatus {
    /// The word in JSON, tables and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compliant => "compliant",
            Self::Pending => "pending",
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Snoozed => "snoozed",
            Self::Resolved => "resolved",
        }
    }

    /// Whether people were told of a breach that isn't over.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::Open | Self::Acknowledged | Self::Snoozed)
    }
}

/// What is kept per host and rule. Instants are microseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingState {
    /// Status.
    pub status: FindingStatus,
    /// Since when.
    pub since_us: i64,
    /// First breach of the present run of breaches, if in breach.
    pub breach_since_us: Option<i64>,
    /// Last record judged: event time, received_at, partition, offset; older ones are dropped.
    pub last_order: (i64, i64, i32, i64),
    /// Number of transitions so far.
    pub version: u64,
    /// Quiet until, if snoozed.
    pub snoozed_until_us: Option<i64>,
    /// Whose it is; nobody's again when it opens anew.
    pub assignee: Option<String>,
    /// What its policy's limit on flapping goes by.
    #[serde(default)]
    pub flaps: Flaps,
}

/// What is kept of a finding whose policy limits flapping. Instants are microseconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flaps {
    /// When it opened, the latest last: as many as the limit allows, none of them older than that says.
    pub openings_us: Vec<i64>,
    /// Since when the computer complies while the finding stays open.
    pub passing_since_us: Option<i64>,
}

/// One record's verdict for one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Verdict.
    pub verdict: Verdict,
    /// Event time, received_at, partition, offset.
    pub order: (i64, i64, i32, i64),
}

/// What a person asks of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Command {
    /// Takes it on; stays until resolved.
    Acknowledge,
    /// Quiet until an instant, microseconds since the epoch.
    Snooze {
        /// Until then.
        until_us: i64,
    },
    /// Only says something.
    Comment,
    /// Makes it somebody's, or nobody's.
    Assign {
        /// Whose.
        #[serde(default)]
        to: Option<String>,
    },
    /// The host is gone for good: all its findings are over. About the host, not a finding.
    Retire,
}

/// A change of status, to be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// From.
    pub from: FindingStatus,
    /// To.
    pub to: FindingStatus,
    /// When, microseconds since the epoch.
    pub at_us: i64,
    /// The finding's version after it.
    pub version: u64,
    /// Why, in words.
    pub reason: String,
    /// Whose it is from then on.
    pub assignee: Option<String>,
    /// Quiet until, microseconds since the epoch, if it begins a snooze.
    pub snoozed_until_us: Option<i64>,
}

impl FindingState {
    fn new(order: (i64, i64, i32, i64)) -> Self {
        Self {
            status: FindingStatus::Compliant,
            since_us: order.1,
            breach_since_us: None,
            last_order: order,
            version: 0,
            snoozed_until_us: None,
            assignee: None,
            flaps: Flaps::default(),
        }
    }

    /// When time alone changes this finding next: the end of its grace, of its snooze, or of the time that it must comply for.
    #[must_use]
    pub fn due_us(&self, policy: &Policy) -> Option<i64> {
        if let Some((limit, since_us)) = policy.flapping.zip(self.flaps.passing_since_us) {
            return Some(since_us.saturating_add(micros(limit.within_s)));
        }
        match self.status {
            FindingStatus::Pending => {
                self.breach_since_us.map(|since| since.saturating_add(micros(policy.grace_s)))
            }
            FindingStatus::Snoozed => self.snoozed_until_us,
            _ => None,
        }
    }

    /// Whether there is anything to remember: a breach, or a version that must go on.
    #[must_use]
    pub fn is_worth_keeping(&self) -> bool {
        self.status != FindingStatus::Compliant || self.version > 0
    }

    /// Ends a breach that nobody was told of: what it was before, it is again.
    fn end_grace(&mut self, at_us: i64) {
        let before = if self.version > 0 { FindingStatus::Resolved } else { FindingStatus::Compliant };
        self.enter(before, at_us);
    }

    /// Moves to a status without telling anyone.
    fn enter(&mut self, status: FindingStatus, at_us: i64) {
        self.status = status;
        self.since_us = at_us;
        if status != FindingStatus::Snoozed {
            self.snoozed_until_us = None;
        }
        if matches!(status, FindingStatus::Compliant | FindingStatus::Resolved) {
            self.breach_since_us = None;
            self.flaps.passing_since_us = None;
        }
    }

    /// Notes that it opens at an instant; answers whether it flaps from then on.
    fn opens(&mut self, policy: &Policy, at_us: i64) -> bool {
        let openings_us = &mut self.flaps.openings_us;
        let Some(limit) = policy.flapping else {
            openings_us.clear();
            return false;
        };
        openings_us.push(at_us);
        let first = at_us.saturating_sub(micros(limit.within_s));
        openings_us.retain(|opening_us| *opening_us > first);
        let more = openings_us.len().saturating_sub(limit.openings as usize);
        openings_us.drain(..more);
        self.flaps(policy)
    }

    fn flaps(&self, policy: &Policy) -> bool {
        policy.flapping.is_some_and(|limit| self.flaps.openings_us.len() >= limit.openings as usize)
    }

    fn transition(&mut self, to: FindingStatus, at_us: i64, reason: String) -> Option<Transition> {
        let from = self.status;
        if to == FindingStatus::Open && !from.is_live() {
            self.assignee = None;
        }
        self.enter(to, at_us);
        self.version += 1;
        Some(self.told(from, at_us, reason, self.snoozed_until_us))
    }

    /// Tells something that changes no status, `since_us` included.
    fn remark(&mut self, at_us: i64, reason: String) -> Option<Transition> {
        self.version += 1;
        Some(self.told(self.status, at_us, reason, None))
    }

    fn told(
        &self,
        from: FindingStatus,
        at_us: i64,
        reason: String,
        snoozed_until_us: Option<i64>,
    ) -> Transition {
        let (version, assignee) = (self.version, self.assignee.clone());
        Transition { from, to: self.status, at_us, version, reason, assignee, snoozed_until_us }
    }
}

fn micros(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

/// Applies one observation. Returns the state afterwards and the transition, if the status changed in a way worth telling.
/// Call [`tick`] with the record's `received_at` before it, so that a grace that ended between two records is told too.
#[must_use]
pub fn observe(
    policy: &Policy,
    state: Option<&FindingState>,
    seen: &Observation,
) -> (FindingState, Option<Transition>) {
    let Some(known) = state else {
        return judge(policy, FindingState::new(seen.order), seen);
    };
    if seen.order <= known.last_order {
        return (known.clone(), None);
    }
    judge(policy, FindingState { last_order: seen.order, ..known.clone() }, seen)
}

fn judge(policy: &Policy, mut state: FindingState, seen: &Observation) -> (FindingState, Option<Transition>) {
    let at_us = seen.order.1;
    let told = match seen.verdict {
        Verdict::NoResult => None,
        Verdict::Pass => pass(policy, &mut state, at_us),
        Verdict::Fail => breach(policy, &mut state, at_us),
    };
    (state, told)
}

fn pass(policy: &Policy, state: &mut FindingState, at_us: i64) -> Option<Transition> {
    match state.status {
        FindingStatus::Compliant | FindingStatus::Resolved => None,
        FindingStatus::Pending => {
            state.end_grace(at_us);
            None
        }
        _ if state.flaps(policy) => {
            state.breach_since_us = None;
            state.flaps.passing_since_us.get_or_insert(at_us);
            None
        }
        FindingStatus::Open | FindingStatus::Acknowledged | FindingStatus::Snoozed => {
            state.transition(FindingStatus::Resolved, at_us, "the computer complies again".to_owned())
        }
    }
}

fn breach(policy: &Policy, state: &mut FindingState, at_us: i64) -> Option<Transition> {
    let since_us = *state.breach_since_us.get_or_insert(at_us);
    state.flaps.passing_since_us = None;
    match state.status {
        FindingStatus::Compliant | FindingStatus::Resolved if policy.grace_s == 0 => {
            open(policy, state, since_us, String::new())
        }
        FindingStatus::Compliant | FindingStatus::Resolved => {
            state.enter(FindingStatus::Pending, at_us);
            None
        }
        FindingStatus::Pending | FindingStatus::Snoozed => pass_time(policy, state, at_us),
        FindingStatus::Open | FindingStatus::Acknowledged => None,
    }
}

/// Tells of a breach, which lasted `so_long`.
fn open(policy: &Policy, state: &mut FindingState, at_us: i64, so_long: String) -> Option<Transition> {
    let again = if state.version > 0 { " again" } else { "" };
    let mut reason = format!("in breach{again}{so_long}");
    if let (true, Some(FlappingLimit { openings, within_s })) = (state.opens(policy, at_us), policy.flapping)
    {
        reason.push_str(&format!(
            ", {openings} times within {within_s} seconds: stays open until the computer complies for as long"
        ));
    }
    state.transition(FindingStatus::Open, at_us, reason)
}

/// Lets time pass: opens what was pending for longer than its grace, and what was snoozed until before `now_us`; resolves what
/// flapped and was complied with for long enough.
#[must_use]
pub fn tick(policy: &Policy, state: &FindingState, now_us: i64) -> (FindingState, Option<Transition>) {
    let mut state = state.clone();
    let told = pass_time(policy, &mut state, now_us);
    (state, told)
}

fn pass_time(policy: &Policy, state: &mut FindingState, now_us: i64) -> Option<Transition> {
    let due_us = state.due_us(policy)?;
    if now_us < due_us {
        return None;
    }
    if let Some((limit, _)) = policy.flapping.zip(state.flaps.passing_since_us) {
        state.flaps.openings_us.clear();
        let reason = format!("the computer has complied for {} seconds", limit.within_s);
        return state.transition(FindingStatus::Resolved, due_us, reason);
    }
    match state.status {
        FindingStatus::Snoozed => {
            state.transition(FindingStatus::Open, due_us, "the snooze is over".to_owned())
        }
        _ if policy.grace_s == 0 => open(policy, state, due_us, String::new()),
        _ => open(policy, state, due_us, format!(" for {} seconds", policy.grace_s)),
    }
}

/// Applies a person's command; one that doesn't fit the status (to acknowledge what is resolved) changes nothing.
#[must_use]
pub fn apply(
    state: &FindingState,
    command: &Command,
    at_us: i64,
    reason: String,
) -> (FindingState, Option<Transition>) {
    let mut after = state.clone();
    let told = match command {
        Command::Acknowledge if matches!(state.status, FindingStatus::Open | FindingStatus::Snoozed) => {
            after.transition(FindingStatus::Acknowledged, at_us, reason)
        }
        Command::Snooze { until_us } if state.status.is_live() && *until_us > at_us => {
            after.snoozed_until_us = Some(*until_us);
            after.transition(FindingStatus::Snoozed, at_us, reason)
        }
        Command::Comment if state.version > 0 => after.remark(at_us, reason),
        Command::Assign { to } if state.status.is_live() && *to != state.assignee => {
            after.assignee.clone_from(to);
            after.remark(at_us, reason)
        }
        Command::Acknowledge
        | Command::Snooze { .. }
        | Command::Comment
        | Command::Assign { .. }
        | Command::Retire => None,
    };
    (after, told)
}

/// Ends a finding whatever its records say: its rule was withdrawn, its host retired.
#[must_use]
pub fn withdraw(state: &FindingState, at_us: i64, reason: String) -> (FindingState, Option<Transition>) {
    let mut after = state.clone();
    if state.status.is_live() {
        let told = after.transition(FindingStatus::Resolved, at_us, reason);
        return (after, told);
    }
    if state.status == FindingStatus::Pending {
        after.end_grace(at_us);
    }
    (after, None)
}

#[cfg(test)]
mod tests;
