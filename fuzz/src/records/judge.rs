//! Does a connection give the plaintext that was sealed for it, in order, or end with an alert?

use proxy_core::tls::over::{Step, inbox_over, records_over};

use super::{DATA, INNER, KEY_UPDATE};
use crate::tagged;

/// What comes out is what was sealed as data, in order: all of it where nothing is wrong, and nothing from behind what is. The
/// alert at the end says which it was. And what rustls is given before is what came, whole records at a time.
///
/// `data` is a length in which the peer's bytes are read, and tagged steps; bytes with another tag are sent as they are.
pub fn records(data: &[u8]) {
    let Some((cut, script)) = data.split_first_chunk::<2>() else { return };
    let cut = usize::from(u16::from_be_bytes(*cut));
    inbox(script, cut);
    let steps: Vec<_> = tagged::split(script)
        .into_iter()
        .map(|(tag, bytes)| match tag {
            DATA => Step::Data(bytes),
            INNER => Step::Inner(bytes),
            KEY_UPDATE => Step::KeyUpdate { asks: bytes.first().is_some_and(|byte| byte % 2 == 1) },
            _ => Step::Wire(bytes),
        })
        .collect();
    let (wanted, end) = model(&steps);
    let outcome = records_over(&steps, cut);
    match end {
        End::Clean => {
            assert!(outcome.clean && outcome.plain == wanted, "not what was sealed");
            assert_eq!(outcome.alert, Some([1, 0]));
        }
        // What was read at once with something wrong may be lost; what is wrong may also be only the end of TCP within a record.
        End::Wrong => assert!(wanted.starts_with(&outcome.plain), "what was not sealed, or not so"),
    }
    assert!(!outcome.clean || outcome.alert == Some([1, 0]), "a clean end is said");
    let asked = steps.iter().filter(|step| !matches!(step, Step::Data(_) | Step::Wire(_))).count();
    assert!(outcome.key_updates <= asked, "more answers than questions");
}

enum End {
    Clean,
    Wrong,
}

/// RFC 8446 §5 and §6 and §4.6.3 once more, without any cryptography.
fn model(steps: &[Step<'_>]) -> (Vec<u8>, End) {
    let (mut plain, mut fruitless) = (Vec::new(), 0);
    for step in steps {
        let (kind, bytes): (u8, &[u8]) = match step {
            Step::Data(bytes) => (23, bytes),
            Step::Inner(inner) => match inner.iter().rposition(|byte| *byte != 0) {
                Some(end) => (inner[end], &inner[..end]),
                None => return (plain, End::Wrong),
            },
            Step::KeyUpdate { .. } => (22, &[24, 0, 0, 1, 0]),
            Step::Wire([]) => continue,
            Step::Wire(_) => return (plain, End::Wrong),
        };
        // Plaintext, type and padding are at most 2^14 + 1 bytes.
        let long = match step {
            Step::Inner(inner) => inner.len() > 16_385,
            _ => false,
        };
        if bytes.len() > 16_384 || long {
            return (plain, End::Wrong);
        }
        match (kind, bytes) {
            (23, [_, ..]) => {
                fruitless = 0;
                plain.extend(bytes);
            }
            (23, []) => fruitless += 1,
            // The peer that writes this as it is goes on with its old keys.
            (22, [24, 0, 0, 1, 0..=1]) if matches!(step, Step::Inner(_)) => return (plain, End::Wrong),
            (22, [24, 0, 0, 1, 0..=1]) => fruitless += 1,
            (21, [_, 90]) => fruitless += 1,
            (21, [_, 0]) => return (plain, End::Clean),
            _ => return (plain, End::Wrong),
        }
        if fruitless > 32 {
            return (plain, End::Wrong);
        }
    }
    (plain, End::Clean)
}

fn inbox(bytes: &[u8], cut: usize) {
    let (given, rest) = inbox_over(bytes, cut);
    assert_eq!([&given.concat()[..], &rest].concat(), bytes, "bytes lost or made");
    let whole = |record: &Vec<u8>| matches!(record[..], [20..=23, 3, _, high, low, ..] if record.len() == 5 + usize::from(u16::from_be_bytes([high, low])));
    // What is no record is given as it is, and rustls ends there.
    let (again, _) = inbox_over(bytes, 1);
    let records = given.iter().take_while(|record| whole(record));
    let same = again.iter().take_while(|record| whole(record));
    assert!(records.zip(same).all(|(a, b)| a == b), "records depend on how they came");
}
