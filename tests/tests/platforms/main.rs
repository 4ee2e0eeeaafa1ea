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
//! aws       with and without NitroTPM, and documents that are not this guest's
//! ima       the kernel's list of files, asked for by a policy
//! matrix    every deployment against every attack, in one table
//! explained  `policy diff` and `explain`: down to the version, the byte, the entry of the log
//! direct    SNPGuard and microCVM: the launch digest, computed from files
//! held      files and a policy beside them         booted  rules about what an emulated guest boots
//! cases     each deployment with everything that its user may hold
//! judged    what the client makes of it               rows  what the table of levels then says
//! table_1   and each deployment at its best (docs/table-1.md)
//! ```
//!
//! Every refusal is one change of what [`accepted`] shows. A guest looks at its own evidence when it starts, and what it would refuse it
//! does not serve; so what is not authentic goes wrong after that.

// Helpers of tests fail the test like the tests themselves do.
#![allow(clippy::unwrap_used)]

mod accepted;
mod aws;
mod booted;
mod cases;
mod direct;
mod explained;
mod guest;
mod held;
mod ima;
mod judged;
mod learned;
mod matrix;
mod policies;
mod quoting;
mod refused;
mod rows;
mod table_1;
