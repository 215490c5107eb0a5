//! The state topic's records: packed, about 30 bytes for a host that breaks no rule.
//!
//! ```text
//! format 1: u8 format, varint epoch, order (2 zigzag varints, varint, varint), text hostname, text organization,
//!           varint count, then per finding: varint length, and in it
//!           text rule, u8 status, zigzag since, varint version, option zigzag breach_since, option zigzag snoozed_until,
//!           option text evidence, option text assignee,
//!           and of one that flapped: option zigzag passing_since, varint count, then zigzag openings
//!           then sections to the end: u8 tag, varint length, and in it
//!           1: zigzag largest receipt time (absent: that of the order)
//!           2: varint count, then per rule with windows: varint length, and in it
//!              text rule, varint revision, varint windows in breach, option zigzag closed, varint aggregates, varint windows,
//!              then per window: zigzag start, then per aggregate: varint count, zigzag sum, zigzag min, zigzag max
//!           3: (empty) the host is retired
//! text: varint length + 1 (0: absent), bytes.  option: u8 0 or 1, value.
//! ```
//!
//! Fields are only ever added at the end of a finding, or as sections at the end of the record, and readers skip what they
//! don't know: an older version reads a newer one's state during a rolling upgrade, and a newer one what has less. A change
//! that breaks this takes another format byte, which older versions refuse with a clear error.

use std::collections::BTreeMap;

use firn_policy::{FindingStatus, Flaps, Tally, WindowState};

use crate::host::{HostFinding, HostState};

const FORMAT: u8 = 1;
/// Numbers of a record's order.
const ORDER: usize = 4;
/// Texts before the findings.
const TEXTS: usize = 2;
const RECEIVED: u8 = 1;
const WINDOWS: u8 = 2;
const RETIRED: u8 = 3;
const STATUSES: [FindingStatus; 6] = [
    FindingStatus::Compliant,
    FindingStatus::Pending,
    FindingStatus::Open,
    FindingStatus::Acknowledged,
    FindingStatus::Snoozed,
    FindingStatus::Resolved,
];

/// Packs a host's state.
pub(crate) fn encode(state: &HostState) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 64 * state.findings.len());
    out.push(FORMAT);
    put_varint(&mut out, state.epoch);
    put_signed(&mut out, state.order.0);
    put_signed(&mut out, state.order.1);
    put_signed(&mut out, i64::from(state.order.2));
    put_signed(&mut out, state.order.3);
    put_text(&mut out, state.hostname.as_deref());
    put_text(&mut out, state.organization_id.as_deref());
    put_varint(&mut out, state.findings.len() as u64);
    for finding in &state.findings {
        let packed = encode_finding(finding);
        put_varint(&mut out, packed.len() as u64);
        out.extend_from_slice(&packed);
    }
    if state.received_us != state.order.1 {
        let mut received = Vec::new();
        put_signed(&mut received, state.received_us);
        put_section(&mut out, RECEIVED, &received);
    }
    if !state.windows.is_empty() {
        put_section(&mut out, WINDOWS, &encode_windows(&state.windows));
    }
    if state.retired {
        put_section(&mut out, RETIRED, &[]);
    }
    out
}

fn put_section(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn encode_windows(windows: &BTreeMap<String, WindowState>) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, windows.len() as u64);
    for (rule_id, state) in windows {
        let mut packed = Vec::new();
        put_text(&mut packed, Some(rule_id));
        put_varint(&mut packed, state.revision);
        put_varint(&mut packed, state.in_breach.into());
        put_option(&mut packed, state.closed_us);
        let aggregates = state.open.values().next().map_or(0, Vec::len);
        put_varint(&mut packed, aggregates as u64);
        put_varint(&mut packed, state.open.len() as u64);
        for (start_us, tallies) in &state.open {
            put_signed(&mut packed, *start_us);
            for tally in tallies {
                put_varint(&mut packed, tally.count);
                put_signed(&mut packed, tally.sum);
                put_signed(&mut packed, tally.min);
                put_signed(&mut packed, tally.max);
            }
        }
        put_varint(&mut out, packed.len() as u64);
        out.extend_from_slice(&packed);
    }
    out
}

fn encode_finding(finding: &HostFinding) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put_text(&mut out, Some(&finding.rule_id));
    let status = STATUSES.iter().position(|status| *status == finding.status).unwrap_or_default();
    out.push(u8::try_from(status).unwrap_or_default());
    put_signed(&mut out, finding.since_us);
    put_varint(&mut out, finding.version);
    put_option(&mut out, finding.breach_since_us);
    put_option(&mut out, finding.snoozed_until_us);
    put_text(&mut out, finding.evidence.as_deref());
    put_text(&mut out, finding.assignee.as_deref());
    let Flaps { openings_us, passing_since_us } = &finding.flaps;
    if finding.flaps != Flaps::default() {
        put_option(&mut out, *passing_since_us);
        put_varint(&mut out, openings_us.len() as u64);
        openings_us.iter().for_each(|opening_us| put_signed(&mut out, *opening_us));
    }
    out
}

/// How many findings a packed state has, and how they lie in it.
pub(crate) fn findings(bytes: &[u8]) -> Result<(u64, &[u8]), String> {
    let mut input = Input::of(bytes)?;
    input.varint()?;
    for _ in 0..ORDER {
        input.varint()?;
    }
    for _ in 0..TEXTS {
        input.bytes()?;
    }
    let count = input.varint()?;
    let begin = input.rest;
    for _ in 0..count {
        let length = input.length()?;
        input.take(length)?;
    }
    Ok((count, &begin[..begin.len() - input.rest.len()]))
}

