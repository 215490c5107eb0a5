//! Compliance rules: parse, compile to DataFusion expressions, evaluate, and the life of a finding. No I/O.

mod compile;
mod evaluate;
mod finding;
mod functions;
mod policy;
mod position;
mod record;
mod rules_table;
mod shipped;

pub use compile::{CompiledRule, compile};
pub use evaluate::{Evaluation, Verdict};
pub use finding::{
    Command, FindingState, FindingStatus, Observation, Transition, apply, observe, tick, withdraw,
};
pub use functions::functions;
pub use policy::{Policy, PolicyError, Severity, parse};
pub use record::{Cause, TransitionRecord, finding_id};
pub use rules_table::{rules_from_batches, rules_schema, rules_to_batch};
pub use shipped::shipped;
