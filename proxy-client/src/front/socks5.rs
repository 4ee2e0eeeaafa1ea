//! `--socks5`: CONNECT by IPv4, IPv6 or name, without authentication (RFC 1928).
//!
//! The port is as open as its address is reachable: bind it to loopback or to a unix socket. The reply goes out only when
//! the tunnel is open. What a client sends behind its request is kept and goes into the tunnel first.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use proxy_core::net::{LocalStream, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::socks5_parse::{
    self as parse, METHOD_CHOSEN, NO_METHOD, ParseError, Reply, Request, SOCKS4_REJECTED, Whole,
};
use super::{carry, close_gently, refusal};
use crate::open::Opener;

pub const WAY: &str = "socks5";
/// For a client above the limit of connections.
pub const TOO_MANY: &[u8] = &NO_METHOD;

/// Serves one accepted connection to its end. `negotiation` is the time for greeting and request together.
pub async fn serve(opener: Arc<dyn Opener>, negotiation: Duration, mut local: LocalStream, peer: Peer) {
    let mut input = Input::default();
    let request = match tokio::time::timeout(negotiation, negotiate(&mut local, &mut input)).await {
        Ok(Ok(request)) => request,
        Ok(Err(Failed::Io(error))) => {
            tracing::debug!(way = WAY, %peer, %error, "the client went away");
            return;
        }
        Ok(Err(Failed::Parse { error, answer })) => {
            tracing::warn!(way = WAY, %peer, %error, "not a request that this port serves");
            return refuse(local, answer).await;
        }
        Err(_) => {
            tracing::debug!(way = WAY, %peer, "the request did not arrive in time");
            return local.abort();
        }
    };
    let name = request.to_string();
    match opener.open(&name).await {
        Ok(opened) => {
            let ended = carry(opened.tunnel, local, input.rest(), &Reply::Succeeded.to_bytes()).await;
            if let Err(error) = ended {
                tracing::debug!(way = WAY, %peer, %error, "a tunnel ended before both sides had");
            }
        }
        Err(error) => {
            refusal::log(WAY, &peer, &name, &error);
            refuse(local, refusal::socks_reply(&error).to_bytes().into()).await;
        }
    }
}

async fn refuse(mut local: LocalStream, answer: Vec<u8>) {
    if local.write_all(&answer).await.is_ok() {
        close_gently(local).await;
    }
}

enum Failed {
    Io(io::Error),
    Parse { error: ParseError, answer: Vec<u8> },
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Io(error)
    }
}

async fn negotiate(local: &mut LocalStream, input: &mut Input) -> Result<Request, Failed> {
    input.message(local, parse::greeting).await?.map_err(|error| {
        let answer = match error {
            ParseError::Version { seen: 4 } => SOCKS4_REJECTED.to_vec(),
            _ => NO_METHOD.to_vec(),
        };
        Failed::Parse { error, answer }
    })?;
    local.write_all(&METHOD_CHOSEN).await?;
    input.message(local, parse::request).await?.map_err(|error| {
        let answer = Reply::from(&error).to_bytes().to_vec();
        Failed::Parse { error, answer }
    })
}

/// What was read and not yet understood: never more than one message and what came with it.
struct Input {
    buffer: [u8; 2 * parse::MAX_MESSAGE],
    filled: usize,
}

impl Default for Input {
    fn default() -> Input {
        Input { buffer: [0; 2 * parse::MAX_MESSAGE], filled: 0 }
    }
}

impl Input {
    fn rest(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    async fn message<T>(
        &mut self,
        local: &mut LocalStream,
        parse: impl Fn(&[u8]) -> Result<Option<Whole<T>>, ParseError>,
    ) -> io::Result<Result<T, ParseError>> {
        loop {
            match parse(self.rest()) {
                Ok(Some(whole)) => {
                    self.buffer.copy_within(whole.len..self.filled, 0);
                    self.filled -= whole.len;
                    return Ok(Ok(whole.message));
                }
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
            // A message that is not whole is shorter than MAX_MESSAGE, so there is room.
            match local.read(&mut self.buffer[self.filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.filled += n,
            }
        }
    }
}
