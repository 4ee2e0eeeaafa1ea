//! The thread of the device: leaves in, evidence out. Everything that takes long happens here and not on the runtime.

use crate::batcher::{BatchEvidence, StatementContext};
use crate::device::{DeviceError, DeviceReport, ReportDevice};
use ratls::binding::{LeafHash, Purpose, Statement, Tree, binder};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// One request of the device.
pub(super) struct Job {
    pub(super) purpose: Purpose,
    /// 1 to `MAX_LEAVES`.
    pub(super) leaves: Vec<LeafHash>,
    pub(super) reply: oneshot::Sender<Done>,
}

pub(super) struct Done {
    pub(super) result: Result<Arc<BatchEvidence>, DeviceError>,
    /// When the device was asked.
    pub(super) asked: Instant,
    /// Time that the device took, without hashing.
    pub(super) took: Duration,
}

pub(super) struct Worker {
    pub(super) device: Box<dyn ReportDevice>,
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
        let statement = self.statement(purpose, &tree).encode();
        let report_data = binder(&statement);
        let asked = Instant::now();
        let answer = self.device.report(report_data.as_bytes());
        let took = asked.elapsed();
        let result = answer.and_then(|DeviceReport { report, certificates }| {
            // The devices check this too; here it holds for every implementation of the trait.
            let checked = DeviceReport::over(report_data.as_bytes(), report, certificates)?;
            Ok(Arc::new(BatchEvidence { statement, report: checked.report, certificates: checked.certificates, tree }))
        });
        Done { result, asked, took }
    }

    fn statement(&self, purpose: Purpose, tree: &Tree) -> Statement {
        let StatementContext { profile, spki, epoch, config, names, upstream_scope, unix_ms } = &self.context;
        Statement {
            profile: *profile,
            purpose,
            root: tree.root(),
            n: tree.n(),
            spki: *spki,
            epoch: *epoch,
            counter: self.counter,
            ak: None,
            logs: Vec::new(),
            config: *config,
            names: names.clone(),
            time_ms: unix_ms(),
            upstream_scope: *upstream_scope,
        }
    }
}
