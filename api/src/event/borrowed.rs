//! An event as it stands in a record's bytes. Logs of millions of records are read through this: nothing is copied
//! that need not be, and what nobody looks at is only checked.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{EventError, EventType, check};

/// A valid event, borrowed from its record where the text stands there as it is. Accepts and refuses exactly what
/// [`super::Event::parse`] does, with the same errors; `properties` are checked and not kept.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRef<'a> {
    /// For deduplication.
    pub event_id: Option<Cow<'a, str>>,
    /// Who.
    pub customer_id: Cow<'a, str>,
    /// Which product; `None` only for [`EventType::Email`].
    pub product_id: Option<Cow<'a, str>>,
    /// What happened.
    pub event_type: EventType,
    /// When, in epoch milliseconds; `None` means the record's own time.
    pub timestamp_ms: Option<i64>,
    /// How many, at least 0.
    pub quantity: Option<f64>,
    /// Unit price in the shop's currency.
    pub price: Option<f64>,
    /// The visit that it belongs to.
    pub session_id: Option<Cow<'a, str>>,
    /// The recommendation that led to it.
    pub recommendation_id: Option<Cow<'a, str>>,
}

impl<'a> EventRef<'a> {
    /// As [`super::Event::parse`].
    pub fn parse(bytes: &'a [u8], default_type: Option<&EventType>) -> Result<Self, EventError> {
        let top: Top<'a> = serde_json::from_slice(bytes).map_err(|e| EventError::NotJson(e.to_string()))?;
        match top {
            Top::Fields(fields) => fields.event(default_type),
            Top::Other(value) => Err(EventError::NotJson(format!("found {}", value.kind()))),
        }
    }

    /// As [`super::Event::time_ms`].
    pub fn time_ms(&self, record_ms: i64, now_ms: i64) -> i64 {
        super::learning_time(self.timestamp_ms, record_ms, now_ms)
    }
}

/// What stands in a field.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Raw<'a> {
    /// Absent, or null.
    #[default]
    Nothing,
    Bool,
    Number(Number),
    Text(Cow<'a, str>),
    Array,
    Object,
}

impl Raw<'_> {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nothing => "null",
            Self::Bool => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

impl From<Value> for Raw<'static> {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Nothing,
            Value::Bool(_) => Self::Bool,
            Value::Number(number) => Self::Number(number),
            Value::String(text) => Self::Text(text.into()),
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        }
    }
}

/// A field by both of its names. Plain ksqlDB statements write upper-case names; ours win where both stand.
#[derive(Default)]
pub(super) struct Named<'a> {
    ours: Raw<'a>,
    upper: Raw<'a>,
}

impl<'a> Named<'a> {
    fn get(self) -> Raw<'a> {
        match self.ours {
            Raw::Nothing => self.upper,
            found => found,
        }
    }
}

/// The fields of an event, as they stand there.
#[derive(Default)]
pub(super) struct Fields<'a> {
    event_id: Named<'a>,
    customer_id: Named<'a>,
    product_id: Named<'a>,
    event_type: Named<'a>,
    timestamp: Named<'a>,
    quantity: Named<'a>,
    price: Named<'a>,
    session_id: Named<'a>,
    recommendation_id: Named<'a>,
    properties: Named<'a>,
}

impl<'a> Fields<'a> {
    /// Where a field of this name is kept.
    fn place(&mut self, name: &str) -> Option<&mut Raw<'a>> {
        Some(match name {
            "customer_id" => &mut self.customer_id.ours,
            "product_id" => &mut self.product_id.ours,
            "event_type" => &mut self.event_type.ours,
            "event_id" => &mut self.event_id.ours,
            "timestamp" => &mut self.timestamp.ours,
            "session_id" => &mut self.session_id.ours,
            "quantity" => &mut self.quantity.ours,
            "price" => &mut self.price.ours,
            "recommendation_id" => &mut self.recommendation_id.ours,
            "properties" => &mut self.properties.ours,
            "CUSTOMER_ID" => &mut self.customer_id.upper,
            "PRODUCT_ID" => &mut self.product_id.upper,
            "EVENT_TYPE" => &mut self.event_type.upper,
            "EVENT_ID" => &mut self.event_id.upper,
            "TIMESTAMP" => &mut self.timestamp.upper,
            "SESSION_ID" => &mut self.session_id.upper,
            "QUANTITY" => &mut self.quantity.upper,
            "PRICE" => &mut self.price.upper,
            "RECOMMENDATION_ID" => &mut self.recommendation_id.upper,
            "PROPERTIES" => &mut self.properties.upper,
            _ => return None,
        })
    }

    /// The event that they make, and what is wrong with the first that is.
    pub fn event(self, default_type: Option<&EventType>) -> Result<EventRef<'a>, EventError> {
        let event_type = match check::text("event_type", self.event_type.get())? {
            Some(name) => EventType::from_name(&name),
            None => default_type
                .cloned()
                .ok_or(EventError::MissingField("event_type"))?,
        };
        let customer_id = check::text("customer_id", self.customer_id.get())?
            .ok_or(EventError::MissingField("customer_id"))?;
        let product_id = check::text("product_id", self.product_id.get())?;
        if product_id.is_none() && event_type != EventType::Email {
            return Err(EventError::MissingField("product_id"));
        }
        check::object("properties", &self.properties.get())?;
        Ok(EventRef {
            event_id: check::text("event_id", self.event_id.get())?,
            customer_id,
            product_id,
            event_type,
            timestamp_ms: check::timestamp(self.timestamp.get())?,
            quantity: check::number("quantity", self.quantity.get())?,
            price: check::number("price", self.price.get())?,
            session_id: check::text("session_id", self.session_id.get())?,
            recommendation_id: check::text("recommendation_id", self.recommendation_id.get())?,
        })
    }
}

