//! Nodes of the tree and their bytes.
//!
//! Format 1: the format byte, the level byte, the number of entries, and per entry the key (number of elements, then each
//! element's length and bytes) and the value (a content's length and canonical JSON on level 0, a child's 32 bytes above).
//! Numbers are LEB128.

use bytes::Bytes;

use super::{Content, Key};
use crate::store::Hash;

const FORMAT: u8 = 1;

/// What a key has in a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Slot {
    /// On level 0.
    Content(Content),
    /// Above: the node whose last key this is.
    Child(Hash),
}

/// A node. All levels have entries in key order; above level 0 an entry's key is the last key below it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) level: u8,
    pub(super) entries: Vec<(Key, Slot)>,
}

/// Why bytes are no node.
#[derive(Debug, thiserror::Error)]
#[error("a tree node is damaged: {0}")]
pub(super) struct NodeError(&'static str);

impl Node {
    /// The tree without keys.
    pub(super) fn empty() -> Self {
        Self { level: 0, entries: Vec::new() }
    }

    pub(super) fn last_key(&self) -> Option<&Key> {
        self.entries.last().map(|(key, _)| key)
    }

    /// Where the first entry that isn't below `key` is.
    pub(super) fn position(&self, key: &Key) -> usize {
        self.entries.partition_point(|(other, _)| other < key)
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = vec![FORMAT, self.level];
        put_number(&mut bytes, self.entries.len());
        for (Key(elements), slot) in &self.entries {
            put_number(&mut bytes, elements.len());
            for element in elements {
                put_number(&mut bytes, element.len());
                bytes.extend_from_slice(element.as_bytes());
            }
            match slot {
                Slot::Content(content) => {
                    let json = content.canonical();
                    put_number(&mut bytes, json.len());
                    bytes.extend_from_slice(json.as_bytes());
                }
                Slot::Child(hash) => bytes.extend_from_slice(&hash.0),
            }
        }
        Bytes::from(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NodeError> {
        let [FORMAT, level, rest @ ..] = bytes else { return Err(NodeError("its format is unknown")) };
        let mut rest = rest;
        let count = take_number(&mut rest)?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let mut elements = Vec::new();
            for _ in 0..take_number(&mut rest)? {
                elements.push(take_text(&mut rest)?.to_owned());
            }
            let slot = if *level == 0 {
                let json = take_text(&mut rest)?;
                let content = Content::from_canonical(json);
                Slot::Content(content.map_err(|_| NodeError("a content is no JSON"))?)
            } else {
                let hash = Hash::from_slice(take(&mut rest, 32)?).ok_or(NodeError("a hash is cut off"))?;
                Slot::Child(hash)
            };
            entries.push((Key(elements), slot));
        }
        if rest.is_empty() {
            Ok(Self { level: *level, entries })
        } else {
            Err(NodeError("bytes are left over"))
        }
    }
}

fn put_number(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Result<usize, NodeError> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(NodeError("a number is too large"))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], NodeError> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(NodeError("it is cut off"))?;
    *bytes = rest;
    Ok(taken)
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, NodeError> {
    let length = take_number(bytes)?;
    std::str::from_utf8(take(bytes, length)?).map_err(|_| NodeError("a text is not UTF-8"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_reads_back_and_a_cut_one_does_not() {
        let content = Content::new(json!({"type": "ICEBERG_TABLE", "id": "1", "x": "y".repeat(300)}));
        let leaf =
            Node { level: 0, entries: vec![(Key(vec!["a".into(), "ü".into()]), Slot::Content(content))] };
        let inner = Node { level: 3, entries: vec![(Key(vec!["a".into()]), Slot::Child(Hash([7; 32])))] };
        for node in [leaf, inner, Node::empty()] {
            let bytes = node.encode();
            assert_eq!(Node::decode(&bytes).unwrap(), node);
            for length in 0..bytes.len() {
                assert!(Node::decode(&bytes[..length]).is_err(), "cut to {length}");
            }
        }
        assert!(Node::decode(&[9, 0, 0]).is_err());
    }
}
