//! Iceberg's primitive types, as far as their values are compared.

/// A primitive type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Primitive {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Decimal {
        scale: u32,
    },
    Date,
    Time,
    Timestamp(Unit, Zone),
    Text,
    Uuid,
    /// Of any length, fixed ones too.
    Binary,
}

/// What a timestamp counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Micros,
    Nanos,
}

/// Whether a timestamp is an instant, or a reading of some clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    Utc,
    Local,
}

impl Primitive {
    /// Of a type's name; `None` for one whose values aren't compared, such as `variant`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "boolean" => Self::Boolean,
            "int" => Self::Int,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp(Unit::Micros, Zone::Local),
            "timestamptz" => Self::Timestamp(Unit::Micros, Zone::Utc),
            "timestamp_ns" => Self::Timestamp(Unit::Nanos, Zone::Local),
            "timestamptz_ns" => Self::Timestamp(Unit::Nanos, Zone::Utc),
            "string" => Self::Text,
            "uuid" => Self::Uuid,
            "binary" => Self::Binary,
            _ if name.starts_with("fixed[") => Self::Binary,
            _ => {
                let (_, scale) = name.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
                Self::Decimal { scale: scale.trim().parse().ok()? }
            }
        })
    }

    /// Whether values may be "not a number".
    pub(crate) fn is_floating(self) -> bool {
        matches!(self, Self::Float | Self::Double)
    }

    /// Whether each value has a next one, so that "less than" can be said as "at most".
    pub(crate) fn is_discrete(self) -> bool {
        matches!(
            self,
            Self::Int | Self::Long | Self::Decimal { .. } | Self::Date | Self::Time | Self::Timestamp(..)
        )
    }
}
