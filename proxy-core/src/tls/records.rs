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

use super::aead::{BadRecord, HEAD, InnerType, Protection, RecordSuite, TAIL};
use super::config::Capture;
use crate::link::{FrameLink, MAX_PLAIN, MAX_RECORD, Scratch, Sendable};
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
    #[error("a record does not open under its key")]
    Sealed,
    #[error("{0}")]
    Inner(String),
    #[error("a handshake message after the handshake that is not KeyUpdate")]
    Handshake,
    #[error("a KeyUpdate of another length")]
    KeyUpdateLength,
    #[error("a KeyUpdate that asks {0}, neither yes nor no")]
    KeyUpdateRequest(u8),
    #[error("an alert of {0} bytes")]
    AlertLength(usize),
    #[error("the keys of this connection cannot be used any more: {0}")]
    Keys(String),
    #[error("too many TLS records without data")]
    Fruitless,
    #[error("the other side sent the alert {0:?}")]
    Alert(AlertDescription),
}

impl RecordError {
    /// The alert that tells the other side (RFC 8446 §6.2). Where that side sent a fatal alert, there is nothing to tell.
    fn alert(&self) -> Option<AlertDescription> {
        match self {
            // §5.1 and §5.4: a type that is not due, no type, or a handshake message or alert without content.
            RecordError::Head { .. } | RecordError::Inner(_) | RecordError::Handshake | RecordError::Fruitless => {
                Some(AlertDescription::UnexpectedMessage)
            }
            // Never opened, or opened to more than 2^14 bytes and a type.
            RecordError::Length(_) => Some(AlertDescription::RecordOverflow),
            RecordError::Sealed => Some(AlertDescription::BadRecordMac),
            RecordError::KeyUpdateLength | RecordError::AlertLength(1..) => Some(AlertDescription::DecodeError),
            RecordError::AlertLength(0) => Some(AlertDescription::UnexpectedMessage),
            RecordError::KeyUpdateRequest(_) => Some(AlertDescription::IllegalParameter),
            RecordError::Keys(_) => Some(AlertDescription::InternalError),
            RecordError::Alert(_) => None,
        }
    }
}

impl From<BadRecord> for RecordError {
    fn from(bad: BadRecord) -> Self {
        match bad {
            BadRecord::Sealed => RecordError::Sealed,
            BadRecord::NoType | BadRecord::Type(_) => RecordError::Inner(bad.to_string()),
            BadRecord::Secret | BadRecord::Exhausted => RecordError::Keys(bad.to_string()),
        }
    }
}

/// What ended a connection before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// An error that we found; the alert says which.
    Ours(AlertDescription),
    /// A fatal alert came.
    Theirs,
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
    broken: Option<Broken>,
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
        let suite = connection.negotiated_cipher_suite().and_then(|suite| RecordSuite::of_cipher(suite.suite()));
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
            broken: None,
            ending: None,
        }
    }

    pub fn io(&self) -> &IO {
        &self.io
    }

    /// The same connection over another handle of its socket.
    pub fn over<T>(self, change: impl FnOnce(IO) -> io::Result<T>) -> io::Result<Records<T>> {
        let Records { io, seals, opens, left, fresh, owes_key_update, fruitless, ended, broken, ending } = self;
        let io = change(io)?;
        Ok(Records { io, seals, opens, left, fresh, owes_key_update, fruitless, ended, broken, ending })
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
            if length > MAX_RECORD {
                return Err(RecordError::Length(length));
            }
            let Some(record) = bytes.get_mut(at..at + length) else { break };
            let (kind, n) = self.opens.open(record)?;
            // Padding does not make room: plaintext, type and padding are at most 2^14 + 1 bytes (RFC 8446 §5.4).
            if length > HEAD + MAX_PLAIN + TAIL {
                return Err(RecordError::Length(length));
            }
            let inner = &record[HEAD..HEAD + n];
            match kind {
                InnerType::Data if n > 0 => {
                    self.fruitless = 0;
                    pieces.push(at + HEAD..at + HEAD + n);
                    plain += n;
                }
                InnerType::Data => self.count_fruitless()?,
                InnerType::Handshake => {
                    let asked = match inner.split_first_chunk() {
                        Some((&KEY_UPDATE, [asked @ 0..=1])) => *asked == 1,
                        Some((&KEY_UPDATE, [other])) => return Err(RecordError::KeyUpdateRequest(*other)),
                        // It ends its record: what follows is under the next key (RFC 8446 §5.1).
                        Some((&KEY_UPDATE, [_, ..])) => return Err(RecordError::Handshake),
                        Some((&[24, ..], _)) => return Err(RecordError::KeyUpdateLength),
                        // A message in pieces is refused too: nobody cuts five bytes.
                        _ => return Err(RecordError::Handshake),
                    };
                    self.count_fruitless()?;
                    self.opens.update()?;
                    self.owes_key_update |= asked;
                }
                // The description decides, not the level; what nobody knows is an error too (RFC 8446 §6).
                InnerType::Alert => match inner {
                    [_, description] => match AlertDescription::from(*description) {
                        AlertDescription::CloseNotify => self.ended = true,
                        // Announces a close_notify and ends nothing by itself.
                        AlertDescription::UserCanceled => self.count_fruitless()?,
                        other => return Err(RecordError::Alert(other)),
                    },
                    _ => return Err(RecordError::AlertLength(inner.len())),
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

    fn append(&mut self, kind: InnerType, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let begin = out.len();
        out.extend_from_slice(&[0; HEAD]);
        out.extend_from_slice(plain);
        out.extend_from_slice(&[0; TAIL]);
        self.seals.seal(kind, &mut out[begin..]).map_err(|bad| {
            out.truncate(begin);
            invalid(RecordError::from(bad))
        })
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> FrameLink for Records<IO> {
    const HEAD: usize = HEAD;
    const TAIL: usize = TAIL;

    fn seal(&mut self, record: &mut [u8]) -> io::Result<()> {
        if self.broken.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.seals.seal(InnerType::Data, record).map_err(|bad| invalid(RecordError::from(bad)))
    }

    fn owed(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if self.broken.is_none() && (self.owes_key_update || self.seals.sequence() >= REKEY_AFTER) {
            self.owes_key_update = false;
            let [kind, a, b, c] = KEY_UPDATE;
            self.append(InnerType::Handshake, &[kind, a, b, c, 0], out)?;
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

    fn sendable(&self) -> Sendable {
        match self.broken {
            None => Sendable::Frames,
            Some(Broken::Ours(_)) => Sendable::Ending,
            Some(Broken::Theirs) => Sendable::Nothing,
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ending.is_none() {
            let mut record = Vec::new();
            match self.broken {
                None => self.append(InnerType::Alert, &[WARNING, AlertDescription::CloseNotify.into()], &mut record)?,
                Some(Broken::Ours(alert)) => self.append(InnerType::Alert, &[FATAL, alert.into()], &mut record)?,
                // Who sent a fatal alert has closed the connection (RFC 8446 §6.2).
                Some(Broken::Theirs) => {}
            }
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

    fn poll_discard(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(&mut scratch.bytes);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
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
                    self.broken = Some(error.alert().map_or(Broken::Theirs, Broken::Ours));
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

#[cfg(test)]
mod tests;
