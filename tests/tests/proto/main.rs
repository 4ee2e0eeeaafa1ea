//! What a relay, a liar, a slow or a silent peer tries and must be refused, each by one change of something that works, and seen from both ends.
//!
//! ```text
//! genuine      a guest in this process, whose key a test may steal and whose device it holds
//! liar         a server that proves whatever a test makes of it
//! client       our client, and one that goes by a script
//! relay        R: evidence of another connection, guest, time or protocol
//! merkle       M: leaves of other types and purposes, large batches, swapped proofs
//! identity     I: not the guest that is meant
//! negotiation  N: less than `evident/1`, other frames than those that are due, names in the SNI
//! load         D: slow, many and silent peers, hardware that does not answer
//! startup      P, I6: settings and clocks with which nothing starts
//! secrets      X2: what no log and no page says
//! memory       X3: what no memory holds after a connection
//! headers      H: who may write a verdict into HTTP
//! reuse        one connection for many tunnels: what may be between them, and what may be repeated
//! asked        parts of the evidence and the proof of the AK: how often, how much, and until when
//! access       tokens, certificates, ordinary clients, and servers that are not EVIDENT
//! ```
//!
//! What happens inside one TLS connection (S, N1 to N4, N10) is tested in proxy-core, parsers (M1 to M4, D1, D2, D5, D7) in
//! ratls, platforms in `plat_snp`.

// Helpers of tests fail the test like the tests themselves do.
#![allow(clippy::unwrap_used)]

mod access;
mod asked;
mod client;
mod genuine;
mod headers;
mod identity;
mod liar;
mod load;
mod memory;
mod merkle;
mod negotiation;
mod relay;
mod reuse;
mod secrets;
mod startup;

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
