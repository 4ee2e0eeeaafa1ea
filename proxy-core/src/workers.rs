//! One thread per core, each with a runtime of its own, between which connections are divided.
//!
//! A connection lives and dies on one of them: its sockets wake no other thread, and nothing is stolen in the middle of a
//! stream. A new one goes to the thread that has the fewest. What waits in a pool may be taken up by another thread; it then
//! moves there ([`LocalStream::move_here`](crate::net::LocalStream::move_here)).
//!
//! Against one runtime of as many threads (docs/performance.md): fewer instructions for each request, and shorter tails.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(0) };
}

/// Which of the threads this is; 0 on any other.
pub fn number() -> u32 {
    NUMBER.get()
}

struct Worker {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

/// The threads. They end, and drop what is left on them, when the last clone is dropped.
#[derive(Clone)]
pub struct Workers {
    all: Arc<[Worker]>,
    _running: Arc<watch::Sender<()>>,
}

/// A connection's place on a thread, which counts as long as this lives.
pub struct Place {
    pub(crate) runtime: Handle,
    connections: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// As many as there are cores for this process.
    pub fn start() -> io::Result<Workers> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let running = watch::Sender::new(());
        let all = (1..=u32::try_from(cores).unwrap_or(1)).map(|number| worker(number, running.subscribe()));
        Ok(Workers { all: all.collect::<io::Result<_>>()?, _running: Arc::new(running) })
    }

    /// On the thread that has the fewest connections.
    pub(crate) fn place(&self) -> Option<Place> {
        let least = self.all.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed))?;
        least.connections.fetch_add(1, Ordering::Relaxed);
        Some(Place { runtime: least.runtime.clone(), connections: least.connections.clone() })
    }
}

fn worker(number: u32, mut running: watch::Receiver<()>) -> io::Result<Worker> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        NUMBER.set(number);
        // Ends with an error when the last `Workers` is gone, which is the sign to end.
        let _ = runtime.block_on(running.changed());
    })?;
    Ok(Worker { runtime: handle, connections: Arc::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_divided_and_threads_end_with_the_last_owner() {
        let workers = Workers::start().unwrap();
        let cores = workers.all.len();
        let places: Vec<Place> = (0..3 * cores).map(|_| workers.place().unwrap()).collect();
        assert!(workers.all.iter().all(|worker| worker.connections.load(Ordering::Relaxed) == 3));
        let (told, hears) = std::sync::mpsc::channel();
        for place in &places {
            let told = told.clone();
            place.runtime.spawn(async move { told.send(number()).unwrap() });
        }
        let mut seen: Vec<u32> = hears.iter().take(places.len()).collect();
        seen.sort_unstable();
        let wanted: Vec<u32> = (1..=u32::try_from(cores).unwrap()).flat_map(|number| [number; 3]).collect();
        assert_eq!(seen, wanted);
        drop(places);
        assert!(workers.all.iter().all(|worker| worker.connections.load(Ordering::Relaxed) == 0));

        struct Told(std::sync::mpsc::Sender<u32>);
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.0.send(0);
            }
        }
        let (told, hears) = std::sync::mpsc::channel();
        let held = Told(told);
        workers.all[0].runtime.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(workers);
        assert_eq!(
            hears.recv_timeout(std::time::Duration::from_secs(5)),
            Ok(0),
            "what was left on a thread is dropped"
        );
    }
}
