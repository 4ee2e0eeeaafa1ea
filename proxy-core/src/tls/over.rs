//! The record layer and what stands before it over bytes in memory, for fuzz targets: whatever the other side seals or sends, a
//! connection gives its plaintext in order, or ends.
//!
//! The other side of a connection has the right keys here, so that what is inside of records is reached too.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::aead::{HEAD, InnerType, Protection, RecordSuite, TAG, TAIL};
use super::inbox::Inbox;
use super::records::Records;
use crate::link::{FrameLink, MAX_RECORD, with_scratch};

/// What the other side does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// It seals bytes as data.
    Data(&'a [u8]),
    /// It seals these bytes as plaintext, type and padding, whatever they are.
    Inner(&'a [u8]),
    /// It sends KeyUpdate, asking for one or not, and has new keys from then on.
    KeyUpdate { asks: bool },
    /// It sends bytes as they are.
    Wire(&'a [u8]),
}

/// What became of a connection.
#[derive(Debug)]
pub struct Outcome {
    /// The plaintext that came out.
    pub plain: Vec<u8>,
    /// The end of the connection was clean, by close_notify or by the end of what there was to read.
    pub clean: bool,
    /// KeyUpdates that we answered with.
    pub key_updates: usize,
    /// Level and description of the alert that we ended with; none where the other side sent a fatal one.
    pub alert: Option<[u8; 2]>,
}

/// Longest record that a step makes: one that is too long for its reader is of interest, more is not.
const LONGEST_INNER: usize = MAX_RECORD + 64;

/// A connection whose other side takes these steps and closes, read in pieces of `cut` bytes.
///
/// # Panics
/// If our own answer is not what the other side can open, record by record, or goes on behind an alert.
pub fn records_over(steps: &[Step<'_>], cut: usize) -> Outcome {
    let keys = |secret: u8| Protection::new(RecordSuite::Aes128Gcm, &[secret; 32], 0).expect("a secret of 32 bytes");
    let (mut theirs, mut ours) = (keys(1), keys(2));
    let mut wire = Vec::new();
    for step in steps {
        match step {
            Step::Data(plain) => put(&mut theirs, &[plain, &[23]], &mut wire),
            Step::Inner(inner) => put(&mut theirs, &[inner], &mut wire),
            Step::KeyUpdate { asks } => {
                put(&mut theirs, &[&[24, 0, 0, 1, u8::from(*asks), 22]], &mut wire);
                theirs.update().expect("keys of our own making");
            }
            Step::Wire(bytes) => wire.extend_from_slice(bytes),
        }
    }
    let mut records = Records::new(Pipe::new(&wire, cut), [keys(2), keys(1)].map(Box::new), Vec::new());
    let (plain, clean) = read_to_end(&mut records);
    ready(|cx| records.poll_end(cx)).expect("memory takes everything");
    let (key_updates, alert) = answer(&mut ours, records.io().written.clone());
    Outcome { plain, clean, key_updates, alert }
}

fn put(keys: &mut Protection, inner: &[&[u8]], wire: &mut Vec<u8>) {
    let inner = inner.concat();
    let inner = &inner[..inner.len().min(LONGEST_INNER)];
    let mut record = [&[0; HEAD], inner, &[0; TAG]].concat();
    keys.seal_inner(&mut record).expect("a fresh key seals");
    wire.extend(record);
}

fn read_to_end(records: &mut Records<Pipe<'_>>) -> (Vec<u8>, bool) {
    let mut plain = Vec::new();
    let mut owed = Vec::new();
    loop {
        let read = with_scratch(|scratch| {
            let n = ready(|cx| records.poll_open(cx, scratch))?;
            let pieces: Vec<u8> =
                scratch.pieces.iter().flat_map(|piece| scratch.bytes[piece.clone()].to_vec()).collect();
            assert_eq!(pieces.len(), n, "as much as it says");
            plain.extend(pieces);
            Ok::<_, io::Error>(n)
        });
        records.owed(&mut owed).expect("an answer can be sealed");
        let sent = std::mem::take(&mut owed);
        assert_eq!(ready(|cx| records.poll_send(cx, &sent)).expect("memory takes everything"), sent.len());
        match read {
            Ok(0) => return (plain, true),
            Ok(_) => {}
            Err(_) => return (plain, false),
        }
    }
}

/// Opens what we answered: KeyUpdates, and at most one alert, at the end.
fn answer(ours: &mut Protection, mut wire: Vec<u8>) -> (usize, Option<[u8; 2]>) {
    let (mut at, mut key_updates, mut alert) = (0, 0, None);
    while at < wire.len() {
        let length = HEAD + usize::from(u16::from_be_bytes([wire[at + 3], wire[at + 4]]));
        let record = &mut wire[at..at + length];
        assert!(alert.is_none() && length >= HEAD + TAIL, "nothing follows the alert");
        let (kind, n) = ours.open(record).expect("our records open");
        match (kind, &record[HEAD..HEAD + n]) {
            (InnerType::Handshake, [24, 0, 0, 1, 0]) => {
                key_updates += 1;
                ours.update().expect("keys of our own making");
            }
            (InnerType::Alert, [level, description]) => alert = Some([*level, *description]),
            other => panic!("an answer of {other:?}"),
        }
        at += length;
    }
    (key_updates, alert)
}

/// What rustls is given of bytes that come in pieces of `cut`: one record after the other. The part of a record that is left at
/// the end is the second.
pub fn inbox_over(bytes: &[u8], cut: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut inbox, mut pipe, mut given) = (Inbox::default(), Pipe::new(bytes, cut), Vec::new());
    loop {
        let record = ready(|cx| inbox.poll_next(&mut pipe, cx).map(|read| read.map(<[u8]>::to_vec)));
        let record = record.expect("memory does not fail");
        if record.is_empty() {
            return (given, inbox.into_rest());
        }
        inbox.consume(record.len());
        given.push(record);
    }
}

fn ready<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("memory never waits"),
    }
}

