//! Message bodies on their way through: frame by frame, nothing held back, nothing added.
//!
//! A body that ends badly on one side ends badly on the other: the error is passed on, hyper then cannot end the
//! message, and the connection is reset. Trailers lose what headers lose.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::clock::Exchange;

/// How long a client that asked whether it may send (`Expect: 100-continue`) is kept from it by a server that does not
/// answer the question. RFC 9110 §10.1.1 leaves the time open; curl waits one second.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// What the client gets: a refusal of ours or the upstream's own body.
pub(super) type ToClient = Either<Full<Bytes>, FromUpstream>;

/// A response body, and the exchange that ends with it.
pub(super) struct FromUpstream {
    body: Incoming,
    _exchange: Exchange,
}

impl FromUpstream {
    pub(super) fn new(body: Incoming, exchange: Exchange) -> FromUpstream {
        FromUpstream { body, _exchange: exchange }
    }
}

impl Body for FromUpstream {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        poll_stripped(&mut self.body, cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request body, asked for only when the server wants it.
pub(super) struct ToUpstream {
    /// None once there is nothing to send: from the start, or because the server answered without wanting it.
    body: Option<Incoming>,
    wait: Option<(Arc<Gate>, Pin<Box<Sleep>>)>,
}

impl ToUpstream {
    pub(super) fn at_once(body: Incoming) -> ToUpstream {
        ToUpstream { body: Some(body), wait: None }
    }

    /// The client is told to continue when `gate` opens: reading the body is what makes hyper tell it.
    pub(super) fn after(gate: Arc<Gate>, body: Incoming) -> ToUpstream {
        ToUpstream { body: Some(body), wait: Some((gate, Box::pin(tokio::time::sleep(CONTINUE_WAIT)))) }
    }

    pub(super) fn empty() -> ToUpstream {
        ToUpstream { body: None, wait: None }
    }
}

impl Body for ToUpstream {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Some((gate, patience)) = &mut this.wait {
            match gate.poll(cx) {
                Poll::Ready(Answer::Continue) => {}
                Poll::Ready(Answer::Final) => {
                    // Neither an end nor an error: the message must not look whole, and the response must arrive.
                    this.body = None;
                    return Poll::Pending;
                }
                Poll::Pending => ready!(patience.as_mut().poll(cx)),
            }
            this.wait = None;
        }
        match &mut this.body {
            Some(body) => poll_stripped(body, cx),
            None => Poll::Ready(None),
        }
    }
    fn is_end_stream(&self) -> bool {
        self.wait.is_none() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }
    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

fn poll_stripped(body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    let frame = ready!(Pin::new(body).poll_frame(cx));
    Poll::Ready(frame.map(|frame| {
        frame.map(|frame| match frame.into_trailers() {
            Ok(mut trailers) => {
                super::headers::strip_trailers(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(data) => data,
        })
    }))
}

/// What a server says to a client that asked before sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Continue,
    Final,
}

/// Holds a request body until the server has answered.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<GateState>,
}

#[derive(Default)]
struct GateState {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

impl Gate {
    /// The first answer counts. Returns the one that does.
    pub(super) fn answer(&self, answer: Answer) -> Answer {
        let mut state = self.lock();
        let counted = *state.answer.get_or_insert(answer);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        counted
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut state = self.lock();
        match state.answer {
            Some(answer) => Poll::Ready(answer),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().expect("nothing panics while it holds the gate")
    }
}
