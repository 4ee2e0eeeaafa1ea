//! What must be refused, as protocol.md §11 lists it, each by one change of something that works, and seen from both ends.
//!
//! ```text
//! genuine      a guest in this process, whose key a test may steal and whose device it holds
//! liar         a server that proves whatever a test makes of it
//! client       our client, and one that goes by a script
//! relay        R: evidence of another connection, guest, time or protocol
//! merkle       M: leaves of other types and purposes, large batches, swapped proofs
//! ```
//!
//! What happens inside one TLS connection (S, N1 to N4, N10) is tested in proxy-core, parsers (M1 to M4, D1, D2, D5, D7) in
//! ratls, platforms in `plat_snp`.

mod client;
mod genuine;
mod liar;
mod merkle;
mod relay;

use std::time::Duration;

/// Fails instead of hanging.
async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(evident_tests::wait::PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// Asks until it is so.
async fn until(what: &str, mut ask: impl FnMut() -> bool) {
    soon(what, async {
        while !ask() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}
