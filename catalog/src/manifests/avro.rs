//! Avro files whose header is kept byte by byte: schema attributes that the Avro library drops are the writer's to keep.

use std::collections::{BTreeMap, HashMap};

use apache_avro::{
    Codec, DeflateSettings, Reader, Schema, Writer,
    schema::{RecordField, RecordSchema},
    types::Value,
};
use bytes::Bytes;
use uuid::Uuid;

use super::ManifestError;

const MAGIC: &[u8] = b"Obj\x01";
const CODEC: &str = "avro.codec";
const SCHEMA: &str = "avro.schema";

/// What an Avro file says before its records.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) schema: Schema,
    fields: BTreeMap<String, Vec<u8>>,
}

impl Header {
    /// A header of a schema and further fields.
    pub(super) fn new(schema: &str, fields: &[(&str, String)]) -> Result<Self, ManifestError> {
        let parsed = Schema::parse_str(schema)?;
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_bytes()));
        let schema = (SCHEMA.to_owned(), schema.as_bytes().to_vec());
        Ok(Self { schema: parsed, fields: fields.chain([schema]).collect() })
    }

    /// A field that is text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.fields.get(name)?).ok()
    }

    /// A file of records that fit the schema.
    pub(super) fn file(&self, records: impl IntoIterator<Item = Value>) -> Result<Bytes, ManifestError> {
        let marker = *Uuid::new_v4().as_bytes();
        let mut bytes = MAGIC.to_vec();
        let mut fields = self.fields.clone();
        fields.insert(CODEC.to_owned(), b"deflate".to_vec());
        put_long(fields.len() as i64, &mut bytes);
        for (name, value) in &fields {
            for part in [name.as_bytes(), value] {
                put_long(part.len() as i64, &mut bytes);
                bytes.extend_from_slice(part);
            }
        }
        put_long(0, &mut bytes);
        bytes.extend_from_slice(&marker);
        let codec = Codec::Deflate(DeflateSettings::default());
        let mut writer = Writer::append_to_with_codec(&self.schema, bytes, codec, marker);
        for record in records {
            writer.append_value_ref(&record)?;
        }
        Ok(Bytes::from(writer.into_inner()?))
    }
}

/// Header and records of a file.
pub(super) fn read(bytes: &[u8]) -> Result<(Header, Vec<Value>), ManifestError> {
    let (header, records) = open(bytes)?;
    Ok((header, records.collect::<Result<Vec<Value>, _>>()?))
}

/// The same with records that are decoded one by one.
pub(super) fn open(bytes: &[u8]) -> Result<(Header, Reader<'_, &[u8]>), ManifestError> {
    let fields = header_fields(bytes).ok_or_else(|| ManifestError::new("the file is not Avro"))?;
    let reader = Reader::new(bytes)?;
    Ok((Header { schema: reader.writer_schema().clone(), fields }, reader))
}

fn header_fields(bytes: &[u8]) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut fields = BTreeMap::new();
    loop {
        let count = take_long(&mut rest)?;
        if count == 0 {
            return Some(fields);
        }
        if count < 0 {
            // A negative count is followed by the block's size in bytes.
            take_long(&mut rest)?;
        }
        for _ in 0..count.unsigned_abs() {
            let name = std::str::from_utf8(take_bytes(&mut rest)?).ok()?.to_owned();
            fields.insert(name, take_bytes(&mut rest)?.to_vec());
        }
    }
}

fn take_long(rest: &mut &[u8]) -> Option<i64> {
    let mut number: u64 = 0;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((number >> 1) as i64 ^ -((number & 1) as i64));
        }
    }
    None
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_long(rest)?).ok()?;
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(bytes)
}

fn put_long(number: i64, bytes: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

/// A record type's fields by Iceberg's field ids; names differ between writers.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    positions: HashMap<i64, usize>,
    schemas: Vec<Schema>,
}

