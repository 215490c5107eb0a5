//! Records per second and tenant: a bucket that may go into debt once, so that a batch larger than the bucket still passes.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use firn_auth::TenantName;

/// A tenant may send this many seconds' worth at once.
const BURST_S: f64 = 10.0;

/// More buckets than this are swept of those that are full, which say nothing.
const MAX_IDLE_BUCKETS: usize = 10_000;

/// A rate for every tenant.
pub(super) struct RateLimit {
    per_s: f64,
    buckets: Mutex<HashMap<TenantName, Bucket>>,
}

struct Bucket {
    tokens: f64,
    filled_at: Instant,
}

impl RateLimit {
    pub(super) fn new(records_per_s: u32) -> Self {
        Self { per_s: f64::from(records_per_s.max(1)), buckets: Mutex::default() }
    }

    /// Takes `records`, or says after how many seconds to come back.
    pub(super) fn take(&self, tenant: &TenantName, records: usize) -> Result<(), u64> {
        self.take_at(tenant, records, Instant::now())
    }

    fn take_at(&self, tenant: &TenantName, records: usize, now: Instant) -> Result<(), u64> {
        let full = self.per_s * BURST_S;
        let filled = |bucket: &Bucket| {
            let idle_s = now.saturating_duration_since(bucket.filled_at).as_secs_f64();
            (bucket.tokens + idle_s * self.per_s).min(full)
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() > MAX_IDLE_BUCKETS {
            buckets.retain(|_, bucket| filled(bucket) < full);
        }
        let bucket = buckets.entry(tenant.clone()).or_insert(Bucket { tokens: full, filled_at: now });
        bucket.tokens = filled(bucket);
        bucket.filled_at = now;
        if bucket.tokens < 1.0 {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
            let wait_s = ((1.0 - bucket.tokens) / self.per_s).ceil() as u64;
            return Err(wait_s.max(1));
        }
        #[allow(clippy::cast_precision_loss, reason = "records of one request")]
        let taken = records as f64;
        bucket.tokens -= taken;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn debt_is_paid_before_more_is_taken() {
        let limit = RateLimit::new(10);
        let (tenant, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let start = Instant::now();
        assert_eq!(limit.take_at(&tenant, 150, start), Ok(()));
        assert_eq!(limit.take_at(&tenant, 1, start), Err(6));
        assert_eq!(limit.take_at(&other, 1, start), Ok(()));
        assert_eq!(limit.take_at(&tenant, 1, start + Duration::from_secs(5)), Err(1));
        assert_eq!(limit.take_at(&tenant, 1, start + Duration::from_secs(6)), Ok(()));
    }
}
