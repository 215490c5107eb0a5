//! What statistics say about a test: whether no row, all rows, or some rows of a file can pass it.
//!
//! Engines disagree about some rows: a test such as "not equal" takes nulls for one and not for another, and NaN is above all
//! numbers or not comparable at all. Such rows may pass, so that a file with them stays and its filter too.

use std::cmp::Ordering;

use super::{datum::Datum, primitive::Primitive, transform::Transform};

/// How many rows pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rows {
    /// None of them.
    None,
    /// Maybe some.
    Some,
    /// All of them.
    All,
}

/// A test of one value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    IsNull,
    NotNull,
    IsNan,
    NotNan,
    Less(Datum),
    AtMost(Datum),
    Greater(Datum),
    AtLeast(Datum),
    Equal(Datum),
    NotEqual(Datum),
    In(Vec<Datum>),
    NotIn(Vec<Datum>),
    StartsWith(Datum),
    NotStartsWith(Datum),
}

impl Test {
    /// What takes the rows that this one refuses.
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::IsNull => Self::NotNull,
            Self::NotNull => Self::IsNull,
            Self::IsNan => Self::NotNan,
            Self::NotNan => Self::IsNan,
            Self::Less(value) => Self::AtLeast(value),
            Self::AtLeast(value) => Self::Less(value),
            Self::Greater(value) => Self::AtMost(value),
            Self::AtMost(value) => Self::Greater(value),
            Self::Equal(value) => Self::NotEqual(value),
            Self::NotEqual(value) => Self::Equal(value),
            Self::In(values) => Self::NotIn(values),
            Self::NotIn(values) => Self::In(values),
            Self::StartsWith(prefix) => Self::NotStartsWith(prefix),
            Self::NotStartsWith(prefix) => Self::StartsWith(prefix),
        }
    }
}

/// What is known of the values of some rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    /// Whether there may be nulls.
    pub(crate) nulls: bool,
    /// Whether there may be values that are not a number.
    pub(crate) nans: bool,
    /// Bounds of all other values, if there may be any.
    pub(crate) values: Option<Bounds>,
}

/// The least and the greatest value, as far as they are known; no value lies outside.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) lower: Option<Datum>,
    pub(crate) upper: Option<Datum>,
}

/// Judges a test of a column of type `kind` by what is known of the results of `transform`.
///
/// `turned` says that the test was made of its opposite, which takes NaN otherwise.
pub(crate) fn judge(test: &Test, turned: bool, facts: &Facts, transform: Transform, kind: Primitive) -> Rows {
    let mut seen: Option<Rows> = None;
    let mut also = |rows: Rows| {
        seen = Some(match seen {
            None => rows,
            Some(before) if before == rows => rows,
            Some(_) => Rows::Some,
        });
    };
    if facts.nulls {
        also(of_null(test));
    }
    if facts.nans {
        also(of_nan(test, turned));
    }
    if let Some(bounds) = &facts.values {
        also(Judge { bounds, transform, kind }.of_values(test));
    }
    // Without any rows there are none that pass.
    seen.unwrap_or(Rows::None)
}

fn of_null(test: &Test) -> Rows {
    match test {
        Test::IsNull => Rows::All,
        Test::NotEqual(_) | Test::NotIn(_) | Test::NotStartsWith(_) | Test::NotNan => Rows::Some,
        _ => Rows::None,
    }
}

fn of_nan(test: &Test, turned: bool) -> Rows {
    match test {
        Test::IsNan | Test::NotNull | Test::NotEqual(_) | Test::NotIn(_) => Rows::All,
        Test::Greater(_) | Test::AtLeast(_) => Rows::Some,
        Test::Less(_) | Test::AtMost(_) if turned => Rows::Some,
        _ => Rows::None,
    }
}

struct Judge<'a> {
    bounds: &'a Bounds,
    transform: Transform,
    kind: Primitive,
}

