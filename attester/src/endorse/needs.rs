//! What a report of ours says of the key that signed it, and so of the endorsements that it needs. Nothing here is verified: it only
//! decides what to ask for.

use crate::kds::Resource;
use ratls::endorsement::VekKind;
use ratls::evidence::snp::{Report, SigningKey, TcbKind};
use ratls::tcb::{Product, TcbLayout};

/// The kind of key.
pub(super) fn kind(report: &Report) -> VekKind {
    match report.signing_key() {
        SigningKey::Vlek => VekKind::Vlek,
        // A report that nobody signed is refused by the verifier, whatever is fetched for it.
        SigningKey::Vcek | SigningKey::None => VekKind::Vcek,
    }
}

/// Products that the report may be of. Version 2 does not say: Turin shows by its short chip id, the other two only by which of them
/// AMD has a key of.
pub(super) fn products(report: &Report) -> Vec<Product> {
    let short_id = report.chip_id().as_bytes()[8..].iter().all(|byte| *byte == 0);
    match (report.cpuid(), report.product_from_cpuid()) {
        (_, Some(product)) => vec![product],
        (Some(_), None) => Vec::new(),
        (None, None) if short_id && !report.chip_id().is_zero() => vec![Product::Turin],
        (None, None) => vec![Product::Milan, Product::Genoa],
    }
}

/// What of AMD's service could vouch for the report, in the order in which it is asked for.
pub(super) fn needed(report: &Report) -> impl Iterator<Item = Resource> + '_ {
    products(report).into_iter().flat_map(|product| needed_for(report, product))
}

pub(super) fn needed_for(report: &Report, product: Product) -> Vec<Resource> {
    let kind = kind(report);
    let mut needed = vec![Resource::Chain { kind, product }];
    if kind == VekKind::Vcek {
        // The key is derived for the *reported* TCB, whatever the others say.
        let tcb = report.tcb(TcbKind::Reported, product.layout());
        needed.push(Resource::Vcek { product, chip_id: *report.chip_id(), tcb });
    }
    needed
}

/// What decides which endorsements fit.
#[derive(PartialEq, Eq)]
pub(super) struct KeyAndTcb(Option<(VekKind, u64, Vec<u8>)>);

impl KeyAndTcb {
    pub(super) fn of(report: &[u8]) -> Self {
        let parsed = Report::parse(report).ok();
        KeyAndTcb(parsed.map(|report| {
            // Only compared with itself, so any layout does.
            let tcb = report.tcb(TcbKind::Reported, TcbLayout::MilanGenoa).raw();
            (kind(&report), tcb, report.chip_id().as_bytes().to_vec())
        }))
    }
}
