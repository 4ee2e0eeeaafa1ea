//! A stand-in for AMD's key service on loopback: answers by path, counts, and does on order what makes a client's life hard.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// What the next request gets instead of its answer.
#[derive(Clone)]
pub(crate) enum Trouble {
    Status(u16),
    /// 429 with `Retry-After`, in seconds.
    Throttle(u64),
    Slow(Duration),
    Body(Vec<u8>),
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) answers: HashMap<String, Vec<u8>>,
    pub(crate) troubles: VecDeque<Trouble>,
    /// Paths with queries, in the order of the requests.
    pub(crate) asked: Vec<String>,
}

/// The service; ends when dropped.
pub(crate) struct KdsServer {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for KdsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl KdsServer {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let serving = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
        KdsServer { url, state, task }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the state")
    }

    pub(crate) fn serves(&self, path: impl Into<String>, body: impl Into<Vec<u8>>) {
        self.state().answers.insert(path.into(), body.into());
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }
}

/// Answers the requests of one connection.
pub(crate) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<Mutex<State>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(answer(&request, &state).await) }
    });
    // A client that hangs up is no failure of the stand-in.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: &Request<Incoming>, state: &Mutex<State>) -> Response<Full<Bytes>> {
    let path = request.uri().path_and_query().expect("a request has a path").as_str().to_owned();
    let (answer, trouble) = {
        let mut state = state.lock().expect("no test panics while it holds the state");
        state.asked.push(path.clone());
        (state.answers.get(&path).cloned(), state.troubles.pop_front())
    };
    let response = |status: u16, body: Vec<u8>| {
        Response::builder().status(status).body(Full::new(Bytes::from(body))).expect("a plain response")
    };
    match trouble {
        Some(Trouble::Status(status)) => response(status, b"trouble".to_vec()),
        Some(Trouble::Throttle(secs)) => {
            let mut throttled = response(429, vec![]);
            throttled.headers_mut().insert("retry-after", secs.into());
            throttled
        }
        Some(Trouble::Body(body)) => response(200, body),
        Some(Trouble::Slow(delay)) => {
            tokio::time::sleep(delay).await;
            answer.map_or_else(|| response(404, vec![]), |body| response(200, body))
        }
        None => answer.map_or_else(|| response(404, vec![]), |body| response(200, body)),
    }
}
