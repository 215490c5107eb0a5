//! Waiting for something that must come true.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Asks again and again until the answer is `Ok`, or the deadline passed: then the last error says what was missing.
///
/// # Errors
/// After the deadline.
pub async fn until<T, E: Debug>(
    claim: &str,
    deadline: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if start.elapsed() > deadline {
            bail!("not within {} s: {claim}: {error:?}", deadline.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
