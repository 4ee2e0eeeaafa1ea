//! What the other side is told when a record is wrong (RFC 8446 §5.1, §5.2, §5.4, §6.1, §6.2 and §4.6.3), that nothing but
//! that goes out afterwards, and that keys are renewed before they are worn out.

use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;
use crate::framing::{Framed, FramingError};
use crate::tls::over::{Step, records_over};
use ratls::wire::control::{Close, CloseCode};
use ratls::wire::frame::FrameType;

const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;

const DATA: u8 = 23;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// What a peer seals: content, type, and so many zeros.
fn inner(content: &[u8], kind: u8, padding: usize) -> Vec<u8> {
    [content, &[kind], &vec![0; padding]].concat()
}

#[test]
fn each_wrong_record_ends_the_connection_with_the_alert_of_the_rfc() {
    let sealed = [
        ("no type, only padding", vec![0; 20], UNEXPECTED_MESSAGE),
        ("nothing at all", Vec::new(), UNEXPECTED_MESSAGE),
        ("a type that nobody has", inner(b"x", 99, 0), UNEXPECTED_MESSAGE),
        ("change_cipher_spec inside", inner(&[1], 20, 0), UNEXPECTED_MESSAGE),
        ("a plaintext of 2^14 + 1", inner(&[7; 16_385], DATA, 0), RECORD_OVERFLOW),
        ("padding to 2^14 + 2", inner(&[7; 16_384], DATA, 1), RECORD_OVERFLOW),
        ("padding alone to 2^14 + 2", inner(b"", DATA, 16_385), RECORD_OVERFLOW),
        ("a ticket", inner(&[4, 0, 0, 1, 0], HANDSHAKE, 0), UNEXPECTED_MESSAGE),
        ("a CertificateRequest", inner(&[13, 0, 0, 1, 0], HANDSHAKE, 0), UNEXPECTED_MESSAGE),
        ("a ClientHello", inner(&[1, 0, 0, 1, 0], HANDSHAKE, 0), UNEXPECTED_MESSAGE),
        ("an empty handshake message", inner(b"", HANDSHAKE, 5), UNEXPECTED_MESSAGE),
        ("a KeyUpdate that asks 2", inner(&[24, 0, 0, 1, 2], HANDSHAKE, 0), ILLEGAL_PARAMETER),
        ("an empty KeyUpdate", inner(&[24, 0, 0, 0], HANDSHAKE, 0), DECODE_ERROR),
        ("a long KeyUpdate", inner(&[24, 0, 0, 2, 0, 0], HANDSHAKE, 0), DECODE_ERROR),
        ("two KeyUpdates in a record", inner(&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], HANDSHAKE, 0), UNEXPECTED_MESSAGE),
        ("an empty alert", inner(b"", ALERT, 3), UNEXPECTED_MESSAGE),
        ("half an alert", inner(&[2], ALERT, 0), DECODE_ERROR),
        ("two alerts in a record", inner(&[1, 0, 1, 0], ALERT, 0), DECODE_ERROR),
    ];
    let sealed = sealed.iter().map(|(what, bytes, alert)| (*what, Step::Inner(bytes), *alert));
    let plain = [
        ("a record that was changed", Step::Wire(b"\x17\x03\x03\x00\x13 as it is, not sealed"), BAD_RECORD_MAC),
        ("a record shorter than a tag", Step::Wire(b"\x17\x03\x03\x00\x05short"), BAD_RECORD_MAC),
        ("an empty record", Step::Wire(b"\x17\x03\x03\x00\x00"), BAD_RECORD_MAC),
        ("a record of over 2^14 + 256", Step::Wire(b"\x17\x03\x03\x41\x01"), RECORD_OVERFLOW),
        ("an alert in the clear", Step::Wire(b"\x15\x03\x03\x00\x02\x02\x28"), UNEXPECTED_MESSAGE),
        ("change_cipher_spec after the handshake", Step::Wire(b"\x14\x03\x03\x00\x01\x01"), UNEXPECTED_MESSAGE),
    ];
    for (what, wrong, alert) in sealed.chain(plain) {
        for cut in [1, 26, 100_000] {
            let outcome = records_over(&[Step::Data(b"one"), wrong, Step::Data(b"two")], cut);
            assert_eq!(outcome.alert, Some([FATAL, alert]), "{what}");
            // What came in the same read as the error may be lost with it.
            assert!(!outcome.clean && b"one".starts_with(&outcome.plain[..]), "{what}: {outcome:?}");
        }
    }
}

#[test]
fn records_at_their_limits_are_read() {
    let largest = [7; 16_384];
    let padded = inner(b"x", DATA, 16_383);
    let outcome = records_over(&[Step::Data(&largest), Step::Inner(&padded)], 100_000);
    assert!(outcome.clean && outcome.plain.len() == 16_385, "{}", outcome.plain.len());
}

