#![allow(clippy::unwrap_used)]

use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};

use super::*;
use crate::packed::Packed;

fn finding() -> impl Strategy<Value = HostFinding> {
    (
        ("[a-z0-9-]{1,20}", select(STATUSES.to_vec()), any::<i64>(), any::<u64>()),
        (
            option::of(any::<i64>()),
            option::of(any::<i64>()),
            option::of("\\PC{0,40}"),
            option::of("[a-z]{1,9}"),
            (vec(any::<i64>(), 0..4), option::of(any::<i64>())),
        ),
    )
        .prop_map(|((rule_id, status, since_us, version), rest)| {
            let (breach_since_us, snoozed_until_us, evidence, assignee, flaps) = rest;
            HostFinding {
                rule_id,
                status,
                since_us,
                breach_since_us,
                version,
                snoozed_until_us,
                evidence,
                assignee,
                flaps: Flaps { openings_us: flaps.0, passing_since_us: flaps.1 },
            }
        })
}

/// Windows of a rule with two aggregates.
fn windows() -> impl Strategy<Value = WindowState> {
    let tally = (any::<u64>(), any::<i64>(), any::<i64>(), any::<i64>())
        .prop_map(|(count, sum, min, max)| Tally { count, sum, min, max });
    let open = btree_map(any::<i64>(), vec(tally, 2..=2), 0..4);
    (any::<u64>(), any::<u32>(), option::of(any::<i64>()), open).prop_map(
        |(revision, in_breach, closed_us, open)| WindowState { revision, in_breach, closed_us, open },
    )
}

fn state() -> impl Strategy<Value = HostState> {
    let order = (any::<i64>(), any::<i64>(), any::<i32>(), any::<i64>());
    let names = (option::of("\\PC{0,20}"), option::of("\\PC{0,20}"));
    let newer = (any::<i64>(), btree_map("[a-z]{1,9}", windows(), 0..3), any::<bool>());
    (any::<u64>(), order, names, vec(finding(), 0..14), newer).prop_map(
        |(epoch, order, (hostname, organization_id), findings, (received_us, windows, retired))| HostState {
            epoch,
            order,
            hostname,
            organization_id,
            findings,
            received_us,
            windows,
            retired,
        },
    )
}

proptest! {
    #[test]
    fn state_round_trips(state in state()) {
        prop_assert_eq!(decode(&encode(&state)).unwrap(), state);
    }

    #[test]
    fn findings_are_compared_as_they_lie_packed(state in state(), other in state()) {
        let packed = Packed::of(&state);
        let same = HostState { findings: state.findings.clone(), ..other.clone() };
        prop_assert!(packed.has_findings_of(&Packed::of(&same)));
        prop_assert_eq!(packed.has_findings_of(&Packed::of(&other)), state.findings == other.findings);
        prop_assert_eq!(packed.has_findings(), !state.findings.is_empty());
        prop_assert_eq!(packed.state(), state);
    }

    #[test]
    fn sections_of_a_newer_version_are_skipped(state in state(), tag in 4_u8.., newer in vec(any::<u8>(), 0..9)) {
        let mut bytes = encode(&state);
        put_section(&mut bytes, tag, &newer);
        prop_assert_eq!(decode(&bytes).unwrap(), state);
    }

    #[test]
    fn cut_or_broken_state_is_an_error_and_no_panic(state in state(), cut in any::<prop::sample::Index>()) {
        // A cut right before a section leaves a record without it, which is well-formed.
        let plain = HostState { received_us: state.order.1, windows: BTreeMap::new(), retired: false, ..state.clone() };
        let bytes = encode(&plain);
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
        let bytes = encode(&state);
        let _ = decode(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn noise_never_panics(bytes in vec(any::<u8>(), 0..80)) {
        let _ = decode(&bytes);
    }
}

#[test]
fn a_host_in_order_takes_few_bytes() {
    let order = (1_795_000_000_000_000, 1_795_000_000_000_000, 7, 123_456_789);
    let state = HostState {
        epoch: 1,
        order,
        hostname: Some("pc-123".to_owned()),
        received_us: order.1,
        ..HostState::default()
    };
    assert!(encode(&state).len() < 40, "{}", encode(&state).len());
}

/// Written by version 0.1.0 before there were assignees, windows and retirement.
#[test]
fn state_of_the_first_version_is_read() {
    let old = [1, 1, 20, 30, 2, 8, 3, b'p', b'c', 0, 1, 11, 4, b'e', b'n', b'c', 2, 20, 1, 1, 20, 0, 0];
    let state = decode(&old).unwrap();
    assert_eq!((state.order, state.hostname.as_deref()), ((10, 15, 1, 4), Some("pc")));
    let finding = &state.findings[0];
    assert_eq!((finding.rule_id.as_str(), finding.status), ("enc", FindingStatus::Open));
    assert_eq!((finding.since_us, finding.breach_since_us, &finding.assignee), (10, Some(10), &None));
    assert_eq!((state.received_us, state.retired, state.windows.len()), (15, false, 0));
}

#[test]
fn unknown_format_names_the_way_out() {
    assert!(decode(&[9]).unwrap_err().contains("start the version that wrote it"));
}
