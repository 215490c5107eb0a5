#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;

use super::*;

const DUE: Due = Due { interval: Duration::from_secs(5), bytes: 1 << 20, max_buffered_bytes: 2 << 20 };

fn taken(partition: i32, offset: i64) -> Taken {
    Taken {
        traceparent: None,
        partition,
        offset,
        received_at_us: 0,
        source: Arc::from("native"),
        key: None,
        value: None,
        rejection: None,
    }
}

/// Loose records are there at once.
fn records(pending: Pending) -> Vec<Taken> {
    futures::executor::block_on(pending.into_records())
}

fn offsets(pending: Pending) -> Vec<(i32, i64)> {
    records(pending).iter().map(|taken| (taken.partition, taken.offset)).collect()
}

#[test]
fn group_offset_waits_for_the_slowest_tenant() {
    let now = Instant::now();
    let mut book = Book::default();
    book.assign(0, 0);
    book.take("a", taken(0, 0), now);
    book.take("b", taken(0, 1), now);
    book.take("a", taken(0, 2), now);
    assert_eq!(book.committable(), Firsts::new());
    book.start("a");
    book.committed("a", &Positions::from([(0, 3)]));
    assert_eq!(book.committable(), Firsts::from([(0, 1)]));
    book.start("b");
    assert_eq!(book.committable(), Firsts::from([(0, 1)]), "in flight is not committed");
    book.committed("b", &Positions::from([(0, 2)]));
    assert_eq!(book.committable(), Firsts::from([(0, 3)]));
    book.group_committed(&Firsts::from([(0, 3)]));
    assert_eq!(book.committable(), Firsts::new());
    assert_eq!(book.buffered_bytes(), 0);
}

#[test]
fn failed_tenant_is_read_again_and_the_others_are_not_taken_twice() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut book = Book::default();
    book.assign(0, 10);
    book.take("a", taken(0, 10), now);
    book.take("b", taken(0, 11), now);
    book.start("a");
    book.take("a", taken(0, 12), now);
    book.hold("a", later);
    book.take("a", taken(0, 13), now);
    assert_eq!(book.release(now), Firsts::new());
    assert_eq!(book.low_watermarks(), Firsts::from([(0, 10)]));
    assert_eq!(book.release(later), Firsts::from([(0, 10)]));
    for (tenant, offset) in [("a", 10), ("b", 11), ("a", 12), ("a", 13)] {
        book.take(tenant, taken(0, offset), now);
    }
    assert_eq!(offsets(book.start("a")), [(0, 10), (0, 12), (0, 13)]);
    assert_eq!(offsets(book.start("b")), [(0, 11)]);
}

#[test]
fn partition_is_never_sought_forward() {
    let now = Instant::now();
    let mut book = Book::default();
    book.assign(0, 0);
    book.take("a", taken(0, 0), now);
    book.take("b", taken(0, 1), now);
    book.start("a");
    book.start("b");
    book.hold("a", now);
    assert_eq!(book.release(now), Firsts::from([(0, 0)]));
    book.hold("b", now);
    assert_eq!(book.release(now), Firsts::new(), "offset 0 is still to be read");
}

#[test]
fn revoked_partition_leaves_nothing_behind() {
    let now = Instant::now();
    let mut book = Book::default();
    book.assign(0, 0);
    book.assign(1, 0);
    book.take("a", taken(0, 0), now);
    book.take("a", taken(1, 0), now);
    book.revoke(0);
    book.take("a", taken(0, 1), now);
    assert_eq!(offsets(book.start("a")), [(1, 0)]);
    book.hold("a", now);
    book.revoke(1);
    assert_eq!(book.release(now), Firsts::new(), "another worker reads it");
    assert_eq!(book.buffered_bytes(), 0);
}

#[test]
fn suspended_tenant_keeps_its_place_and_ends_its_commit() {
    let now = Instant::now();
    let mut book = Book::default();
    book.assign(0, 0);
    book.take("a", taken(0, 0), now);
    book.start("a");
    book.take("a", taken(0, 1), now);
    assert!(book.suspend("a"));
    assert!(!book.suspend("a"), "it was already");
    book.take("a", taken(0, 2), now);
    book.take("b", taken(0, 3), now);
    assert!(book.is_committing("a"));
    book.committed("a", &Positions::from([(0, 1)]));
    assert_eq!(book.release(now + Duration::from_secs(3600)), Firsts::new(), "no time lets go of it");
    assert_eq!(book.due(DUE, now + Duration::from_secs(3600)).as_deref(), Some("b"));
    assert_eq!(book.waiting().collect::<BTreeSet<_>>(), BTreeSet::from([("a", 2), ("b", 1)]));
    book.start("b");
    book.committed("b", &Positions::from([(0, 4)]));
    assert_eq!(book.low_watermarks(), Firsts::from([(0, 1)]), "the group waits at its place");
    assert_eq!(book.buffered_bytes(), 0);

    book.resume("a", now);
    assert_eq!(book.release(now), Firsts::from([(0, 1)]));
    for (tenant, offset) in [("a", 1), ("a", 2), ("b", 3)] {
        book.take(tenant, taken(0, offset), now);
    }
    assert_eq!(offsets(book.start("a")), [(0, 1), (0, 2)]);
    assert!(book.start("b").is_empty());
}

