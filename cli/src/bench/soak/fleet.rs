//! One tenant's computers, who report at their pace.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use chrono::Utc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Acknowledged, account::Account};
use crate::simulate::{Script, Uploader};

/// How fast a tenant's records are sent, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    per_s: f64,
    /// Records of one upload.
    pub(super) batch: u64,
    lasting: Duration,
}

impl Pace {
    /// Who sends little sends smaller batches rather than rare ones.
    pub(super) fn of(per_s: f64, most: u32, lasting: Duration) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
        let half_a_second = (per_s / 2.0).ceil() as u64;
        Self { per_s, batch: half_a_second.clamp(1, u64::from(most)), lasting }
    }

    /// When the batch with this number is due, from the beginning.
    fn due(&self, number: u64) -> Duration {
        #[allow(clippy::cast_precision_loss, reason = "record numbers stay far below 2^52")]
        Duration::from_secs_f64((number * self.batch) as f64 / self.per_s)
    }
}

/// When each batch was acknowledged, by its number.
pub(super) struct Acknowledgements {
    batch: u64,
    at: Mutex<Vec<Instant>>,
}

impl Acknowledgements {
    /// When the record with this number was acknowledged; it may be in the tables a moment before.
    pub(super) fn of(&self, number: u64) -> Option<Instant> {
        let batch = usize::try_from(number / self.batch).ok()?;
        self.at.lock().unwrap_or_else(PoisonError::into_inner).get(batch).copied()
    }

    fn now(&self) {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    }
}

/// See the module.
pub(super) struct Fleet {
    script: Script,
    pace: Pace,
    /// Tenants don't all send at the same moment.
    begin: Duration,
    acknowledged: Acknowledged,
}

impl Fleet {
    /// One of so many.
    pub(super) fn new(seed: u64, devices: u32, malformed: f64, pace: Pace, fleets: usize) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
        let place = (seed % fleets.max(1) as u64) as f64 / fleets.max(1) as f64;
        Self {
            script: Script::numbered(seed, devices, malformed),
            pace,
            begin: pace.due(1).mul_f64(place),
            acknowledged: Acknowledged::new(Acknowledgements { batch: pace.batch, at: Mutex::default() }),
        }
    }

    pub(super) fn acknowledged(&self) -> Acknowledged {
        self.acknowledged.clone()
    }

    /// Sends until the time is over or `stop`; an upload that has begun is awaited.
    pub(super) async fn report_to(
        mut self,
        uploader: Uploader<'_>,
        stop: CancellationToken,
    ) -> Result<Account> {
        let began = Instant::now() + self.begin;
        let mut account = Account::default();
        for batch in 0_u64.. {
            let due = self.pace.due(batch);
            if due >= self.pace.lasting {
                break;
            }
            let waited = stop.run_until_cancelled(tokio::time::sleep_until(began + due)).await;
            if waited.is_none() {
                break;
            }
            let first = batch * self.pace.batch;
            let numbers = first..first + self.pace.batch;
            let lines: Vec<_> = numbers.map(|number| self.script.next(number, Utc::now())).collect();
            let uploaded = uploader.send(&lines).await;
            self.acknowledged.now();
            account.note(&lines, &uploaded.outcomes);
            if let Some(fatal) = uploaded.fatal {
                return Err(fatal);
            }
        }
        Ok(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_fleets_send_small_batches_in_time() {
        let pace = |per_s| Pace::of(per_s, 100, Duration::from_secs(60));
        assert_eq!((pace(1.0).batch, pace(20.0).batch, pace(5_000.0).batch), (1, 10, 100));
        assert_eq!(pace(20.0).due(4), Duration::from_secs(2));
    }
}
