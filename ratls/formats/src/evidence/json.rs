//! JSON from somebody who may be hostile: duplicate keys at any depth refuse, and depth and size are bounded.
//!
//! Two readers of one text must not see different things in it; where a key stands twice they may. `serde_json` reads the
//! syntax (UTF-8, numbers, nothing behind the value); what it is lenient about is decided here.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

/// A value. Numbers are only kept where they are integers from 0 to 2^64 - 1; nobody here needs others.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Unsigned(u64),
    /// A negative or broken number, not kept.
    OtherNumber,
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

/// Bounds of one text.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub bytes: usize,
    /// Nesting of lists and objects; 1 for a flat one.
    pub depth: usize,
    /// Members of one list or object.
    pub items: usize,
}

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    #[error("the JSON has {seen} bytes, at most {max} are read")]
    TooLong { seen: usize, max: usize },
    #[error("the JSON is refused: {0}")]
    Refused(String),
}

impl Json {
    pub fn parse(text: &[u8], limits: Limits) -> Result<Json, JsonError> {
        if text.len() > limits.bytes {
            return Err(JsonError::TooLong { seen: text.len(), max: limits.bytes });
        }
        let refused = |error: serde_json::Error| JsonError::Refused(error.to_string());
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let value =
            Strict { depth: limits.depth, items: limits.items }.deserialize(&mut deserializer).map_err(refused)?;
        deserializer.end().map_err(refused)?;
        Ok(value)
    }

    pub fn member(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.get(key),
            _ => None,
        }
    }
    pub fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }
    pub fn bool(&self) -> Option<bool> {
        match self {
            Json::Bool(value) => Some(*value),
            _ => None,
        }
    }
    pub fn unsigned(&self) -> Option<u64> {
        match self {
            Json::Unsigned(value) => Some(*value),
            _ => None,
        }
    }
    pub fn list(&self) -> Option<&[Json]> {
        match self {
            Json::List(items) => Some(items),
            _ => None,
        }
    }
}

/// What may still come: the levels below, and how many members each has at most.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
    items: usize,
}

impl Strict {
    fn below<E: serde::de::Error>(self) -> Result<Strict, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Strict { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Json;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Unsigned(value))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::OtherNumber)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::OtherNumber)
    }
    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let below = self.below()?;
        let mut items = vec![];
        while let Some(item) = access.next_element_seed(below)? {
            if items.len() == self.items {
                return Err(A::Error::custom("a list is too long"));
            }
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let below = self.below()?;
        let mut members = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value_seed(below)?;
            if members.len() == self.items {
                return Err(A::Error::custom("an object has too many members"));
            }
            if members.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format_args!("key {key:?} stands twice in an object")));
            }
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 200, depth: 3, items: 4 };

    fn refused(text: &str) -> String {
        match Json::parse(text.as_bytes(), LIMITS) {
            Err(error) => error.to_string(),
            Ok(value) => panic!("accepted {value:?}"),
        }
    }

    #[test]
    fn reads_values() {
        let value = Json::parse(br#" {"a":[true,7,-1,"x"],"b":null} "#, LIMITS).unwrap();
        let list = value.member("a").and_then(Json::list).unwrap();
        assert_eq!((list[0].bool(), list[1].unsigned(), list[3].text()), (Some(true), Some(7), Some("x")));
        assert_eq!((&list[2], value.member("b")), (&Json::OtherNumber, Some(&Json::Null)));
    }

    #[test]
    fn duplicate_keys_are_refused_at_every_depth_and_in_every_spelling() {
        assert!(refused(r#"{"a":1,"a":1}"#).contains("stands twice"));
        assert!(refused(r#"[{"b":{"a":1,"a":2}}]"#).contains("stands twice"));
        assert!(refused(r#"{"a":1,"\u0061":2}"#).contains("stands twice"));
    }

    #[test]
    fn proto_d6_a_bomb_is_refused() {
        assert!(Json::parse(b"[[[]]]", LIMITS).is_ok());
        assert!(refused("[[[[]]]]").contains("deeply"));
        assert!(refused(r#"{"a":{"a":{"a":{}}}}"#).contains("deeply"));
        assert!(refused("[1,2,3,4,5]").contains("too long"));
        assert!(refused(r#"{"a":1,"b":1,"c":1,"d":1,"e":1}"#).contains("too many"));
        assert_eq!(Json::parse(&[b'['; 201], LIMITS), Err(JsonError::TooLong { seen: 201, max: 200 }));
        assert!(!refused(&"[".repeat(199)).is_empty());
    }

    #[test]
    fn what_is_no_single_json_value_is_refused() {
        for text in ["", "{", "{}{}", "{} x", "{'a':1}", "[1,]", "\u{feff}{}", "nul", "01"] {
            assert!(!refused(text).is_empty());
        }
        assert!(Json::parse(&[b'"', 0xFF, b'"'], LIMITS).is_err());
    }
}