/// §6.1: close_notify ends what comes in, user_canceled announces it. §6.2: any other alert is an error, known or not and
/// whatever its level; nobody is told anything any more.
#[test]
fn alerts_of_the_other_side_are_taken_for_what_they_are() {
    for level in [1, 2, 77] {
        for description in 0..=u8::MAX {
            let alert = inner(&[level, description], ALERT, 0);
            let outcome = records_over(&[Step::Data(b"one"), Step::Inner(&alert), Step::Data(b"two")], 26);
            let (plain, clean, answer): (&[u8], _, _) = match description {
                0 => (b"one", true, Some([WARNING, 0])),
                90 => (b"onetwo", true, Some([WARNING, 0])),
                _ => (b"one", false, None),
            };
            assert_eq!((&outcome.plain[..], outcome.clean, outcome.alert), (plain, clean, answer), "{description}");
        }
    }
}

const SUITE: RecordSuite = RecordSuite::Aes128Gcm;

fn keys(secret: u8, sequence: u64) -> Protection {
    Protection::new(SUITE, &[secret; 32], sequence).unwrap()
}

/// Both ends of a connection on which each side has sealed so many records.
fn pair(sequence: u64) -> (Framed<Records<DuplexStream>>, Framed<Records<DuplexStream>>) {
    let (near, far) = duplex(1 << 20);
    let end = |io, own, other| {
        Framed::new(Records::new(io, [keys(own, sequence), keys(other, sequence)].map(Box::new), Vec::new()))
    };
    (end(near, 1, 2), end(far, 2, 1))
}

#[tokio::test]
async fn after_an_error_of_a_record_an_alert_goes_out_and_no_frame() {
    let (near, mut far) = duplex(1 << 20);
    let mut ours = Framed::new(Records::new(near, [keys(1, 0), keys(2, 0)].map(Box::new), Vec::new()));
    ours.write(FrameType::Data, b"before").await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut far, b"\x17\x03\x03\x00\x13 as it is, not sealed").await.unwrap();
    let error = ours.read().await.unwrap_err();
    let close = error.close().expect("there is something to say");
    assert_eq!(close.code, CloseCode::Protocol);
    assert!(ours.write(FrameType::Data, b"behind").await.is_err(), "data behind an error");
    let closing = tokio::spawn(ours.close_owned(close));
    let mut wire = Vec::new();
    far.read_to_end(&mut wire).await.unwrap();
    drop(far);
    closing.await.unwrap();
    let mut theirs = keys(1, 0);
    let mut kinds = Vec::new();
    while !wire.is_empty() {
        let length = HEAD + usize::from(u16::from_be_bytes([wire[3], wire[4]]));
        let mut record: Vec<u8> = wire.drain(..length).collect();
        let (kind, n) = theirs.open(&mut record).unwrap();
        kinds.push((kind, record[HEAD..HEAD + n].to_vec()));
    }
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    assert_eq!(kinds[1], (InnerType::Alert, vec![FATAL, BAD_RECORD_MAC]));
}

#[tokio::test]
async fn after_a_fatal_alert_of_the_other_side_nothing_goes_out() {
    let (near, mut far) = duplex(1 << 20);
    let mut ours = Framed::new(Records::new(near, [keys(1, 0), keys(2, 0)].map(Box::new), Vec::new()));
    let mut alert = [&[0; HEAD][..], &[FATAL, 40], &[0; TAIL]].concat();
    keys(2, 0).seal(InnerType::Alert, &mut alert).unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut far, &alert).await.unwrap();
    // Sealed before the alert is read, and not sent yet.
    ours.queue(FrameType::Data, b"queued").unwrap();
    let error = ours.read().await.unwrap_err();
    assert!(matches!(&error, FramingError::Io(error) if error.to_string().contains("HandshakeFailure")), "{error}");
    let closing = tokio::spawn(ours.close_owned(Close::new(CloseCode::Protocol, "")));
    let mut wire = Vec::new();
    far.read_to_end(&mut wire).await.unwrap();
    drop(far);
    closing.await.unwrap();
    assert!(wire.is_empty(), "{} bytes after a fatal alert", wire.len());
}

#[tokio::test]
async fn keys_are_renewed_before_they_are_worn_out_in_both_directions_at_once() {
    let (mut near, mut far) = pair(REKEY_AFTER - 2);
    for round in 0..6_u8 {
        near.write(FrameType::Data, &[round; 100]).await.unwrap();
        far.write(FrameType::Data, &[round; 200]).await.unwrap();
        assert_eq!(far.read().await.unwrap().body[..], [round; 100]);
        assert_eq!(near.read().await.unwrap().body[..], [round; 200]);
    }
    for end in [&near, &far] {
        let records = end.stream();
        assert!(records.seals.sequence() < 10 && records.opens.sequence() < 10, "no key was renewed");
    }
}
