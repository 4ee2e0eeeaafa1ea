//! Bodies on their way through: an upload is whole only if it says so, and an answer holds its place until it is sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::heads::OpenRequest;
use super::places::Place;
use super::upstream::BoxError;

/// The body of an HTTP/2 request. It ends with END_STREAM; any other end, also a reset that reports no error, is an
/// abort, which hyper would take for the end (RFC 9113 §8.1 lets only a server use NO_ERROR so).
pub(super) struct Upload {
    body: Incoming,
    ended: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the client gave up its upload before its end")]
struct GivenUp;

impl Upload {
    pub(super) fn new(body: Incoming) -> Self {
        Upload { body, ended: false }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                // Only END_STREAM can follow trailers.
                self.ended = frame.is_trailers();
                return Poll::Ready(Some(Ok(frame)));
            }
            Some(Err(error)) => Some(Err(error.into())),
            None if self.body.is_end_stream() => None,
            None => Some(Err(GivenUp.into())),
        };
        self.ended = true;
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a request holds until the last byte of its answer has left.
pub(super) struct Holding {
    pub(super) _open: OpenRequest,
    pub(super) _place: Place,
}

/// The body of an answer, and what its request holds. Each piece keeps it too: HTTP/2 takes pieces that a client does
/// not read, and they are memory until it does.
pub(super) struct Answer<B> {
    body: B,
    holding: Arc<Holding>,
}

impl<B> Answer<B> {
    pub(super) fn new(body: B, holding: Holding) -> Self {
        Answer { body, holding: Arc::new(holding) }
    }
}

struct Piece {
    bytes: Bytes,
    _holding: Arc<Holding>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let held = |bytes| Bytes::from_owner(Piece { bytes, _holding: Arc::clone(&self.holding) });
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(held))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
