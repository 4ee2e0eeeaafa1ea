//! The trust table: how well is each part of the guest verified, and whose signature does that come down to?
//!
//! ```text
//! claim    what is known: roots, claims with link, cover and what matched        --> Inputs
//! engine   the decision table, then the cap by what measured (docs/levels.md)   --> Levels
//! why      each cell in words
//! ```
//!
//! Pure. A [`Cell`] cannot be made but by [`judge`], and its level is computed from the proof that it holds, so a level of 3
//! or 4 without the files or the rebuild behind it cannot be written. Assumes that claims say what was measured: how they
//! follow from evidence and policy is the question of `claims`, beside this folder.

mod claim;
mod engine;
#[cfg(test)]
mod laws;
mod why;
#[cfg(test)]
mod worked;

pub use claim::{Claim, Cover, Inputs, Matched, Named, Provenance, RootState};
pub use engine::{Cell, Contradiction, Levels, Row, judge};

pub use crate::policy::{Component, Level, View};
