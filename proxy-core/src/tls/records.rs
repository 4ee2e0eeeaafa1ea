//! An established TLS 1.3 connection without buffers: records are sealed and opened in the caller's memory.
//!
//! rustls made the handshake and is gone; of it the traffic secrets and record numbers are left. So a record is copied
//! nowhere on its way between two sockets, and an idle connection holds two keys. What RFC 8446 asks of both sides after the
//! handshake is here: application data, KeyUpdate, alerts. No other handshake message is due in `evident/1`, which has no
//! tickets and no later client authentication; any refuses.
//!
//! Nothing lies in a future: dropping one loses no byte.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{AlertDescription, Connection, ExtractedSecrets};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::aead::{BadRecord, HEAD, Kind, Protection, Suite, TAIL};
use super::config::Capture;
use crate::link::{Link, MAX_PLAIN, MAX_RECORD, Scratch};
use crate::stack;

/// A key seals no more records than this (RFC 8446 §5.5 allows 2^24.5 of AES-GCM); then KeyUpdate.
const REKEY_AFTER: u64 = 1 << 23;
/// KeyUpdates and empty records in a row, without a byte of data: more are a flood. The number is that of other stacks.
const MAX_FRUITLESS: u32 = 32;
/// KeyUpdate (24) of one byte: whether the other side is asked to update too.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// Why a connection broke; inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    #[error("a TLS record of type {kind} and version {version:#06x} after the handshake")]
    Head { kind: u8, version: u16 },
    #[error("a TLS record of {0} bytes")]
    Length(usize),
    #[error("{0}")]
    Sealed(String),
    #[error("a handshake message after the handshake that is not KeyUpdate")]
    Handshake,
    #[error("too many TLS records without data")]
    Fruitless,
    #[error("the other side sent the alert {0:?}")]
    Alert(AlertDescription),
}

impl RecordError {
    fn alert(&self) -> AlertDescription {
        match self {
            RecordError::Head { .. } | RecordError::Handshake | RecordError::Fruitless => {
                AlertDescription::UnexpectedMessage
            }
            RecordError::Length(_) => AlertDescription::RecordOverflow,
            RecordError::Sealed(_) => AlertDescription::BadRecordMac,
            RecordError::Alert(_) => AlertDescription::CloseNotify,
        }
    }
}

impl From<BadRecord> for RecordError {
    fn from(bad: BadRecord) -> Self {
        RecordError::Sealed(bad.to_string())
    }
}

/// The connection.
pub struct Records<IO> {
    io: IO,
    // Behind pointers: moving the connection leaves no copy of a key behind.
    seals: Box<Protection>,
    opens: Box<Protection>,
    /// What was received of a record that is not whole; whole ones only right after the handshake.
    left: Vec<u8>,
    /// `left` was not looked at yet.
    fresh: bool,
    owes_key_update: bool,
    fruitless: u32,
    /// close_notify or the end of TCP came.
    ended: bool,
    /// The alert that ends our side.
    last: AlertDescription,
    /// The last record, and how much of it is sent.
    ending: Option<(Vec<u8>, usize)>,
}

impl<IO> Records<IO> {
    /// Takes a connection over from rustls after its handshake. `received` is what came behind it, as it came; rustls was
    /// given nothing of that.
    pub(super) fn take_over(
        io: IO,
        connection: Connection,
        capture: &Capture,
        received: Vec<u8>,
    ) -> Result<Self, rustls::Error> {
        let taken = stack::wiping(|| Self::keys_of(connection, capture))?;
        Ok(Records::new(io, taken, received))
    }

    /// The keys of both directions, ours first, out of rustls.
    fn keys_of(connection: Connection, capture: &Capture) -> Result<[Box<Protection>; 2], rustls::Error> {
        let missing = |what: &str| rustls::Error::General(format!("the TLS stack gave no {what}"));
        let suite = connection.negotiated_cipher_suite().and_then(|suite| Suite::of(suite.suite()));
        let suite = suite.ok_or_else(|| missing("suite of TLS 1.3"))?;
        let (client, server) = capture.take_traffic().ok_or_else(|| missing("traffic secrets"))?;
        let (ours, theirs) = match connection {
            Connection::Client(_) => (client, server),
            Connection::Server(_) => (server, client),
        };
        let ExtractedSecrets { tx: (sent, tx), rx: (opened, rx) } = connection.dangerous_extract_secrets()?;
        let protection = |secret: &[u8], sequence| {
            Protection::new(suite, secret, sequence).map(Box::new).map_err(|_| missing("secret of the right length"))
        };
        let (seals, opens) = (protection(&ours, sent)?, protection(&theirs, opened)?);
        // The two ways to the keys, what was logged and what rustls uses, must agree.
        if !(seals.has_iv(&tx) && opens.has_iv(&rx)) {
            return Err(missing("secrets that are those of its keys"));
        }
        Ok([seals, opens])
    }

    pub(super) fn new(io: IO, [seals, opens]: [Box<Protection>; 2], received: Vec<u8>) -> Self {
        Records {
            io,
            seals,
            opens,
            fresh: !received.is_empty(),
            left: received,
            owes_key_update: false,
            fruitless: 0,
            ended: false,
            last: AlertDescription::CloseNotify,
            ending: None,
        }
    }

    pub fn io(&self) -> &IO {
        &self.io
    }

