//! Attacks N01 to N24 on a simulated guest, each by one change of a good case.
//!
//! Every test begins with a case that is accepted, shown by the same judge, and ends with the one finding that the change causes.
//!
//! ```text
//! guest      the good case and the judge
//! guests     what runs, and for whom: N01-N06, N19, N20
//! keys       who signed: N07-N10, N21, N22
//! firmware   on what: N11-N18
//! raw        bytes that only look right: N23, N24
//! ```

mod firmware;
mod guest;
mod guests;
mod keys;
mod raw;
