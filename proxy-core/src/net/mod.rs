//! Local sockets: where the proxies listen, whom they dial, and what they can do to a stream that ended badly.
//!
//! An [`Addr`] is parsed once, from a flag or the configuration file; a [`Listener`] is bound before anything is served,
//! so that a port in use is an error at start and not a surprise later. Nothing here speaks TLS or knows of evidence.

mod addr;
mod listener;
mod stream;

pub use addr::{Addr, AddrError, Host, HostPort};
pub use listener::{ListenError, Listener};
pub use stream::{ConnectError, LocalStream, Peer, connect};
