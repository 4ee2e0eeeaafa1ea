//! Received bytes, given on to rustls one record at a time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::link::MAX_RECORD;

const HEAD: usize = 5;
/// Read at once: a handshake's flight fits.
const READ: usize = 4096;

/// What came and rustls has not been given.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    at: usize,
}

impl Inbox {
    /// The next record, or what cannot be one (rustls will say so); empty at the end of TCP. It stays until it is consumed.
    pub(super) fn poll_next<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<&[u8]>> {
        loop {
            if let Some(length) = record(&self.bytes[self.at..]) {
                return Poll::Ready(Ok(&self.bytes[self.at..self.at + length]));
            }
            self.bytes.drain(..self.at);
            self.at = 0;
            let had = self.bytes.len();
            let mut chunk = [0; READ];
            let mut buffer = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer))?;
            self.bytes.extend_from_slice(buffer.filled());
            if self.bytes.len() == had {
                // What is left is a part of a record, and no more comes.
                return Poll::Ready(Ok(&[]));
            }
        }
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.at += n;
        if self.at == self.bytes.len() {
            (self.bytes, self.at) = (Vec::new(), 0);
        }
    }

    pub(super) fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.at);
        self.bytes
    }
}

/// The length of the record at the front, once it is whole; of everything where it is none.
fn record(bytes: &[u8]) -> Option<usize> {
    let [kind, major, _, high, low] = bytes.first_chunk::<HEAD>()?;
    let length = HEAD + usize::from(u16::from_be_bytes([*high, *low]));
    match (20..=23).contains(kind) && *major == 3 && (HEAD + 1..=MAX_RECORD).contains(&length) {
        true => (bytes.len() >= length).then_some(length),
        false => Some(bytes.len()),
    }
}
