//! A record as its values lie in its bytes: what becomes a row of bronze without a copy in between.

use std::borrow::Cow;

use super::{Decoded, instant::micros};
use crate::{
    Inventory, Software,
    fields::{FIELDS, Slot, position},
};

/// A record that was understood, or that was made otherwise; borrowed from its bytes as far as possible.
#[derive(Debug)]
pub struct Row<'a> {
    /// Invariant: one per entry of [`FIELDS`], in its order; absent, or of its slot's type. `host_id` is there.
    pub(crate) values: [Value<'a>; FIELDS.len()],
    /// Unknown fields as one JSON object, if any.
    pub(crate) extra: Option<Cow<'a, str>>,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Absent,
    Text(Cow<'a, str>),
    /// As it was written, and in microseconds since the epoch.
    Instant(Cow<'a, str>, i64),
    Flag(bool),
    Int(i32),
    Long(i64),
    Texts(Vec<Cow<'a, str>>),
    Software(Vec<Package<'a>>),
}

/// An installed package.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Package<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) version: Option<Cow<'a, str>>,
    pub(crate) vendor: Option<Cow<'a, str>>,
}

impl<'a> Row<'a> {
    /// Without any value.
    pub(super) fn empty() -> Self {
        Self { values: [const { Value::Absent }; FIELDS.len()], extra: None }
    }

    /// The same record, for whoever has it as values of its own.
    pub(crate) fn of(record: &'a Decoded) -> Self {
        let Decoded { inventory, extra } = record;
        let mut row = Self::empty();
        for (value, field) in row.values.iter_mut().zip(&FIELDS) {
            *value = Value::of(&field.slot, inventory);
        }
        row.extra = extra.as_deref().map(Cow::Borrowed);
        row
    }

    /// Stable id of the computer.
    #[must_use]
    pub fn host_id(&self) -> &str {
        let host_id = self.values.iter().zip(&FIELDS).find(|(_, field)| matches!(field.slot, Slot::HostId));
        match host_id {
            Some((Value::Text(host_id), _)) => host_id,
            _ => "",
        }
    }

    /// A field that is a text, if the record has it.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<&str> {
        match self.values.get(position(field)?) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The record as values of its own.
    pub(super) fn into_decoded(self) -> Decoded {
        let mut inventory = Inventory::default();
        for (value, field) in self.values.into_iter().zip(&FIELDS) {
            value.put(&field.slot, &mut inventory);
        }
        Decoded { inventory, extra: self.extra.map(Cow::into_owned) }
    }
}

impl<'a> Value<'a> {
    fn of(slot: &Slot, record: &'a Inventory) -> Self {
        let text = |text: &'a String| Cow::Borrowed(text.as_str());
        let found = match slot {
            Slot::HostId => Some(Self::Text(text(&record.host_id))),
            Slot::Text(access) => (access.get)(record).as_ref().map(|found| Self::Text(text(found))),
            Slot::Instant(access) => (access.get)(record)
                .as_ref()
                .and_then(|found| Some(Self::Instant(text(found), micros(found)?))),
            Slot::Flag(access) => (access.get)(record).map(Self::Flag),
            Slot::Int(access, _) => (access.get)(record).map(Self::Int),
            Slot::Long(access, _) => (access.get)(record).map(Self::Long),
            Slot::Texts(access) => {
                (access.get)(record).as_ref().map(|texts| Self::Texts(texts.iter().map(text).collect()))
            }
            Slot::Software => {
                let packages = record.software.as_ref();
                packages.map(|packages| Self::Software(packages.iter().map(Package::of).collect()))
            }
        };
        found.unwrap_or(Self::Absent)
    }

    /// A value of another type than the slot's is left out, which can't be by the invariant of [`Row`].
    fn put(self, slot: &Slot, record: &mut Inventory) {
        match (slot, self) {
            (Slot::HostId, Self::Text(text)) => record.host_id = text.into_owned(),
            (Slot::Text(access), Self::Text(text)) | (Slot::Instant(access), Self::Instant(text, _)) => {
                *(access.set)(record) = Some(text.into_owned());
            }
            (Slot::Flag(access), Self::Flag(flag)) => *(access.set)(record) = Some(flag),
            (Slot::Int(access, _), Self::Int(number)) => *(access.set)(record) = Some(number),
            (Slot::Long(access, _), Self::Long(number)) => *(access.set)(record) = Some(number),
            (Slot::Texts(access), Self::Texts(texts)) => {
                *(access.set)(record) = Some(texts.into_iter().map(Cow::into_owned).collect());
            }
            (Slot::Software, Self::Software(packages)) => {
                record.software = Some(packages.into_iter().map(Package::into_owned).collect());
            }
            _ => {}
        }
    }
}

impl<'a> Package<'a> {
    fn of(package: &'a Software) -> Self {
        Self {
            name: Cow::Borrowed(&package.name),
            version: package.version.as_deref().map(Cow::Borrowed),
            vendor: package.vendor.as_deref().map(Cow::Borrowed),
        }
    }

    fn into_owned(self) -> Software {
        Software {
            name: self.name.into_owned(),
            version: self.version.map(Cow::into_owned),
            vendor: self.vendor.map(Cow::into_owned),
        }
    }
}
