//! When policies are asked for, and what holds while they can't be.

#![allow(clippy::unwrap_used)]

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
};

use axum::http::HeaderValue;

use super::*;
use crate::{Claims, Limits, Role, SigningKey, Standing};

/// A database that counts what it is asked, and can be away.
#[derive(Default)]
struct Rows {
    epoch: AtomicI64,
    away: AtomicBool,
    policy: Mutex<Policy>,
    seen: Mutex<Option<(i64, Instant)>>,
    asked: AtomicUsize,
    loaded: AtomicUsize,
    refused: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl PolicySource for Rows {
    fn seen(&self, _: &TenantName) -> Option<(i64, Instant)> {
        *self.seen.lock().unwrap()
    }

    async fn epoch(&self, _: &TenantName) -> Result<Option<i64>, String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err("it is away".to_owned());
        }
        let epoch = self.epoch.load(Ordering::SeqCst);
        *self.seen.lock().unwrap() = Some((epoch, Instant::now()));
        Ok(Some(epoch))
    }

    async fn load(&self, _: &TenantName) -> Result<Policy, String> {
        self.loaded.fetch_add(1, Ordering::SeqCst);
        Ok(self.policy.lock().unwrap().clone())
    }

    fn refused(
        &self,
        tenant: &TenantName,
        by: &Principal,
        action: Action,
        _: &Denied,
        request: Option<&str>,
    ) {
        let entry = format!("{tenant} {} {action:?} {}", by.name(), request.unwrap_or_default());
        self.refused.lock().unwrap().push(entry);
    }
}

struct Bench {
    rows: Arc<Rows>,
    guard: Guard,
    headers: HeaderMap,
}

impl Bench {
    fn new() -> Self {
        let (key, rows) = (SigningKey::generate(), Arc::new(Rows::default()));
        let mut claims = Claims::new("ann", Duration::from_secs(600));
        claims.tenants.insert("acme".parse().unwrap(), Role::Reader);
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", key.sign(&claims)).parse().unwrap());
        headers.insert(REQUEST_ID, HeaderValue::from_static("r1"));
        let source: Arc<dyn PolicySource> = Arc::clone(&rows) as _;
        Self { guard: Guard::new(key.verifier(), source), rows, headers }
    }

    async fn ask(&self, action: Action) -> Result<Access, Denied> {
        self.guard.authorize(&self.headers, "acme", action).await
    }

    fn change(&self, edit: impl FnOnce(&mut Policy)) {
        edit(&mut self.rows.policy.lock().unwrap());
        self.rows.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// As a head read does, on the way.
    fn head_read(&self) {
        *self.rows.seen.lock().unwrap() = Some((self.rows.epoch.load(Ordering::SeqCst), Instant::now()));
    }
}

#[tokio::test]
async fn who_is_busy_asks_nothing_and_a_new_epoch_is_followed() {
    let bench = Bench::new();
    bench.ask(Action::Read).await.unwrap();
    let before = (bench.rows.asked.load(Ordering::SeqCst), bench.rows.loaded.load(Ordering::SeqCst));
    for _ in 0..100 {
        bench.head_read();
        bench.ask(Action::Read).await.unwrap();
    }
    let after = (bench.rows.asked.load(Ordering::SeqCst), bench.rows.loaded.load(Ordering::SeqCst));
    assert_eq!(before, after);

    bench.change(|policy| policy.standing = Standing::Suspended("unpaid".to_owned()));
    bench.head_read();
    assert!(matches!(bench.ask(Action::Read).await, Err(Denied::Suspended(_))));
}

#[tokio::test]
async fn who_is_idle_asks_for_the_epoch_before_an_answer() {
    let bench = Bench::new();
    bench.ask(Action::Read).await.unwrap();
    bench.change(|policy| policy.standing = Standing::Suspended(String::new()));
    let past = Instant::now().checked_sub(FRESH).unwrap();
    *bench.rows.seen.lock().unwrap() = Some((0, past));
    assert!(matches!(bench.ask(Action::Read).await, Err(Denied::Suspended(_))));
}

#[tokio::test]
async fn while_the_database_is_away_what_was_known_holds() {
    let bench = Bench::new();
    bench.rows.away.store(true, Ordering::SeqCst);
    assert!(matches!(bench.ask(Action::Read).await, Err(Denied::Unavailable(_))), "nothing is known yet");
    bench.rows.away.store(false, Ordering::SeqCst);
    bench.ask(Action::Read).await.unwrap();
    bench.rows.away.store(true, Ordering::SeqCst);
    *bench.rows.seen.lock().unwrap() = None;
    bench.ask(Action::Read).await.unwrap();
    assert!(matches!(bench.ask(Action::Write).await, Err(Denied::Forbidden(_))));
}

#[tokio::test]
async fn refusals_are_noted_with_their_request_and_questions_are_not() {
    let bench = Bench::new();
    let access = bench.ask(Action::Read).await.unwrap();
    assert!(!access.guard.reaches(access.principal(), &"other".parse().unwrap()).await);
    assert!(bench.rows.refused.lock().unwrap().is_empty());
    assert!(bench.ask(Action::Write).await.is_err());
    assert!(bench.guard.authorize(&bench.headers, "other", Action::Read).await.is_err());
    assert!(bench.guard.operator(&bench.headers).await.is_err());
    let refused = bench.rows.refused.lock().unwrap().clone();
    assert_eq!(refused, ["acme ann Write r1", "other ann Read r1", "firn ann Administer r1"]);
}

#[tokio::test]
async fn limits_count_places_and_bytes() {
    let bench = Bench::new();
    bench.change(|policy| {
        policy.limits = Limits { concurrent_commits: Some(1), body_bytes: Some(10), ..Limits::default() };
    });
    let access = bench.ask(Action::Read).await.unwrap();
    let place = access.begin_change().unwrap();
    assert!(matches!(access.begin_change(), Err(Denied::TooMany { retry_after_s: 1, .. })));
    drop(place);
    assert!(access.begin_change().is_ok());
    for (name, value, fits) in [
        ("content-length", "10", true),
        ("content-length", "11", false),
        ("content-length", "-1", false),
        ("transfer-encoding", "chunked", false),
    ] {
        let mut headers = bench.headers.clone();
        headers.insert(name, HeaderValue::from_static(value));
        let asked = bench.guard.authorize(&headers, "acme", Action::Read).await;
        assert_eq!(asked.is_ok(), fits, "{name} {value}");
    }
}
