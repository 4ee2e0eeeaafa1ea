//! Measurements of the pair beside others, on loopback. `cargo xtask bench all` builds everything and runs `report`.
//!
//! ```text
//! upstream   an HTTP/1.1 server that costs little
//! load       what applications do: new connections, requests, streams, bulk, tunnels that are held
//! peers      pairs of processes: ours, and TCP proxies with TLS that Debian has
//! proc       CPU and memory of a process and its children, from /proc
//! run        workloads over pairs, interleaved, medians
//! micro      verification and trees, in this process
//! model      a cost model fitted to the measurements, and the batcher at scale
//! page       docs/performance.md and its plots
//! ```

#![warn(clippy::unwrap_used)]

mod full;
mod load;
mod micro;
mod model;
mod page;
mod peers;
mod proc;
mod run;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Serve until killed
    Upstream { listen: SocketAddr },
    /// Run one load against an address and print what came of it as JSON
    Load {
        to: SocketAddr,
        #[command(flatten)]
        load: load::Load,
    },
    /// Verification and trees, in this process
    Micro,
    /// The batcher at scale, simulated
    Model,
    /// Everything, interleaved, into a page
    Report {
        /// Where evident-proxy (with the simulator) and evident-client are
        #[arg(long)]
        binaries: PathBuf,
        /// The page; plots go into a folder beside it
        #[arg(long)]
        page: PathBuf,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        #[arg(long, default_value_t = 3)]
        seconds: u64,
        /// Only these workloads
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Args::parse().what {
        What::Upstream { listen } => block_on(upstream::serve(listen)),
        What::Load { to, load } => block_on(load.run(to)).map(|outcome| println!("{}", outcome.to_json())),
        What::Micro => micro::run().map(|rows| rows.iter().for_each(|row| println!("{row}"))),
        What::Model => {
            print!("{}", model::at_scale());
            Ok(())
        }
        What::Report { binaries, page, rounds, seconds, only } => {
            run::all(&binaries, rounds, seconds, &only).and_then(|measured| page::write(&page, &measured))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
