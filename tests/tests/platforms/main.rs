//! The six deployments, guest ⇄ client over the real protocol: the code that gathers in a cloud over emulated machines, `evident-proxy` as
//! it starts and serves, our client with the policy of that deployment. SIMULATED, PROVES NOTHING.
//!
//! ```text
//! guest     evident-proxy in this process on an emulated machine, whose evidence a test may change once it serves
//! policies  what a user of each deployment accepts
//! quoting   a TPM that quotes for somebody who holds its socket
//! accepted  every deployment is accepted under its policy, and a page comes through the tunnel
//! refused   and each is refused, with the reason, for one thing that is wrong
//! learned   what `policy learn` writes of each accepts it, and refuses another command line
//! direct    SNPGuard and microCVM: the launch digest, computed from files
//! ```
//!
//! Every refusal is one change of what [`accepted`] shows. A guest looks at its own evidence when it starts, and what it would refuse it
//! does not serve; so what is not authentic goes wrong after that.

// Helpers of tests fail the test like the tests themselves do.
#![allow(clippy::unwrap_used)]

mod accepted;
mod direct;
mod guest;
mod learned;
mod policies;
mod quoting;
mod refused;