/// Gives bytes in pieces, and keeps what is written.
struct Pipe<'a> {
    bytes: &'a [u8],
    cut: usize,
    written: Vec<u8>,
}

impl<'a> Pipe<'a> {
    fn new(bytes: &'a [u8], cut: usize) -> Self {
        Pipe { bytes, cut: cut.max(1), written: Vec::new() }
    }
}

impl AsyncRead for Pipe<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let n = self.cut.min(self.bytes.len()).min(buffer.remaining());
        let (now, later) = self.bytes.split_at(n);
        buffer.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSE_NOTIFY: [u8; 2] = [1, 0];

    #[test]
    fn plaintext_comes_out_in_order_however_it_is_cut() {
        let large = vec![7; 16_384];
        let steps = [
            Step::Data(b"one"),
            Step::KeyUpdate { asks: true },
            Step::Data(&large),
            Step::Inner(b"three\x17\0\0\0"),
            Step::KeyUpdate { asks: false },
            Step::Data(b"four"),
        ];
        for cut in [1, 2, 5, 21, 22, 23, 4_096, 100_000] {
            let outcome = records_over(&steps, cut);
            assert_eq!(outcome.plain, [b"one", &large[..], b"three", b"four"].concat(), "{cut}");
            assert!(outcome.clean && outcome.key_updates == 1 && outcome.alert == Some(CLOSE_NOTIFY));
        }
    }

    #[test]
    fn an_inbox_gives_what_it_got() {
        let bytes = b"\x16\x03\x01\0\x02ab\x16\x03\x03\0\x01c\x17\x03\x03\0\x05part";
        for cut in [1, 3, 100] {
            let (given, rest) = inbox_over(bytes, cut);
            assert_eq!(given, [&bytes[..7], &bytes[7..13]]);
            assert_eq!(rest, &bytes[13..]);
        }
    }
}
