//! The decision table and the cap (docs/levels.md).
//!
//! Per claim the first row that applies gives a [`Ground`]; a ground that is worth level 3 or 4 holds the proof. From the
//! firmware upwards each component then takes the best of its claims, each held down to what measured it.

use super::claim::{Claim, Cover, Inputs, Matched, Provenance, RootState, parts};
use crate::policy::{Component, Level, View};
use measure::reference::{BinaryProof, SourceProof};
use verify::Root;

/// A root's own row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Row {
    Ok,
    Failed,
    /// The platform has no such root.
    Absent,
}

/// The row of the decision table that a claim fell under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// No claim at all.
    Nothing,
    /// Some root was refused outright, so nothing counts.
    Refused,
    Contradicted,
    NotAuthentic(Root),
    Stale(Root),
    NoLink,
    NotMeasured,
    Partial,
    NothingCompared,
    Signer(String),
    Digest(Provenance),
    Binary(BinaryProof),
    Source(SourceProof),
}

/// One component of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    component: Component,
    ground: Ground,
    anchor: Option<Root>,
    cap: Option<(Component, Level)>,
    notes: Vec<String>,
    why: String,
}

/// Two records of one component that cannot both be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    pub component: Component,
    pub what: &'static str,
    pub first: (Root, String),
    pub second: (Root, String),
}

/// The table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    view: View,
    amd_sp: Row,
    vtpm: Row,
    cells: [Cell; 4],
    contradictions: Vec<Contradiction>,
}

/// Fills the table.
pub fn judge(inputs: &Inputs, view: View) -> Levels {
    let contradictions = contradictions(inputs);
    let refused = !inputs.amd_sp.fatal.is_empty() || inputs.vtpm.as_ref().is_some_and(|root| !root.fatal.is_empty());
    let mut below: Vec<Cell> = Vec::with_capacity(Component::ALL.len());
    for component in Component::ALL {
        let cell = if refused {
            Cell::of_nothing(component, Ground::Refused)
        } else if !contradictions.is_empty() {
            Cell::of_nothing(component, Ground::Contradicted)
        } else {
            let claims = inputs.claims.iter().filter(|claim| claim.component == component);
            let best = claims.map(|claim| Cell::of_claim(claim, inputs, view, &below)).reduce(Cell::better);
            best.unwrap_or_else(|| Cell::of_nothing(component, Ground::Nothing))
        };
        below.push(cell.explained(inputs));
    }
    Levels {
        view,
        amd_sp: match &inputs.amd_sp {
            root if root.holds() => Row::Ok,
            root if root.missing => Row::Absent,
            _ => Row::Failed,
        },
        vtpm: match &inputs.vtpm {
            None => Row::Absent,
            Some(root) if root.holds() => Row::Ok,
            Some(_) => Row::Failed,
        },
        cells: below.try_into().expect("one cell for each component"),
        contradictions,
    }
}

/// The decision table (docs/levels.md, "Levels"): the first row that applies. The AMD-SP must hold too where the link leads to it.
fn ground(claim: &Claim, inputs: &Inputs) -> (Ground, Option<Root>) {
    let mut roots = vec![claim.root];
    if claim.link.anchor() == Some(Root::AmdSp) && claim.root != Root::AmdSp {
        roots.push(Root::AmdSp);
    }
    let fails = |test: fn(&RootState) -> bool| roots.iter().copied().find(|root| !inputs.root(*root).is_some_and(test));
    if let Some(root) = fails(|root| root.authentic) {
        return (Ground::NotAuthentic(root), None);
    }
    if let Some(root) = fails(|root| root.fresh && root.bound) {
        return (Ground::Stale(root), None);
    }
    let Some(anchor) = claim.link.anchor() else { return (Ground::NoLink, None) };
    let ground = match (claim.cover, &claim.matched) {
        (Cover::None, _) => return (Ground::NotMeasured, None),
        (Cover::Partial, _) => Ground::Partial,
        (Cover::PolicyBounded | Cover::Full, matched) => match matched {
            Matched::Nothing => Ground::NothingCompared,
            Matched::Signer(who) => Ground::Signer(who.clone()),
            Matched::Digest(provenance) => Ground::Digest(*provenance),
            // A proof about other parts than the component's is a digest that matched, and no more.
            Matched::Binary(proof) if speaks_for(claim.component, |part| proof.covers(part)) => {
                Ground::Binary(proof.clone())
            }
            Matched::Source(proof) if speaks_for(claim.component, |part| proof.covers(part)) => {
                Ground::Source(proof.clone())
            }
            Matched::Source(proof) if speaks_for(claim.component, |part| proof.binary().covers(part)) => {
                Ground::Binary(proof.binary().clone())
            }
            Matched::Binary(_) | Matched::Source(_) => Ground::Digest(Provenance::Own),
        },
    };
    (ground, Some(anchor))
}

fn speaks_for(component: Component, covers: impl Fn(measure::reference::Part) -> bool) -> bool {
    parts(component).iter().any(|part| covers(*part))
}

