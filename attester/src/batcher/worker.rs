//! The thread of the device: leaves in, evidence out. Everything that takes long happens here and not on the runtime.

use crate::batcher::{BatchEvidence, StatementContext};
use crate::device::DeviceError;
use crate::platform::{Boot, Platform};
use ratls::binding::statement::LogDigest;
use ratls::binding::{LeafHash, Purpose, Statement, Tree, binder};
use ratls::crypto::sha256;
use ratls::wire::attest::PartInfo;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// One request of the platform.
pub(super) struct Job {
    pub(super) purpose: Purpose,
    /// 1 to `MAX_LEAVES`.
    pub(super) leaves: Vec<LeafHash>,
    pub(super) reply: oneshot::Sender<Done>,
}

pub(super) struct Done {
    pub(super) result: Result<Arc<BatchEvidence>, DeviceError>,
    /// When the platform was asked.
    pub(super) asked: Instant,
    /// Time that the platform took, without hashing.
    pub(super) took: Duration,
}

pub(super) struct Worker {
    pub(super) platform: Box<dyn Platform>,
    pub(super) context: StatementContext,
    /// Of the last statement; every request has a higher one, whether it succeeds or not.
    pub(super) counter: u64,
}

impl Worker {
    /// Ends when the batcher drops its end of the channel.
    pub(super) fn run(mut self, jobs: mpsc::Receiver<Job>) {
        for job in jobs {
            let done = self.answer(job.purpose, &job.leaves);
            // Nobody is there when the batcher was dropped meanwhile.
            let _ = job.reply.send(done);
        }
    }

    fn answer(&mut self, purpose: Purpose, leaves: &[LeafHash]) -> Done {
        let tree = Tree::build(leaves).expect("the queue gives 1 to MAX_LEAVES leaves");
        self.counter += 1;
        let boot = self.platform.boot();
        let statement = self.statement(purpose, &tree, &boot).encode();
        let asked = Instant::now();
        let answer = self.platform.gather(&binder(&statement));
        let took = asked.elapsed();
        let result = answer.map(|gathered| Arc::new(BatchEvidence { statement, gathered, boot, tree }));
        Done { result, asked, took }
    }

    fn statement(&self, purpose: Purpose, tree: &Tree, boot: &Boot) -> Statement {
        let StatementContext { spki, epoch, config, names, upstream_scope, unix_ms } = &self.context;
        Statement {
            profile: self.platform.profile(),
            purpose,
            root: tree.root(),
            n: tree.n(),
            spki: *spki,
            epoch: *epoch,
            counter: self.counter,
            ak: boot.ak.as_ref().map(|public| sha256(&[public])),
            logs: boot.event_log.iter().map(|log| log_digest(log.info())).collect(),
            config: *config,
            names: names.clone(),
            time_ms: unix_ms(),
            upstream_scope: *upstream_scope,
        }
    }
}

/// A log as the statement commits to it, under the name of the part that carries it.
fn log_digest(part: &PartInfo) -> LogDigest {
    LogDigest { name: part.name.clone(), length: part.length.into(), digest: part.digest }
}
