//! Codes that open the console once: they stand in terminals and logs, so they must be worth nothing afterwards.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Long enough to look for the browser.
const TTL: Duration = Duration::from_secs(15 * 60);
/// More codes than anyone would ask for at once.
const MAX: usize = 100;

/// Codes that were issued and not yet used. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct OneTimeCodes {
    issued: Arc<Mutex<HashMap<String, Instant>>>,
}

impl OneTimeCodes {
    /// A new code: 122 random bits.
    pub(crate) fn issue(&self) -> String {
        let code = uuid::Uuid::new_v4().simple().to_string();
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.retain(|_, at| at.elapsed() < TTL);
        if issued.len() < MAX {
            issued.insert(code.clone(), Instant::now());
        }
        code
    }

    /// Whether the code is good; it never is again.
    pub(super) fn redeem(&self, code: &str) -> bool {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.remove(code).is_some_and(|at| at.elapsed() < TTL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_opens_once() {
        let codes = OneTimeCodes::default();
        let code = codes.issue();
        assert!(!codes.redeem("other"));
        assert!(codes.redeem(&code));
        assert!(!codes.redeem(&code));
    }
}
