//! Rates by name, such as records per second and tenant: a bucket that may go into debt once, so that a batch larger than the
//! bucket still passes.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// This many seconds' worth may come at once.
const BURST_S: f64 = 10.0;

/// More buckets than this are swept of those that are full, which say nothing.
const MAX_IDLE_BUCKETS: usize = 10_000;

/// A bucket for every name; each has the rate that the caller says.
#[derive(Default)]
pub struct RateLimit {
    buckets: Mutex<HashMap<String, Bucket>>,
}

struct Bucket {
    per_s: f64,
    tokens: f64,
    filled_at: Instant,
}

impl Bucket {
    fn filled(&self, now: Instant) -> f64 {
        let idle_s = now.saturating_duration_since(self.filled_at).as_secs_f64();
        (self.tokens + idle_s * self.per_s).min(self.per_s * BURST_S)
    }
}

impl RateLimit {
    /// Takes `count` of what comes `per_s` times a second, or says after how many seconds to come back.
    pub fn take(&self, name: &str, per_s: u32, count: usize) -> Result<(), u64> {
        self.take_at(name, per_s, count, Instant::now())
    }

    fn take_at(&self, name: &str, per_s: u32, count: usize, now: Instant) -> Result<(), u64> {
        let per_s = f64::from(per_s.max(1));
        let full = per_s * BURST_S;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() > MAX_IDLE_BUCKETS {
            buckets.retain(|_, bucket| bucket.filled(now) < bucket.per_s * BURST_S);
        }
        if !buckets.contains_key(name) {
            buckets.insert(name.to_owned(), Bucket { per_s, tokens: full, filled_at: now });
        }
        let Some(bucket) = buckets.get_mut(name) else { return Ok(()) };
        bucket.tokens = bucket.filled(now).min(full);
        (bucket.per_s, bucket.filled_at) = (per_s, now);
        if bucket.tokens < 1.0 {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
            let wait_s = ((1.0 - bucket.tokens) / per_s).ceil() as u64;
            return Err(wait_s.max(1));
        }
        #[allow(clippy::cast_precision_loss, reason = "what one request brings")]
        let taken = count as f64;
        bucket.tokens -= taken;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn debt_is_paid_before_more_is_taken() {
        let limit = RateLimit::default();
        let start = Instant::now();
        assert_eq!(limit.take_at("acme", 10, 150, start), Ok(()));
        assert_eq!(limit.take_at("acme", 10, 1, start), Err(6));
        assert_eq!(limit.take_at("other", 10, 1, start), Ok(()));
        assert_eq!(limit.take_at("acme", 10, 1, start + Duration::from_secs(5)), Err(1));
        assert_eq!(limit.take_at("acme", 10, 1, start + Duration::from_secs(6)), Ok(()));
    }
}
