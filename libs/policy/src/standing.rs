//! How one rule stands for one host, and how records and time move it. Stream, tests of policies and backtests all go
//! through here, so that they agree.

use crate::{
    Cause, CompiledRule, FindingState, Observation, Transition, Verdict, WindowSamples, WindowState, observe,
    tick,
};

/// Event time, received_at, partition, offset.
pub type Order = (i64, i64, i32, i64);

/// Columns that judging records needs beside those of the rules: whose they are, and in which order they count.
pub const RECORD_COLUMNS: [&str; 9] = [
    "host_id",
    "hostname",
    "organization_id",
    "os_type",
    "event_time",
    "received_at",
    "log_topic_id",
    "log_partition",
    "log_offset",
];

/// Older than any record: what time or a window says does not compete with records.
const BEFORE_ALL: Order = (i64::MIN, i64::MIN, i32::MIN, i64::MIN);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// The finding; none if the rule was always complied with.
    pub finding: Option<FindingState>,
    /// The values that began the present breach, JSON text.
    pub evidence: Option<String>,
    /// Windows, for a rule that has any.
    pub window: Option<WindowState>,
    /// Largest receipt time of the host's records; none if nobody waits for one (it never reported, or is retired).
    pub received_us: Option<i64>,
}

/// A transition with what made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The transition.
    pub transition: Transition,
    /// What made it.
    pub cause: Cause,
    /// The values that decided, JSON text.
    pub evidence: Option<String>,
}

impl Standing {
    /// Whether the finding is in breach, told or within its grace.
    #[must_use]
    pub fn is_in_breach(&self) -> bool {
        self.finding.as_ref().is_some_and(|finding| finding.breach_since_us.is_some())
    }

    /// Lets time pass: closes windows, notes silence, ends a grace or a snooze.
    pub fn pass(&mut self, rule: &CompiledRule, time_us: i64, told: &mut Vec<Told>) {
        let state = self.window.as_mut();
        if let Some((window, state)) = rule.window().zip(state).filter(|(window, state)| window.fits(state)) {
            for closed in window.close(state, time_us) {
                self.tick(rule, closed.end_us, told);
                let evidence = || closed.evidence.to_string();
                self.see(rule, at(closed.end_us, closed.verdict), BEFORE_ALL, Cause::Window, evidence, told);
            }
        }
        if let Some((after_us, received_us)) = rule.absence_us().zip(self.received_us) {
            let silent_us = received_us.saturating_add(after_us);
            if silent_us <= time_us && !self.is_in_breach() {
                let evidence = || last_received(received_us);
                self.see(rule, at(silent_us, Verdict::Fail), BEFORE_ALL, Cause::Time, evidence, told);
            }
        }
        self.tick(rule, time_us.saturating_sub(rule.delay_us()), told);
    }

    /// When [`pass`](Self::pass) has something to do next.
    #[must_use]
    pub fn due_us(&self, rule: &CompiledRule) -> Option<i64> {
        due_us(rule, self.finding.as_ref(), self.window.as_ref(), self.received_us)
    }

    /// Takes a record that shows that the host is alive; `received_us` must have been set to it before, and time passed.
    pub fn alive(&mut self, rule: &CompiledRule, received_us: i64, told: &mut Vec<Told>) {
        if rule.absence_us().is_some() {
            let evidence = || last_received(received_us);
            self.see(rule, at(received_us, Verdict::Pass), BEFORE_ALL, Cause::Record, evidence, told);
        }
    }

    /// Adds a record's samples; answers whether they came too late for all windows.
    pub fn sample(&mut self, rule: &CompiledRule, order: Order, samples: &WindowSamples, row: usize) -> bool {
        let Some(window) = rule.window() else { return false };
        let mut state =
            self.window.take().filter(|state| window.fits(state)).unwrap_or_else(|| window.start());
        let late = window.add(&mut state, order.0, order.1, samples, row);
        self.window = (state != window.start()).then_some(state);
        late
    }

    /// Follows a record's verdict, unless the record is not newer than `after`, the last one judged.
    pub fn record(
        &mut self,
        rule: &CompiledRule,
        seen: Observation,
        after: Order,
        evidence: impl FnOnce() -> String,
        told: &mut Vec<Told>,
    ) {
        self.see(rule, seen, after, Cause::Record, evidence, told);
    }

    fn see(
        &mut self,
        rule: &CompiledRule,
        seen: Observation,
        after: Order,
        cause: Cause,
        evidence: impl FnOnce() -> String,
        told: &mut Vec<Told>,
    ) {
        let before = self.finding.take().map(|finding| FindingState { last_order: after, ..finding });
        let (finding, transition) = observe(&rule.policy, before.as_ref(), &seen);
        let begins = finding.breach_since_us.is_some() && self.evidence.is_none();
        let fresh = (begins || transition.is_some()).then(evidence);
        if let Some(transition) = transition {
            told.push(Told { transition, cause, evidence: fresh.clone() });
        }
        let kept = self.evidence.take().or(fresh);
        self.evidence = finding.breach_since_us.and(kept);
        self.finding = Some(finding).filter(FindingState::is_worth_keeping);
    }

    fn tick(&mut self, rule: &CompiledRule, time_us: i64, told: &mut Vec<Told>) {
        let Some(finding) = &self.finding else { return };
        let (after, transition) = tick(&rule.policy, finding, time_us);
        if let Some(transition) = transition {
            told.push(Told { transition, cause: Cause::Time, evidence: self.evidence.clone() });
            self.finding = Some(after);
        }
    }
}

/// [`Standing::due_us`] for whoever keeps what stands in parts: it is asked far more often than anything is due.
#[must_use]
pub fn due_us(
    rule: &CompiledRule,
    finding: Option<&FindingState>,
    window: Option<&WindowState>,
    received_us: Option<i64>,
) -> Option<i64> {
    let in_breach = finding.is_some_and(|finding| finding.breach_since_us.is_some());
    let ends_us = finding.and_then(|finding| finding.due_us(&rule.policy));
    let ends_us = ends_us.map(|ends_us| ends_us.saturating_add(rule.delay_us()));
    let window = rule.window().zip(window).filter(|(window, state)| window.fits(state));
    let closes_us = window.and_then(|(window, state)| window.due_us(state, in_breach));
    let silence = rule.absence_us().zip(received_us).filter(|_| !in_breach);
    let silent_us = silence.map(|(after_us, received_us)| received_us.saturating_add(after_us));
    ends_us.into_iter().chain(closes_us).chain(silent_us).min()
}

fn at(at_us: i64, verdict: Verdict) -> Observation {
    Observation { verdict, order: (at_us, at_us, 0, 0) }
}

fn last_received(received_us: i64) -> String {
    serde_json::json!({ "last_received_at": crate::window::instant(received_us) }).to_string()
}
