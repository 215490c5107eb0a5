#![allow(clippy::unwrap_used)]

use arrow::{
    array::StringArray,
    datatypes::{Schema, SchemaRef},
};
use proptest::prelude::*;

use super::*;
use crate::{Policy, compile, parse};

const SECOND: i64 = 1_000_000;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("os_type", DataType::Utf8, true),
        Field::new("cpu", DataType::Int32, true),
        Field::new("cores", DataType::Int64, true),
    ]))
}

fn policy(rule: &str, window: &str) -> Policy {
    let toml = format!(
        "id='p'\ntitle='P'\nseverity='low'\nplatforms=['linux']\nrule=\"{rule}\"\n[window]\n{window}"
    );
    parse(&toml, "p.toml").unwrap()
}

fn rule(rule: &str, window: &str) -> CompiledRule {
    compile(&policy(rule, window), &schema()).unwrap()
}

fn samples(rule: &CompiledRule, rows: &[(Option<i32>, i64)]) -> WindowSamples {
    let os: StringArray = rows.iter().map(|_| Some("linux")).collect();
    let cpu = arrow::array::Int32Array::from_iter(rows.iter().map(|row| row.0));
    let cores = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(os), Arc::new(cpu), Arc::new(cores)]).unwrap();
    rule.samples(&batch).unwrap().0
}

/// Feeds (event second, received second, cpu), closing before each record what is over by then, and at last at `end`.
fn run(rule: &CompiledRule, records: &[(i64, i64, Option<i32>)], end: i64) -> (Vec<(i64, Verdict)>, u32) {
    let window = rule.window().unwrap();
    let (mut state, mut told, mut late) = (window.start(), Vec::new(), 0);
    for (event, received, cpu) in records {
        told.extend(window.close(&mut state, received * SECOND));
        let samples = samples(rule, &[(*cpu, 1)]);
        late += u32::from(window.add(&mut state, event * SECOND, received * SECOND, &samples, 0));
    }
    told.extend(window.close(&mut state, end * SECOND));
    (told.iter().map(|closed| (closed.end_us / SECOND, closed.verdict)).collect(), late)
}

use Verdict::{Fail, NoResult, Pass};

#[test]
fn row_of_windows_in_breach_is_a_breach_and_one_good_window_ends_it() {
    let rule = rule("avg(cpu) <= 90", "size_s = 10\nin_a_row = 3\nlateness_s = 0");
    let load =
        [95, 100, 91, 99, 50, 95].into_iter().zip(0..).map(|(cpu, at)| (at * 10 + 1, at * 10 + 1, Some(cpu)));
    let (told, late) = run(&rule, &load.collect::<Vec<_>>(), 60);
    let verdicts = [NoResult, NoResult, Fail, Fail, Pass, NoResult];
    assert_eq!(told, (1..=6).map(|at| at * 10).zip(verdicts).collect::<Vec<_>>());
    assert_eq!(late, 0);
}

#[test]
fn averages_are_over_all_samples_of_a_window() {
    let rule = rule("avg(cpu) <= 90", "size_s = 10\nlateness_s = 0");
    assert_eq!(run(&rule, &[(1, 1, Some(100)), (2, 2, Some(80)), (11, 11, None)], 20).0, [(10, Pass)]);
    assert_eq!(run(&rule, &[(1, 1, Some(100)), (2, 2, Some(81))], 20).0, [(10, Fail)]);
}

#[test]
fn window_without_a_sample_breaks_the_row() {
    let rule = rule("avg(cpu) <= 90", "size_s = 10\nin_a_row = 2\nlateness_s = 0");
    let gap = [(1, 1, Some(95)), (21, 21, Some(95)), (31, 31, Some(95))];
    assert_eq!(run(&rule, &gap, 40).0, [(10, NoResult), (30, NoResult), (40, Fail)]);
    let unknown = [(1, 1, Some(95)), (11, 11, None), (21, 21, Some(95))];
    assert_eq!(run(&rule, &unknown, 30).0, [(10, NoResult), (30, NoResult)]);
}

#[test]
fn late_samples_count_within_the_lateness_and_are_told_beyond() {
    let rule = rule("max(cpu) <= 90", "size_s = 10\nlateness_s = 5");
    // Out of order and 4 s after the end: counts. 5 s after: too late, though nothing has closed the window yet.
    assert_eq!(run(&rule, &[(12, 12, Some(1)), (9, 14, Some(95))], 30), (vec![(10, Fail), (20, Pass)], 0));
    assert_eq!(run(&rule, &[(2, 2, Some(1)), (9, 15, Some(95))], 30), (vec![(10, Pass)], 1));
}

