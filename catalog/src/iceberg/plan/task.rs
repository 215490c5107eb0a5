//! Plan tasks: texts that say all that is needed to read a part of a scan. They give nobody anything: who shows one must be
//! allowed to read the table, and could have planned the same.

use std::io::{Read as _, Write as _};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use serde::{Deserialize, Serialize};

use super::kept::Plan;
use crate::scan::Span;

/// Longer ones than any that this server makes.
const MAX_BYTES: u64 = 4 << 20;

/// A part of a scan.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) plan: Plan,
    /// Of the scan that the span is of.
    pub(super) print: String,
    pub(super) span: Span,
}

impl Task {
    pub(super) fn to_text(&self) -> String {
        let json = serde_json::to_vec(self).expect("a task is always JSON");
        let mut zip = DeflateEncoder::new(Vec::new(), Compression::fast());
        zip.write_all(&json).expect("a vector takes everything");
        URL_SAFE_NO_PAD.encode(zip.finish().expect("a vector takes everything"))
    }

    /// `None` for what is no task.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let mut json = Vec::new();
        DeflateDecoder::new(&bytes[..]).take(MAX_BYTES).read_to_end(&mut json).ok()?;
        serde_json::from_slice(&json).ok()
    }
}