/// Claims about one component that say different things under one name. Only what a root signed can contradict.
fn contradictions(inputs: &Inputs) -> Vec<Contradiction> {
    let counts = |claim: &&Claim| {
        let root = inputs.root(claim.root);
        claim.link.anchor().is_some() && root.is_some_and(|root| root.authentic && root.fatal.is_empty())
    };
    let claims: Vec<&Claim> = inputs.claims.iter().filter(counts).collect();
    let mut found = Vec::new();
    for (i, first) in claims.iter().enumerate() {
        for second in claims.iter().skip(i + 1).filter(|second| second.component == first.component) {
            for one in &first.says {
                for other in second.says.iter().filter(|other| other.what == one.what && other.value != one.value) {
                    found.push(Contradiction {
                        component: first.component,
                        what: one.what,
                        first: (first.root, one.value.clone()),
                        second: (second.root, other.value.clone()),
                    });
                }
            }
        }
    }
    found
}

impl Ground {
    fn level(&self) -> Level {
        match self {
            Ground::Nothing
            | Ground::Refused
            | Ground::Contradicted
            | Ground::NotAuthentic(_)
            | Ground::Stale(_)
            | Ground::NoLink
            | Ground::NotMeasured => Level::L0,
            Ground::Partial | Ground::NothingCompared | Ground::Signer(_) => Level::L1,
            Ground::Digest(_) => Level::L2,
            Ground::Binary(_) => Level::L3,
            Ground::Source(_) => Level::L4,
        }
    }
}

impl Cell {
    fn of_nothing(component: Component, ground: Ground) -> Cell {
        Cell { component, ground, anchor: None, cap: None, notes: Vec::new(), why: String::new() }
    }

    fn of_claim(claim: &Claim, inputs: &Inputs, view: View, below: &[Cell]) -> Cell {
        let (ground, anchor) = ground(claim, inputs);
        let mut cell = Cell { anchor, notes: claim.notes.clone(), ..Cell::of_nothing(claim.component, ground) };
        for measurer in &claim.measured_by {
            // One that stands no lower in the table measured nothing before this component ran.
            let level = match below.iter().find(|cell| cell.component == *measurer) {
                Some(measurer) if view == View::Relaxed && cell.exempt_from(measurer) => continue,
                Some(measurer) => measurer.level(),
                None => Level::L0,
            };
            if level < cell.level() {
                cell.cap = Some((*measurer, level));
            }
        }
        cell
    }

    /// The relaxed view: firmware that the vTPM does not speak for holds nothing down that the vTPM says.
    fn exempt_from(&self, measurer: &Cell) -> bool {
        self.anchor == Some(Root::Vtpm)
            && measurer.component == Component::Firmware
            && measurer.anchor() != Some(Root::Vtpm)
    }

    /// The higher level; on a tie what the AMD-SP signed, then the first.
    fn better(self, other: Cell) -> Cell {
        let rank = |cell: &Cell| (cell.level(), cell.anchor() == Some(Root::AmdSp), cell.ground.level());
        if rank(&other) > rank(&self) { other } else { self }
    }

    fn explained(mut self, inputs: &Inputs) -> Cell {
        self.why = super::why::sentence(&self, inputs);
        self
    }

    pub fn component(&self) -> Component {
        self.component
    }

    /// The level that is shown and that policies ask for.
    pub fn level(&self) -> Level {
        self.cap.map_or(Level::L4, |(_, level)| level).min(self.ground.level())
    }

    /// The level that the comparison alone is worth, before what measured it holds it down.
    pub fn own_level(&self) -> Level {
        self.ground.level()
    }

    /// The root that the level comes down to; none at level 0.
    pub fn anchor(&self) -> Option<Root> {
        if self.level() == Level::L0 { None } else { self.anchor }
    }

    /// What holds it below its own level.
    pub fn held_down_by(&self) -> Option<(Component, Level)> {
        self.cap
    }

    /// The reason and what would raise it, for people. Text of the peer can be in it: escape it.
    pub fn why(&self) -> &str {
        &self.why
    }

    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The files that were in hand; `Some` wherever the level is above 2.
    pub fn proof(&self) -> Option<&BinaryProof> {
        match &self.ground {
            Ground::Binary(proof) => Some(proof),
            Ground::Source(proof) => Some(proof.binary()),
            _ => None,
        }
    }

    /// The rebuilds; `Some` wherever the level is above 3.
    pub fn source(&self) -> Option<&SourceProof> {
        match &self.ground {
            Ground::Source(proof) => Some(proof),
            _ => None,
        }
    }

    /// Its digest equals one that was seen once, and that nobody has compared with what it should be.
    pub fn is_learned(&self) -> bool {
        matches!(self.ground(), Ground::Digest(Provenance::Learned))
    }
    pub(super) fn ground(&self) -> &Ground {
        &self.ground
    }
}

impl Levels {
    pub fn view(&self) -> View {
        self.view
    }
    pub fn amd_sp(&self) -> Row {
        self.amd_sp
    }
    pub fn vtpm(&self) -> Row {
        self.vtpm
    }
    /// Firmware, boot, kernel, userspace.
    pub fn cells(&self) -> &[Cell; 4] {
        &self.cells
    }
    pub fn cell(&self, component: Component) -> &Cell {
        let [firmware, boot, kernel, userspace] = &self.cells;
        match component {
            Component::Firmware => firmware,
            Component::Boot => boot,
            Component::Kernel => kernel,
            Component::Userspace => userspace,
        }
    }
    /// Each is fatal (X_CONTRADICT).
    pub fn contradictions(&self) -> &[Contradiction] {
        &self.contradictions
    }
}

impl Row {
    pub const fn as_str(self) -> &'static str {
        match self {
            Row::Ok => "ok",
            Row::Failed => "failed",
            Row::Absent => "absent",
        }
    }
}