impl Fields {
    /// Of a schema that must be a record, or a union with one.
    pub(super) fn of(schema: &Schema) -> Result<Self, ManifestError> {
        let record = record_of(schema).ok_or_else(|| ManifestError::new("an Avro schema is no record"))?;
        let id =
            |field: &RecordField| field.custom_attributes.get("field-id").and_then(serde_json::Value::as_i64);
        let positions = record.fields.iter().enumerate();
        Ok(Self {
            positions: positions.filter_map(|(position, field)| Some((id(field)?, position))).collect(),
            schemas: record.fields.iter().map(|field| field.schema.clone()).collect(),
        })
    }

    /// The schema of a field.
    pub(super) fn schema(&self, id: i64) -> Option<&Schema> {
        self.schemas.get(*self.positions.get(&id)?)
    }

    /// Where records have a field, if they have it.
    pub(super) fn position(&self, id: i64) -> Option<usize> {
        self.positions.get(&id).copied()
    }

    /// The value of a field; `None` if absent or null.
    pub(super) fn get<'a>(&self, record: &'a Value, id: i64) -> Option<&'a Value> {
        let Value::Record(fields) = plain(record)? else { return None };
        plain(&fields.get(*self.positions.get(&id)?)?.1)
    }

    pub(super) fn long(&self, record: &Value, id: i64) -> Option<i64> {
        match self.get(record, id)? {
            Value::Int(number) => Some(i64::from(*number)),
            Value::Long(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn text<'a>(&self, record: &'a Value, id: i64) -> Option<&'a str> {
        match self.get(record, id)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn bytes(&self, record: &Value, id: i64) -> Option<Vec<u8>> {
        match self.get(record, id)? {
            Value::Bytes(bytes) | Value::Fixed(_, bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// Sets a number. That a record lacks the field is an error, unless it would be null.
    pub(super) fn set_long(
        &self,
        record: &mut Value,
        id: i64,
        number: Option<i64>,
    ) -> Result<(), ManifestError> {
        let unfit = || ManifestError::new(format!("the manifest's schema has no place for field {id}"));
        let Some(position) = self.positions.get(&id) else {
            return if number.is_none() { Ok(()) } else { Err(unfit()) };
        };
        let value = fit(&self.schemas[*position], number).ok_or_else(unfit)?;
        let fields = match record {
            Value::Record(fields) => fields,
            Value::Union(_, inner) => match &mut **inner {
                Value::Record(fields) => fields,
                _ => return Err(unfit()),
            },
            _ => return Err(unfit()),
        };
        fields.get_mut(*position).ok_or_else(unfit)?.1 = value;
        Ok(())
    }

    /// The value of a record field, to be changed.
    pub(super) fn get_mut<'a>(&self, record: &'a mut Value, id: i64) -> Option<&'a mut Value> {
        let Value::Record(fields) = record else { return None };
        Some(&mut fields.get_mut(*self.positions.get(&id)?)?.1)
    }
}

/// A number as a value of a schema.
fn fit(schema: &Schema, number: Option<i64>) -> Option<Value> {
    match (schema, number) {
        (Schema::Null, None) => Some(Value::Null),
        (Schema::Int, Some(number)) => Some(Value::Int(i32::try_from(number).ok()?)),
        (Schema::Long, Some(number)) => Some(Value::Long(number)),
        (Schema::Union(union), number) => {
            let mut variants = union.variants().iter().enumerate();
            variants.find_map(|(index, variant)| {
                Some(Value::Union(u32::try_from(index).ok()?, Box::new(fit(variant, number)?)))
            })
        }
        _ => None,
    }
}

/// A value without unions around it; `None` for null.
pub(super) fn plain(value: &Value) -> Option<&Value> {
    match value {
        Value::Null => None,
        Value::Union(_, inner) => plain(inner),
        value => Some(value),
    }
}

fn record_of(schema: &Schema) -> Option<&RecordSchema> {
    match schema {
        Schema::Record(record) => Some(record),
        Schema::Union(union) => union.variants().iter().find_map(record_of),
        _ => None,
    }
}

/// The schema of an array's items.
pub(super) fn items(schema: &Schema) -> Option<&Schema> {
    match schema {
        Schema::Array(array) => Some(&array.items),
        Schema::Union(union) => union.variants().iter().find_map(items),
        _ => None,
    }
}
