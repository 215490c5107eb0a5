//! A client that is made anew once what it proves itself with is another.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::error::KafkaResult;

use super::{KafkaConfig, security::Security};

/// See the module. Who got the earlier one finishes with it.
pub(super) struct Renewed<C> {
    made: Mutex<Option<(Arc<Security>, Arc<C>)>>,
}

impl<C> Default for Renewed<C> {
    fn default() -> Self {
        Self { made: Mutex::default() }
    }
}

impl<C: Send + Sync + 'static> Renewed<C> {
    /// The client for the present security; `make` makes it.
    pub(super) fn get(
        &self,
        config: &KafkaConfig,
        make: impl FnOnce() -> KafkaResult<C>,
    ) -> KafkaResult<Arc<C>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let now = config.security.get();
        if let Some((security, client)) = &*made
            && !security.is_stale_beside(&now)
        {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(make()?);
        let former = made.replace((now, Arc::clone(&client)));
        // Closing one takes its time: not on an async thread.
        if former.is_some() {
            std::thread::spawn(move || drop(former));
        }
        Ok(client)
    }
}
