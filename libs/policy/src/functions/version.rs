//! `version_at_least(version, least)`: whether a version is the same or later. Null if either is null or no version.

use std::{cmp::Ordering, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray},
    compute::cast,
    datatypes::DataType,
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct VersionAtLeast {
    signature: Signature,
}

impl Default for VersionAtLeast {
    fn default() -> Self {
        Self { signature: Signature::string(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for VersionAtLeast {
    fn name(&self) -> &str {
        "version_at_least"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (version, least) = (cast(&arrays[0], &DataType::Utf8)?, cast(&arrays[1], &DataType::Utf8)?);
        let pairs = version.as_string::<i32>().iter().zip(least.as_string::<i32>().iter());
        let verdicts: BooleanArray = pairs.map(|(version, least)| at_least(version?, least?)).collect();
        Ok(ColumnarValue::Array(Arc::new(verdicts)))
    }
}

fn at_least(version: &str, least: &str) -> Option<bool> {
    Some(compare(version, least)? != Ordering::Less)
}

/// Compares number by number; missing numbers are zero. As in semantic versions, a pre-release (`1.0-rc1`) comes before its
/// release and build data after `+` doesn't count. `None` if either doesn't begin with a number (a leading `v` is fine).
fn compare(left: &str, right: &str) -> Option<Ordering> {
    let (left, left_pre) = split(left)?;
    let (right, right_pre) = split(right)?;
    for at in 0..left.len().max(right.len()) {
        let number = |numbers: &[u64]| numbers.get(at).copied().unwrap_or(0);
        match number(&left).cmp(&number(&right)) {
            Ordering::Equal => {}
            other => return Some(other),
        }
    }
    Some(match (left_pre, right_pre) {
        (None, None) => Ordering::Equal,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some(left), Some(right)) => left.cmp(right),
    })
}

/// The leading numbers, and the pre-release if there is one.
fn split(version: &str) -> Option<(Vec<u64>, Option<&str>)> {
    let version = version.trim().trim_start_matches(['v', 'V']);
    let version = version.split(['+', ' ']).next().unwrap_or_default();
    let (release, pre) = match version.split_once('-') {
        Some((release, pre)) => (release, Some(pre)),
        None => (version, None),
    };
    let numbers: Option<Vec<u64>> = release.split('.').map(|part| part.parse().ok()).collect();
    Some((numbers?, pre))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_not_by_text() {
        for (version, least, expected) in [
            ("10.0.19045", "10.0.19045", Some(true)),
            ("9.1", "10", Some(false)),
            ("24.04", "22.04", Some(true)),
            ("14", "14.0.0", Some(true)),
            ("14.0.0-rc1", "14", Some(false)),
            ("v2.1+build7", "2.1", Some(true)),
            ("24.04 LTS", "24.04", Some(true)),
            ("rolling", "1", None),
            ("", "1", None),
        ] {
            assert_eq!(at_least(version, least), expected, "{version} >= {least}");
        }
    }
}
