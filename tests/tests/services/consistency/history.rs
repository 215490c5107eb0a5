//! What clients saw, and whether one catalog without faults could have answered so.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

/// Value and content id by key.
pub(super) type State = BTreeMap<String, (String, String)>;

/// A state that was answered.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) hash: String,
    pub(super) state: State,
}

/// How a commit or merge ended, as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Acknowledged,
    Refused,
    Unknown,
}

/// A commit or merge that sets a key to a value of its own.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) value: String,
    pub(super) outcome: Outcome,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) reads: Vec<Read>,
    pub(super) writes: Vec<Write>,
}

/// A commit of the log, with the values that it set.
#[derive(Clone, Debug)]
pub(super) struct Committed {
    pub(super) hash: String,
    pub(super) puts: Vec<(String, String)>,
}

/// An operation whose place in the log is known.
struct Placed {
    began: Instant,
    ended: Instant,
    /// Commits that it saw; a write's own is the last of them.
    place: usize,
    writes: bool,
}

/// Checks the history against the log, oldest first.
pub(super) fn check(log: &[Committed], history: &History) -> Result<()> {
    let mut placed = places_of_writes(log, history)?;
    placed.extend(places_of_reads(log, history)?);
    in_order(&mut placed)
}

/// Each acknowledged value is in the log once, each refused one never, of unknown ones at most one.
fn places_of_writes(log: &[Committed], history: &History) -> Result<Vec<Placed>> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, commit) in log.iter().enumerate() {
        for (_, value) in &commit.puts {
            places.entry(value).or_default().push(place + 1);
        }
    }
    let mut placed = Vec::new();
    for Write { began, ended, value, outcome } in &history.writes {
        let found = places.get(value.as_str()).map_or(&[][..], Vec::as_slice);
        match outcome {
            Outcome::Acknowledged => {
                ensure!(
                    found.len() == 1,
                    "'{value}' was acknowledged, and is in the log {} times",
                    found.len()
                );
                placed.extend(found.iter().map(|place| Placed {
                    began: *began,
                    ended: *ended,
                    place: *place,
                    writes: true,
                }));
            }
            Outcome::Refused => ensure!(found.is_empty(), "'{value}' was refused, and is in the log"),
            Outcome::Unknown => ensure!(found.len() <= 1, "'{value}' is in the log {} times", found.len()),
        }
    }
    Ok(placed)
}

/// Each state that was read is that of a commit of the log.
fn places_of_reads(log: &[Committed], history: &History) -> Result<Vec<Placed>> {
    let places: HashMap<&str, usize> =
        log.iter().enumerate().map(|(place, commit)| (commit.hash.as_str(), place + 1)).collect();
    let mut reads = Vec::with_capacity(history.reads.len());
    for read in &history.reads {
        // Before the first commit there is none.
        let place = match places.get(read.hash.as_str()) {
            None if read.state.is_empty() => 0,
            place => *place.with_context(|| format!("{} was read, and is not in the log", read.hash))?,
        };
        reads.push((place, read));
    }
    reads.sort_by_key(|(place, _)| *place);
    let mut state: BTreeMap<&str, &str> = BTreeMap::new();
    let mut applied = 0;
    for (place, read) in &reads {
        for commit in &log[applied..*place] {
            state.extend(commit.puts.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        }
        applied = *place;
        let seen: BTreeMap<&str, &str> =
            read.state.iter().map(|(key, (value, _))| (key.as_str(), value.as_str())).collect();
        ensure!(seen == state, "at {} was read {seen:?}, and the log says {state:?}", read.hash);
    }
    let place =
        |(place, read): (usize, &Read)| Placed { began: read.began, ended: read.ended, place, writes: false };
    Ok(reads.into_iter().map(place).collect())
}

/// What ended before something began, that saw: reads never miss an acknowledged commit nor go back, and a commit comes after
/// all that was seen before it began.
fn in_order(placed: &mut [Placed]) -> Result<()> {
    let mut by_end: Vec<(Instant, usize)> = placed.iter().map(|op| (op.ended, op.place)).collect();
    by_end.sort_unstable();
    placed.sort_unstable_by_key(|op| op.began);
    let (mut ended, mut newest) = (0, 0);
    for op in placed {
        while let Some((_, place)) = by_end.get(ended).filter(|(end, _)| *end < op.began) {
            newest = newest.max(*place);
            ended += 1;
        }
        let least = newest + usize::from(op.writes);
        ensure!(
            op.place >= least,
            "{} saw {} commits, when {newest} had been seen or acknowledged before it began",
            if op.writes { "a commit" } else { "a read" },
            op.place
        );
    }
    Ok(())
}

/// The check itself: each kind of wrong history is found.
mod tests {
    use std::time::Duration;

    use super::*;

    fn log(values: &[&str]) -> Vec<Committed> {
        let commit = |value: &&str| Committed {
            hash: format!("#{value}"),
            puts: vec![("k".to_owned(), (*value).to_owned())],
        };
        values.iter().map(commit).collect()
    }

    struct Clock(Instant);

    impl Clock {
        fn new() -> Self {
            Self(Instant::now())
        }

        fn tick(&mut self) -> Instant {
            self.0 += Duration::from_millis(1);
            self.0
        }

        fn read(&mut self, value: &str) -> Read {
            let state = [("k".to_owned(), (value.to_owned(), "id".to_owned()))].into();
            Read { began: self.tick(), ended: self.tick(), hash: format!("#{value}"), state }
        }

        fn write(&mut self, value: &str, outcome: Outcome) -> Write {
            Write { began: self.tick(), ended: self.tick(), value: value.to_owned(), outcome }
        }
    }

    #[test]
    fn a_history_in_order_is_right() -> Result<()> {
        let mut clock = Clock::new();
        let writes = vec![
            clock.write("a", Outcome::Acknowledged),
            clock.write("x", Outcome::Unknown),
            clock.write("y", Outcome::Refused),
        ];
        let reads = vec![clock.read("a"), clock.read("b")];
        check(&log(&["a", "b"]), &History { reads, writes })
    }

    #[test]
    fn wrong_histories_are_found() {
        let mut clock = Clock::new();
        let (a, b) = (clock.write("a", Outcome::Acknowledged), clock.write("b", Outcome::Acknowledged));
        let (read_a, refused) = (clock.read("a"), clock.write("a", Outcome::Refused));
        let mut torn = clock.read("b");
        torn.state = read_a.state.clone();
        for (log, reads, writes, why) in [
            (log(&["b"]), vec![], vec![a.clone()], "in the log 0 times"),
            (log(&["a", "a"]), vec![], vec![a.clone()], "in the log 2 times"),
            (log(&["a"]), vec![], vec![refused], "was refused, and is in the log"),
            (log(&["b", "a"]), vec![], vec![a.clone(), b.clone()], "a commit saw 1 commits"),
            (log(&["a", "b"]), vec![read_a.clone()], vec![a, b], "a read saw 1 commits"),
            (log(&["a", "b"]), vec![torn], vec![], "and the log says"),
            (log(&["b"]), vec![read_a], vec![], "not in the log"),
        ] {
            let error = check(&log, &History { reads, writes }).map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|error| error.contains(why)), "{why}: {error:?}");
        }
    }
}
