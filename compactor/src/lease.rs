//! Holding a lease while working.

use std::time::{Duration, Instant};

use firn_catalog_client::{ClientErrorKind, LeaseRequest, TenantClient};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::CompactorError;

/// A lease that is renewed until it is released or dropped.
pub(crate) struct HeldLease {
    client: TenantClient,
    name: &'static str,
    holder: String,
    lost: CancellationToken,
    /// Ends the renewal with the lease.
    _renewal: DropGuard,
}

/// Pause between two tries of somebody who waits for a lease.
const POLL: Duration = Duration::from_millis(500);

impl HeldLease {
    /// Takes the lease, and waits so long for another process to give it back.
    pub(crate) async fn acquire_within(
        patience: Duration,
        client: &TenantClient,
        name: &'static str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Self, CompactorError> {
        let started = Instant::now();
        loop {
            match Self::acquire(client, name, holder, ttl).await {
                Err(CompactorError::LeaseHeld(_)) if started.elapsed() < patience => {
                    tokio::time::sleep(POLL).await;
                }
                acquired => return acquired,
            }
        }
    }

    /// Takes the lease; `LeaseHeld` if another process has it.
    pub(crate) async fn acquire(
        client: &TenantClient,
        name: &'static str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Self, CompactorError> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let request = LeaseRequest { holder: holder.to_owned(), ttl_ms };
        match client.lease(name, &request).await {
            Ok(_) => {}
            Err(error) if error.kind == ClientErrorKind::Conflict => {
                return Err(CompactorError::LeaseHeld(name.to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
        let (lost, ended) = (CancellationToken::new(), CancellationToken::new());
        let renewal = renew(client.clone(), name, request, ttl, lost.clone());
        let until_end = ended.clone();
        tokio::spawn(async move { until_end.run_until_cancelled(renewal).await });
        let lease = Self {
            client: client.clone(),
            name,
            holder: holder.to_owned(),
            lost,
            _renewal: ended.drop_guard(),
        };
        Ok(lease)
    }

    /// Runs `work` while the lease holds and nobody asks to stop.
    pub(crate) async fn guard<T>(
        &self,
        stop: &CancellationToken,
        work: impl Future<Output = Result<T, CompactorError>>,
    ) -> Result<T, CompactorError> {
        tokio::select! {
            biased;
            () = self.lost.cancelled() => Err(CompactorError::LeaseLost(self.name.to_owned())),
            () = stop.cancelled() => Err(CompactorError::Stopped),
            done = work => done,
        }
    }

    /// Gives it back; if that fails it ends by itself.
    pub(crate) async fn release(self) {
        if let Err(error) = self.client.release_lease(self.name, &self.holder).await {
            tracing::debug!(lease = self.name, %error, "lease not given back, it will run out");
        }
    }
}

/// Renews at a third of the lease's life; cancels `lost` once it may have ended.
async fn renew(
    client: TenantClient,
    name: &'static str,
    request: LeaseRequest,
    ttl: Duration,
    lost: CancellationToken,
) {
    let mut renewed_at = Instant::now();
    loop {
        tokio::time::sleep(ttl / 3).await;
        let asked_at = Instant::now();
        match client.lease(name, &request).await {
            Ok(_) => renewed_at = asked_at,
            Err(error) if error.kind == ClientErrorKind::Conflict => break,
            Err(error) => {
                tracing::warn!(lease = name, %error, "lease not renewed, trying again");
                if renewed_at.elapsed() > ttl {
                    break;
                }
            }
        }
    }
    lost.cancel();
}
