//! The little CBOR that a Nitro document needs, and a reader for the request that asks for one.
//!
//! RFC 8949, definite lengths, shortest heads. Written a second time beside `ratls`' on purpose.

/// Major types.
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const NULL: u8 = 0xF6;

pub(crate) fn head(major: u8, value: u64) -> Vec<u8> {
    let major = major << 5;
    let bytes = value.to_be_bytes();
    match bytes {
        [0, 0, 0, 0, 0, 0, 0, short] if short < 24 => vec![major | short],
        [0, 0, 0, 0, 0, 0, 0, byte] => vec![major | 24, byte],
        [0, 0, 0, 0, 0, 0, a, b] => vec![major | 25, a, b],
        [0, 0, 0, 0, a, b, c, d] => vec![major | 26, a, b, c, d],
        _ => [&[major | 27][..], &bytes].concat(),
    }
}

pub(crate) fn unsigned(value: u64) -> Vec<u8> {
    head(UNSIGNED, value)
}

/// −1 − value.
pub(crate) fn negative(value: u64) -> Vec<u8> {
    head(NEGATIVE, value)
}

pub(crate) fn bytes(value: &[u8]) -> Vec<u8> {
    [head(BYTES, length(value.len())), value.to_vec()].concat()
}

pub(crate) fn text(value: &str) -> Vec<u8> {
    [head(TEXT, length(value.len())), value.as_bytes().to_vec()].concat()
}

pub(crate) fn optional_bytes(value: Option<&[u8]>) -> Vec<u8> {
    value.map_or_else(|| vec![NULL], bytes)
}

pub(crate) fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [head(ARRAY, length(items.len())), items.concat()].concat()
}

pub(crate) fn map(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let body: Vec<u8> = entries.iter().flat_map(|(key, value)| [key.as_slice(), value].concat()).collect();
    [head(MAP, length(entries.len())), body].concat()
}

fn length(n: usize) -> u64 {
    u64::try_from(n).expect("documents are kilobytes")
}

/// A value of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    Text(String),
    Map(Vec<(Value, Value)>),
    Null,
}

impl Value {
    /// The entry of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Map(entries) => {
                entries.iter().find(|(key, _)| *key == Value::Text(name.to_owned())).map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

/// Reads one item; what follows it is ignored.
pub(crate) fn read(input: &[u8]) -> Option<Value> {
    item(&mut &*input, 0)
}

fn item(input: &mut &[u8], depth: u8) -> Option<Value> {
    let (first, rest) = input.split_first()?;
    *input = rest;
    if *first == NULL {
        return Some(Value::Null);
    }
    let (major, short) = (first >> 5, first & 0x1F);
    let width = match short {
        0..=23 => 0,
        24 => 1,
        25 => 2,
        26 => 4,
        _ => return None,
    };
    let (tail, rest) = input.split_at_checked(width)?;
    *input = rest;
    let value = match width {
        0 => usize::from(short),
        _ => tail.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)),
    };
    match major {
        BYTES | TEXT => {
            let (content, rest) = input.split_at_checked(value)?;
            *input = rest;
            match major {
                BYTES => Some(Value::Bytes(content.to_vec())),
                _ => String::from_utf8(content.to_vec()).ok().map(Value::Text),
            }
        }
        MAP if depth < 4 && value <= 16 => {
            let entry = |_| Some((item(input, depth + 1)?, item(input, depth + 1)?));
            (0..value).map(entry).collect::<Option<_>>().map(Value::Map)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let inner = map(&[(text("nonce"), bytes(&[7; 64])), (text("user_data"), optional_bytes(None))]);
        let request = read(&map(&[(text("Attestation"), inner)])).unwrap();
        let attestation = request.get("Attestation").unwrap();
        assert_eq!(attestation.get("nonce"), Some(&Value::Bytes(vec![7; 64])));
        assert_eq!(attestation.get("user_data"), Some(&Value::Null));
        assert_eq!(attestation.get("public_key"), None);
    }

    #[test]
    fn what_is_cut_short_is_nothing() {
        let whole = map(&[(text("a"), bytes(&[1; 30]))]);
        assert!((0..whole.len()).all(|n| read(&whole[..n]).is_none()));
    }
}
