//! `--listen`: each connection to a local port is a tunnel to one guest.
//!
//! Raw bytes have no place for a reason, so a refusal resets the connection and the log has the reasons. A unix socket
//! cannot be reset; there the application sees an end of file before the first byte.

use std::sync::Arc;

use proxy_core::net::{LocalStream, Peer};

use super::{carry, refusal};
use crate::open::Opener;

pub const WAY: &str = "port-map";

/// Serves one accepted connection to its end. `name` is what the guest is called in logs; `opener` opens only there.
pub async fn serve(opener: Arc<dyn Opener>, name: Arc<str>, local: LocalStream, peer: Peer) {
    match opener.open_early(&name).await {
        Ok(opened) => {
            if let Err(error) = carry(opened.tunnel, local, &[], &[]).await {
                refusal::log_end(WAY, &peer, &name, &error);
            }
        }
        Err(error) => {
            refusal::log(WAY, &peer, &name, &error);
            local.abort();
        }
    }
}