#[test]
fn sliding_windows_overlap() {
    let rule = rule("sum(cpu) < 10", "size_s = 20\nslide_s = 10\nlateness_s = 0");
    let (told, _) = run(&rule, &[(5, 5, Some(6)), (15, 15, Some(6))], 60);
    assert_eq!(told, [(10, Pass), (20, Fail), (30, Pass)]);
}

#[test]
fn several_aggregates_and_counts_judge_together() {
    let rule = rule("count(*) < 2 OR min(cpu) > 5 OR count(cpu) = 0", "size_s = 10\nlateness_s = 0");
    assert_eq!(run(&rule, &[(1, 1, Some(3)), (2, 2, None)], 10).0, [(10, Fail)]);
    assert_eq!(run(&rule, &[(1, 1, Some(3))], 10).0, [(10, Pass)]);
    assert_eq!(run(&rule, &[(1, 1, None), (2, 2, None)], 10).0, [(10, Pass)]);
}

#[test]
fn argument_that_fails_on_a_row_spoils_that_row_only() {
    let rule = rule("max(cpu / cores) < 5", "size_s = 10\nlateness_s = 0");
    let samples = samples(&rule, &[(Some(8), 2), (Some(8), 0), (Some(9), 1)]);
    let column = &samples.columns[0];
    assert_eq!((column.value(0), column.is_valid(1), column.value(2)), (4, false, 9));
}

#[test]
fn evidence_names_the_window_and_its_totals() {
    let rule = rule("avg(cpu) <= 90 AND max(cpu) < 100", "size_s = 10\nlateness_s = 0");
    let window = rule.window().unwrap();
    let mut state = window.start();
    let samples = samples(&rule, &[(Some(95), 1), (Some(96), 1)]);
    window.add(&mut state, 3 * SECOND, 3 * SECOND, &samples, 0);
    window.add(&mut state, 4 * SECOND, 4 * SECOND, &samples, 1);
    let closed = window.close(&mut state, 10 * SECOND);
    assert_eq!(
        closed[0].evidence,
        json!({
            "window_start": "1970-01-01T00:00:00Z", "window_end": "1970-01-01T00:00:10Z", "avg(cpu)": 95.5,
            "max(cpu)": 96, "windows_in_breach": 1,
        })
    );
}

#[test]
fn other_platforms_bring_no_samples() {
    let rule = rule("count(*) < 1", "size_s = 10");
    let os: StringArray = [Some("windows"), None, Some("linux")].into_iter().collect();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(os), new_null_array(&DataType::Int32, 3), new_null_array(&DataType::Int64, 3)];
    let (samples, error) = rule.samples(&RecordBatch::try_new(schema(), columns).unwrap()).unwrap();
    assert_eq!(
        ((0..3).map(|row| samples.has_any(row)).collect::<Vec<_>>(), error),
        (vec![false, false, true], None)
    );
}

proptest! {
    /// Closing at other moments than before the host's own records (as a timer does) changes no verdict.
    #[test]
    fn verdicts_do_not_depend_on_when_windows_are_closed(
        records in proptest::collection::vec((0_i64..12, 0_i64..9, 80_i32..100), 1..60),
        ticks in proptest::collection::vec(any::<bool>(), 60),
    ) {
        let rule = rule("avg(cpu) <= 90", "size_s = 8\nslide_s = 4\nin_a_row = 2\nlateness_s = 3");
        let window = rule.window().unwrap();
        let mut received = 0;
        let records: Vec<_> = records.into_iter().map(|(step, behind, cpu)| {
            received += step;
            ((received - behind).max(0), received, Some(cpu))
        }).collect();
        let (eager, late) = run(&rule, &records, received + 20);
        let (mut state, mut told, mut late_too) = (window.start(), Vec::new(), 0);
        for ((event, received, cpu), tick) in records.iter().zip(&ticks) {
            if *tick {
                told.extend(window.close(&mut state, received * SECOND));
            }
            let samples = samples(&rule, &[(*cpu, 1)]);
            late_too += u32::from(window.add(&mut state, event * SECOND, received * SECOND, &samples, 0));
        }
        told.extend(window.close(&mut state, (received + 20) * SECOND));
        let told: Vec<_> = told.iter().map(|closed| (closed.end_us / SECOND, closed.verdict)).collect();
        prop_assert_eq!(told, eager);
        prop_assert_eq!(late_too, late);
    }
}