#[test]
fn commit_that_fails_while_suspended_is_read_again_after_it() {
    let now = Instant::now();
    let mut book = Book::default();
    book.assign(0, 0);
    book.take("a", taken(0, 0), now);
    book.start("a");
    book.suspend("a");
    book.take("a", taken(0, 1), now);
    book.hold("a", now);
    assert!(book.is_suspended("a") && !book.is_committing("a"));
    assert_eq!(book.release(now), Firsts::new());
    book.resume("a", now);
    assert_eq!(book.release(now), Firsts::from([(0, 0)]));
}

#[test]
fn due_by_age_by_size_and_by_memory() {
    let now = Instant::now();
    let mut book = Book::default();
    book.assign(0, 0);
    assert_eq!(book.due(DUE, now), None);
    book.take("old", taken(0, 0), now);
    assert_eq!(book.due(DUE, now + Duration::from_secs(4)), None);
    assert_eq!(book.due(DUE, now + Duration::from_secs(5)).as_deref(), Some("old"));
    let large = |bytes: usize, offset| Taken { value: Some(vec![0; bytes].into()), ..taken(0, offset) };
    book.take("large", large(1 << 20, 1), now);
    assert_eq!(book.due(DUE, now).as_deref(), Some("large"));
    book.start("large");
    book.take("large", large(1 << 20, 2), now);
    assert!(book.is_full(DUE));
    assert_eq!(book.due(DUE, now).as_deref(), Some("old"), "one commit per tenant at a time");
}

/// What may happen, in an order that proptest picks.
#[derive(Clone, Debug)]
enum Step {
    Read(usize),
    Start(usize),
    Succeed(usize),
    Fail(usize),
    Suspend(usize),
    Resume(usize),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1..4_usize).prop_map(Step::Read),
        2 => (0..3_usize).prop_map(Step::Start),
        2 => (0..3_usize).prop_map(Step::Succeed),
        1 => (0..3_usize).prop_map(Step::Fail),
        1 => (0..3_usize).prop_map(Step::Suspend),
        1 => (0..3_usize).prop_map(Step::Resume),
        1 => Just(Step::Crash),
    ]
}

const TENANTS: [&str; 3] = ["a", "b", "c"];

/// The catalog: rows by tenant, guarded by positions as `commit` does it.
#[derive(Default)]
struct Catalog {
    rows: BTreeSet<i64>,
    positions: HashMap<&'static str, i64>,
}

impl Catalog {
    fn commit(&mut self, tenant: &'static str, records: &[Taken]) -> Positions {
        let position = self.positions.entry(tenant).or_default();
        for taken in records.iter().filter(|taken| taken.offset >= *position) {
            assert!(self.rows.insert(taken.offset), "offset {} twice", taken.offset);
        }
        let end = records.last().map_or(0, |taken| taken.offset + 1);
        *position = end.max(*position);
        Positions::from([(0, *position)])
    }
}

proptest! {
    #[test]
    fn every_record_is_taken_once_whatever_fails(
        owners in proptest::collection::vec(0..3_usize, 1..40),
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let now = Instant::now();
        let log: Vec<&'static str> = owners.iter().map(|owner| TENANTS[*owner]).collect();
        let end = i64::try_from(log.len()).unwrap();
        let mut catalog = Catalog::default();
        let (mut group, mut book, mut cursor) = (0_i64, Book::default(), 0_i64);
        let mut flying: HashMap<&'static str, Vec<Taken>> = HashMap::new();
        book.assign(0, 0);
        // After whatever happened, a run without failures must finish the job.
        let finish = [Step::Crash].into_iter().chain([Step::Read(log.len())]);
        let finish = finish.chain((0..3).flat_map(|tenant| [Step::Start(tenant), Step::Succeed(tenant)]));
        for step in steps.into_iter().chain(finish) {
            match step {
                Step::Read(count) => {
                    for _ in 0..count.min(usize::try_from(end - cursor).unwrap()) {
                        book.take(log[usize::try_from(cursor).unwrap()], taken(0, cursor), now);
                        cursor += 1;
                    }
                }
                Step::Start(tenant) if !flying.contains_key(TENANTS[tenant]) => {
                    let records = records(book.start(TENANTS[tenant]));
                    flying.insert(TENANTS[tenant], records);
                }
                Step::Succeed(tenant) => if let Some(records) = flying.remove(TENANTS[tenant]) {
                    let positions = catalog.commit(TENANTS[tenant], &records);
                    book.committed(TENANTS[tenant], &positions);
                },
                // An unknown outcome that did land.
                Step::Fail(tenant) => if let Some(records) = flying.remove(TENANTS[tenant]) {
                    catalog.commit(TENANTS[tenant], &records);
                    book.hold(TENANTS[tenant], now);
                },
                Step::Suspend(tenant) => {
                    book.suspend(TENANTS[tenant]);
                }
                Step::Resume(tenant) => book.resume(TENANTS[tenant], now),
                Step::Crash => {
                    book = Book::default();
                    flying.clear();
                    book.assign(0, group);
                    cursor = group;
                }
                Step::Start(_) => {}
            }
            if let Some(offset) = book.release(now).get(&0) {
                cursor = *offset;
            }
            let committable = book.committable();
            if let Some(offset) = committable.get(&0) {
                group = *offset;
                prop_assert!((0..group).all(|offset| catalog.rows.contains(&offset)), "group offset passed a record");
            }
            book.group_committed(&committable);
        }
        prop_assert_eq!(catalog.rows.len(), log.len());
        prop_assert_eq!(group, end);
    }
}