/// Unpacks a host's state; the error says what is wrong with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<HostState, String> {
    let mut input = Input::of(bytes)?;
    let epoch = input.varint()?;
    let order = (input.signed()?, input.signed()?, input.small()?, input.signed()?);
    let (hostname, organization_id) = (input.text()?, input.text()?);
    let count = input.varint()?;
    let mut findings = Vec::new();
    for _ in 0..count {
        let length = input.length()?;
        findings.push(decode_finding(input.take(length)?)?);
    }
    let mut state = HostState {
        epoch,
        order,
        hostname,
        organization_id,
        findings,
        received_us: order.1,
        ..HostState::default()
    };
    while !input.rest.is_empty() {
        let (tag, length) = (input.byte()?, input.length()?);
        let mut section = Input { rest: input.take(length)? };
        match tag {
            RECEIVED => state.received_us = section.signed()?,
            WINDOWS => state.windows = decode_windows(&mut section)?,
            RETIRED => state.retired = true,
            _ => {}
        }
    }
    Ok(state)
}

fn decode_windows(input: &mut Input<'_>) -> Result<BTreeMap<String, WindowState>, String> {
    let mut windows = BTreeMap::new();
    for _ in 0..input.varint()? {
        let length = input.length()?;
        let mut packed = Input { rest: input.take(length)? };
        let rule_id = packed.text()?.ok_or("a rule's windows have no rule")?;
        let revision = packed.varint()?;
        let in_breach = u32::try_from(packed.varint()?).unwrap_or(u32::MAX);
        let closed_us = packed.option()?;
        let (aggregates, count) = (packed.varint()?, packed.varint()?);
        let mut open = BTreeMap::new();
        for _ in 0..count {
            let (start_us, mut tallies) = (packed.signed()?, Vec::new());
            for _ in 0..aggregates {
                let (count, sum) = (packed.varint()?, packed.signed()?);
                tallies.push(Tally { count, sum, min: packed.signed()?, max: packed.signed()? });
            }
            open.insert(start_us, tallies);
        }
        windows.insert(rule_id, WindowState { revision, in_breach, closed_us, open });
    }
    Ok(windows)
}

fn decode_finding(bytes: &[u8]) -> Result<HostFinding, String> {
    let mut input = Input { rest: bytes };
    let rule_id = input.text()?.ok_or("a finding has no rule")?;
    let status = input.byte()?;
    let status =
        STATUSES.get(usize::from(status)).ok_or_else(|| format!("finding status {status} is not known"))?;
    Ok(HostFinding {
        rule_id,
        status: *status,
        since_us: input.signed()?,
        version: input.varint()?,
        breach_since_us: input.option()?,
        snoozed_until_us: input.option()?,
        evidence: input.text()?,
        // Findings from before there were assignees end here.
        assignee: if input.rest.is_empty() { None } else { input.text()? },
        flaps: if input.rest.is_empty() { Flaps::default() } else { decode_flaps(&mut input)? },
    })
}

fn decode_flaps(input: &mut Input<'_>) -> Result<Flaps, String> {
    let (passing_since_us, count) = (input.option()?, input.varint()?);
    let openings_us = (0..count).map(|_| input.signed()).collect::<Result<_, _>>()?;
    Ok(Flaps { openings_us, passing_since_us })
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn put_option(out: &mut Vec<u8>, value: Option<i64>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put_signed(out, value);
    }
}

fn put_text(out: &mut Vec<u8>, text: Option<&str>) {
    put_varint(out, text.map_or(0, |text| text.len() as u64 + 1));
    out.extend_from_slice(text.unwrap_or_default().as_bytes());
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// What follows the format.
    fn of(bytes: &'a [u8]) -> Result<Self, String> {
        let mut input = Self { rest: bytes };
        match input.byte()? {
            FORMAT => Ok(input),
            format => Err(format!(
                "state format {format} is not known to this version: start the version that wrote it"
            )),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("the state record is cut off")?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number in the state record never ends".to_owned())
    }

    fn length(&mut self) -> Result<usize, String> {
        usize::try_from(self.varint()?).map_err(|_| "a length in the state record is too large".to_owned())
    }

    fn signed(&mut self) -> Result<i64, String> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn small(&mut self) -> Result<i32, String> {
        i32::try_from(self.signed()?).map_err(|_| "a partition in the state record is too large".to_owned())
    }

    fn option(&mut self) -> Result<Option<i64>, String> {
        match self.byte()? {
            0 => Ok(None),
            _ => Ok(Some(self.signed()?)),
        }
    }

    /// The bytes of a text.
    fn bytes(&mut self) -> Result<Option<&'a [u8]>, String> {
        let length = self.length()?.checked_sub(1);
        length.map(|length| self.take(length)).transpose()
    }

    fn text(&mut self) -> Result<Option<String>, String> {
        let Some(bytes) = self.bytes()? else { return Ok(None) };
        String::from_utf8(bytes.to_vec())
            .map(Some)
            .map_err(|_| "a text in the state record is not UTF-8".to_owned())
    }
}

#[cfg(test)]
mod tests;
