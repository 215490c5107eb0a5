//! Compliance rules: parse, compile to DataFusion expressions, evaluate, and the life of a finding. No I/O.

mod backtest;
mod cases;
mod compile;
mod evaluate;
mod finding;
mod format;
mod functions;
mod policy;
mod position;
mod receipt;
mod record;
mod rules_table;
mod shipped;
mod standing;
mod transitions_table;
mod window;

pub use backtest::{Backtest, Episode, Findings, ReplayedHost};
pub use cases::{Case, CaseFinding, CaseVerdict, parse_cases};
pub use compile::{CompiledRule, compile};
pub use evaluate::{Evaluation, Verdict};
pub use finding::{
    Command, FindingState, FindingStatus, Flaps, Observation, Transition, apply, observe, tick, withdraw,
};
pub use format::{cases_beside, is_policy_file};
pub use functions::functions;
pub use policy::{FlappingLimit, Policy, PolicyError, Severity, WindowSpec, parse};
pub use receipt::ByReceipt;
pub use record::{Cause, TransitionRecord, finding_id};
pub use rules_table::{RULES_SEEDED_PROPERTY, rules_from_batches, rules_schema, rules_to_batch};
pub use shipped::shipped;
pub use standing::{Order, RECORD_COLUMNS, Standing, Told, due_us};
pub use transitions_table::{TransitionsBuilder, transitions_from_batch, transitions_schema};
pub use window::{ClosedWindow, Tally, WindowRule, WindowSamples, WindowState};