impl Fields<'static> {
    /// Those of an object that is parsed already, and the properties in it.
    pub fn of(map: Map<String, Value>) -> (Self, Option<Map<String, Value>>) {
        let mut fields = Self::default();
        let (mut ours, mut upper) = (None, None);
        for (name, value) in map {
            let Some(place) = fields.place(&name) else {
                continue;
            };
            match (name.as_str(), value) {
                ("properties", Value::Object(map)) => (*place, ours) = (Raw::Object, Some(map)),
                ("PROPERTIES", Value::Object(map)) => (*place, upper) = (Raw::Object, Some(map)),
                (_, value) => *place = value.into(),
            }
        }
        (fields, ours.or(upper))
    }
}

/// A record's value.
#[allow(
    clippy::large_enum_variant,
    reason = "one lives at a time, on the stack, and is nearly always the large one"
)]
enum Top<'a> {
    Fields(Fields<'a>),
    Other(Raw<'a>),
}

impl<'de> Deserialize<'de> for Top<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TopVisitor)
    }
}

struct TopVisitor;

/// The visits of everything but an object: as a [`Raw`] has it.
macro_rules! scalars {
    ($value:ty, $wrap:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any JSON value")
        }

        fn visit_bool<E>(self, _: bool) -> Result<$value, E> {
            Ok($wrap(Raw::Bool))
        }

        fn visit_i64<E>(self, number: i64) -> Result<$value, E> {
            Ok($wrap(Raw::Number(number.into())))
        }

        fn visit_u64<E>(self, number: u64) -> Result<$value, E> {
            Ok($wrap(Raw::Number(number.into())))
        }

        fn visit_f64<E>(self, number: f64) -> Result<$value, E> {
            Ok($wrap(
                Number::from_f64(number).map_or(Raw::Nothing, Raw::Number),
            ))
        }

        fn visit_borrowed_str<E>(self, text: &'de str) -> Result<$value, E> {
            Ok($wrap(Raw::Text(Cow::Borrowed(text))))
        }

        fn visit_str<E>(self, text: &str) -> Result<$value, E> {
            Ok($wrap(Raw::Text(Cow::Owned(text.to_owned()))))
        }

        fn visit_unit<E>(self) -> Result<$value, E> {
            Ok($wrap(Raw::Nothing))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<$value, A::Error> {
            while items.next_element::<Checked>()?.is_some() {}
            Ok($wrap(Raw::Array))
        }
    };
}

impl<'de> Visitor<'de> for TopVisitor {
    type Value = Top<'de>;

    scalars!(Top<'de>, Top::Other);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            // The last of several fields of one name counts.
            match fields.place(&name) {
                Some(place) => *place = map.next_value()?,
                None => {
                    let Checked = map.next_value()?;
                }
            }
        }
        Ok(Top::Fields(fields))
    }
}

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw<'de>;

    scalars!(Raw<'de>, std::convert::identity);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
        while map.next_entry::<Checked, Checked>()?.is_some() {}
        Ok(Raw::Object)
    }
}

/// A field's name.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// A value that is read only to see that it is one. Not serde's `IgnoredAny`, which lets numbers out of range and any
/// depth pass: what [`super::Event::parse`] refuses must be refused here, or a record would be learned and be a dead
/// letter too.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor).map(|_| Self)
    }
}

#[cfg(test)]
mod tests;
