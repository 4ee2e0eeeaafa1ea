//! What `cargo xtask table-1` runs: one table of six emulated deployments, as text, JSON and a picture, into a folder.
//!
//! The deployments are those of the tests, which hold each row to the specification. SIMULATED, PROVES NOTHING.

// It is made of modules of the tests, which use more of each other than this does.
#![allow(dead_code, clippy::unwrap_used)]

#[path = "../tests/platforms/booted.rs"]
mod booted;
#[path = "../tests/platforms/cases.rs"]
mod cases;
#[path = "../tests/platforms/guest.rs"]
mod guest;
#[path = "../tests/platforms/held.rs"]
mod held;
#[path = "../tests/platforms/judged.rs"]
mod judged;
#[path = "../tests/platforms/policies.rs"]
mod policies;
#[path = "../tests/platforms/table_1.rs"]
mod table_1;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;

#[derive(Parser)]
struct Args {
    /// Where the files go
    #[arg(long)]
    out: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Args { out } = Args::parse();
    ensure!(policies::proves_aks(), "a build with ring cannot ask for the proof of an SVSM's AK; use aws-lc-rs");
    let table = table_1::Table::make().await;
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    for (name, content) in table.files() {
        let file = out.join(name);
        std::fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!("wrote {}", file.display());
    }
    print!("{}", table.text());
    Ok(())
}
