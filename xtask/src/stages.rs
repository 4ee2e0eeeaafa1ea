//! A run in stages: each announced, timed, and listed at the end with how it went.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub(crate) struct Stages {
    begun: Instant,
    done: Vec<(String, Duration, bool)>,
}

impl Stages {
    pub(crate) fn begin() -> Stages {
        Stages { begun: Instant::now(), done: Vec::new() }
    }

    /// A stage that the others need: its error ends the run.
    pub(crate) fn need<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n== {name}");
        let begun = Instant::now();
        let result = work();
        self.done.push((name.to_owned(), begun.elapsed(), result.is_ok()));
        if result.is_err() {
            self.print();
        }
        result
    }

    /// A stage after which the others still make sense: its error is printed, and [`Stages::end`] fails.
    pub(crate) fn check(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        println!("\n== {name}");
        let begun = Instant::now();
        let result = work();
        self.done.push((name.to_owned(), begun.elapsed(), result.is_ok()));
        if let Err(error) = result {
            println!("FAILED: {error:#}");
        }
    }

    /// Prints the table; an error if anything failed.
    pub(crate) fn end(self) -> Result<()> {
        self.print();
        let failed: Vec<&str> = self.done.iter().filter(|(_, _, ok)| !ok).map(|(name, _, _)| name.as_str()).collect();
        match failed.as_slice() {
            [] => Ok(()),
            failed => bail!("failed: {}", failed.join(", ")),
        }
    }

    fn print(&self) {
        println!();
        for (name, took, ok) in &self.done {
            println!("  {:<6} {:>7.1} s  {name}", if *ok { "ok" } else { "FAILED" }, took.as_secs_f32());
        }
        println!("  {:<6} {:>7.1} s  altogether", "", self.begun.elapsed().as_secs_f32());
    }
}