impl Judge<'_> {
    fn of_values(&self, test: &Test) -> Rows {
        match test {
            Test::IsNull | Test::IsNan => Rows::None,
            Test::NotNull | Test::NotNan => Rows::All,
            Test::Less(value) => self.below(value, false),
            Test::AtMost(value) => self.below(value, true),
            Test::Greater(value) => opposite(self.below(value, true)),
            Test::AtLeast(value) => opposite(self.below(value, false)),
            Test::Equal(value) => self.one_of(std::slice::from_ref(value)),
            Test::NotEqual(value) => opposite(self.one_of(std::slice::from_ref(value))),
            Test::In(values) => self.one_of(values),
            Test::NotIn(values) => opposite(self.one_of(values)),
            Test::StartsWith(prefix) => self.starts_with(prefix),
            Test::NotStartsWith(prefix) => opposite(self.starts_with(prefix)),
        }
    }

    /// Whether values are below `value`, or equal to it if that is `included`.
    fn below(&self, value: &Datum, included: bool) -> Rows {
        if self.transform == Transform::Identity {
            return self.split(value, included);
        }
        if !self.transform.keeps_order() {
            return Rows::Some;
        }
        let last = if included { Some(value.clone()) } else { value.stepped(-1) };
        let last = last.filter(|_| self.kind.is_discrete()).unwrap_or_else(|| value.clone());
        let Some(result) = self.transform.apply(&last, self.kind) else { return Rows::Some };
        let next = last.stepped(1).filter(|_| self.kind.is_discrete());
        match next.and_then(|next| self.transform.apply(&next, self.kind)) {
            // The last value that passes is the last with its result, too: results say it all.
            Some(after) if after != result => self.split(&result, true),
            _ => self.around(&result),
        }
    }

    /// Whether what is known lies below a value, or at it if that is `included`.
    fn split(&self, value: &Datum, included: bool) -> Rows {
        let passes = |bound: &Datum| {
            bound.compare(value).map(|order| order == Ordering::Less || included && order == Ordering::Equal)
        };
        if self.bounds.upper.as_ref().and_then(passes) == Some(true) {
            Rows::All
        } else if self.bounds.lower.as_ref().and_then(passes) == Some(false) {
            Rows::None
        } else {
            Rows::Some
        }
    }

    /// The same where a result that equals this one may be of values on either side.
    fn around(&self, result: &Datum) -> Rows {
        if self.bounds.upper.as_ref().is_some_and(|upper| is(upper, Ordering::Less, result)) {
            Rows::All
        } else if self.bounds.lower.as_ref().is_some_and(|lower| is(lower, Ordering::Greater, result)) {
            Rows::None
        } else {
            Rows::Some
        }
    }

    /// Whether values are in a set.
    fn one_of(&self, values: &[Datum]) -> Rows {
        let mut rows = Rows::None;
        for value in values {
            match self.transform.apply(value, self.kind) {
                Some(result) if self.excludes(&result) => {}
                Some(result) if self.transform == Transform::Identity && self.is_only(&result) => {
                    return Rows::All;
                }
                _ => rows = Rows::Some,
            }
        }
        rows
    }

    fn starts_with(&self, prefix: &Datum) -> Rows {
        let Datum::Text(text) = prefix else { return Rows::Some };
        match self.transform {
            Transform::Identity => self.text_starts_with(text),
            Transform::Truncate(width) => {
                let width = usize::try_from(width).unwrap_or(usize::MAX);
                if text.chars().count() <= width {
                    return self.text_starts_with(text);
                }
                let start: String = text.chars().take(width).collect();
                if self.excludes(&Datum::Text(start)) { Rows::None } else { Rows::Some }
            }
            _ => Rows::Some,
        }
    }

    fn text_starts_with(&self, prefix: &str) -> Rows {
        let text = |bound: &Option<Datum>| match bound {
            Some(Datum::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let (lower, upper) = (text(&self.bounds.lower), text(&self.bounds.upper));
        let starts = |bound: &Option<String>| bound.as_ref().is_some_and(|text| text.starts_with(prefix));
        if starts(&lower) && starts(&upper) {
            return Rows::All;
        }
        let is_below = upper.is_some_and(|upper| upper.as_str() < prefix);
        let is_above = lower.is_some_and(|lower| lower.as_str() > prefix && !lower.starts_with(prefix));
        if is_below || is_above { Rows::None } else { Rows::Some }
    }

    /// Whether no result is this one.
    fn excludes(&self, result: &Datum) -> bool {
        self.bounds.lower.as_ref().is_some_and(|lower| is(lower, Ordering::Greater, result))
            || self.bounds.upper.as_ref().is_some_and(|upper| is(upper, Ordering::Less, result))
    }

    /// Whether each result is this one.
    fn is_only(&self, result: &Datum) -> bool {
        let same =
            |bound: &Option<Datum>| bound.as_ref().is_some_and(|bound| is(bound, Ordering::Equal, result));
        same(&self.bounds.lower) && same(&self.bounds.upper)
    }
}

fn is(one: &Datum, order: Ordering, other: &Datum) -> bool {
    one.compare(other) == Some(order)
}

fn opposite(rows: Rows) -> Rows {
    match rows {
        Rows::None => Rows::All,
        Rows::Some => Rows::Some,
        Rows::All => Rows::None,
    }
}