    /// The same connection over another handle of its socket.
    pub fn over<T>(self, change: impl FnOnce(IO) -> io::Result<T>) -> io::Result<Records<T>> {
        let Records { io, seals, opens, left, fresh, owes_key_update, fruitless, ended, last, ending } = self;
        let io = change(io)?;
        Ok(Records { io, seals, opens, left, fresh, owes_key_update, fruitless, ended, last, ending })
    }

    /// Opens what is whole of `bytes`, and gives the length of the plaintext and of what was taken.
    fn open(
        &mut self,
        bytes: &mut [u8],
        pieces: &mut Vec<std::ops::Range<usize>>,
    ) -> Result<(usize, usize), RecordError> {
        let (mut at, mut plain) = (0, 0);
        while !self.ended {
            let Some(&[kind, major, minor, high, low]) = bytes[at..].first_chunk::<HEAD>() else { break };
            if (kind, major, minor) != (23, 3, 3) {
                return Err(RecordError::Head { kind, version: u16::from_be_bytes([major, minor]) });
            }
            let length = HEAD + usize::from(u16::from_be_bytes([high, low]));
            if !(HEAD + TAIL..=MAX_RECORD).contains(&length) {
                return Err(RecordError::Length(length));
            }
            let Some(record) = bytes.get_mut(at..at + length) else { break };
            let (kind, n) = self.opens.open(record)?;
            if n > MAX_PLAIN {
                return Err(RecordError::Length(length));
            }
            let inner = &record[HEAD..HEAD + n];
            match kind {
                Kind::Data if n > 0 => {
                    self.fruitless = 0;
                    pieces.push(at + HEAD..at + HEAD + n);
                    plain += n;
                }
                Kind::Data => self.count_fruitless()?,
                Kind::Handshake => {
                    let asked = match inner.split_first_chunk() {
                        Some((&KEY_UPDATE, [asked @ 0..=1])) => *asked == 1,
                        _ => return Err(RecordError::Handshake),
                    };
                    self.count_fruitless()?;
                    self.opens.update()?;
                    self.owes_key_update |= asked;
                }
                Kind::Alert => match inner {
                    [_, description] if AlertDescription::from(*description) == AlertDescription::CloseNotify => {
                        self.ended = true;
                    }
                    [_, description] => return Err(RecordError::Alert(AlertDescription::from(*description))),
                    _ => return Err(RecordError::Length(length)),
                },
            }
            at += length;
        }
        Ok((plain, at))
    }

    fn count_fruitless(&mut self) -> Result<(), RecordError> {
        self.fruitless += 1;
        if self.fruitless > MAX_FRUITLESS { Err(RecordError::Fruitless) } else { Ok(()) }
    }

    fn append(&mut self, kind: Kind, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let begin = out.len();
        out.extend_from_slice(&[0; HEAD]);
        out.extend_from_slice(plain);
        out.extend_from_slice(&[0; TAIL]);
        self.seals.seal(kind, &mut out[begin..]).map_err(|bad| invalid(RecordError::from(bad)))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Link for Records<IO> {
    const HEAD: usize = HEAD;
    const TAIL: usize = TAIL;

    fn seal(&mut self, record: &mut [u8]) -> io::Result<()> {
        self.seals.seal(Kind::Data, record).map_err(|bad| invalid(RecordError::from(bad)))
    }

    fn owed(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if self.owes_key_update || self.seals.sequence() >= REKEY_AFTER {
            self.owes_key_update = false;
            let [kind, a, b, c] = KEY_UPDATE;
            self.append(Kind::Handshake, &[kind, a, b, c, 0], out)?;
            self.seals.update().map_err(|bad| invalid(RecordError::from(bad)))?;
        }
        Ok(())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, sealed: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, sealed)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ending.is_none() {
            let level = if self.last == AlertDescription::CloseNotify { WARNING } else { FATAL };
            let mut record = Vec::new();
            self.append(Kind::Alert, &[level, u8::from(self.last)], &mut record)?;
            self.ending = Some((record, 0));
        }
        if let Some((record, sent)) = &mut self.ending {
            while *sent < record.len() {
                match ready!(Pin::new(&mut self.io).poll_write(cx, &record[*sent..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    n => *sent += n,
                }
            }
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_open(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<io::Result<usize>> {
        let Scratch { bytes, pieces } = scratch;
        loop {
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            let had = self.left.len();
            let mut here = had;
            if !std::mem::take(&mut self.fresh) {
                let mut buffer = ReadBuf::new(&mut bytes[had..]);
                ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
                here += buffer.filled().len();
                if here == had {
                    self.ended = true;
                    return Poll::Ready(Ok(0));
                }
            }
            bytes[..had].copy_from_slice(&self.left);
            let (plain, taken) = match self.open(&mut bytes[..here], pieces) {
                Ok(opened) => opened,
                Err(error) => {
                    // Nothing after this is of any worth.
                    self.ended = true;
                    self.last = error.alert();
                    return Poll::Ready(Err(invalid(error)));
                }
            };
            if taken < here {
                self.left.clear();
                self.left.extend_from_slice(&bytes[taken..here]);
            } else {
                self.left = Vec::new();
            }
            if plain > 0 {
                return Poll::Ready(Ok(plain));
            }
        }
    }
}

fn invalid(error: RecordError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
