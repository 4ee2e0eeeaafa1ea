//! The `[levels]` table: how well each part of the guest must be verified, and under which root.
//!
//! The words of the trust table stand here, below appraisal, because a policy asks for them. A component that is left out asks
//! nothing; the table itself may not be empty.

use super::document::{Entry, Section};
use super::error::{PolicyError, PolicyProblem};
use verify::Root;

/// A row of the table below the roots, in the order in which one starts the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// OVMF, and what runs at VMPL 0 (HCL, SVSM).
    Firmware,
    /// Everything between firmware and kernel: loader, stub, initrd, command line.
    Boot,
    Kernel,
    Userspace,
}

/// How well a component is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing that a root of trust signed carries it.
    L0,
    /// A root carries its measurement, which was compared with nothing.
    L1,
    /// The measurement equals a reference digest.
    L2,
    /// The digest was recomputed from files in hand.
    L3,
    /// And those files were rebuilt from source.
    L4,
}

/// Whether what a vTPM says is held down by the firmware that the AMD-SP measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// A component is verified no better than what measured it, over all roots.
    Strict,
    /// Who trusts the cloud's vTPM trusts its firmware too: rows under the vTPM are not held down by firmware under the
    /// AMD-SP. Asked for, and shown as what it is.
    Relaxed,
}

/// `kernel = "L2 amd-sp"`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelRule {
    pub component: Component,
    /// This or above.
    pub level: Level,
    /// Where given, no other will do.
    pub anchor: Option<Root>,
}

/// What the policy asks of the table.
#[derive(Clone, Debug)]
pub struct LevelRules {
    pub(crate) view: View,
    pub(crate) wanted: Vec<LevelRule>,
}

impl Component {
    /// In the order in which each starts the next.
    pub const ALL: [Component; 4] = [Component::Firmware, Component::Boot, Component::Kernel, Component::Userspace];

    /// The key in JSON and in a policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Component::Firmware => "firmware",
            Component::Boot => "boot",
            Component::Kernel => "kernel",
            Component::Userspace => "userspace",
        }
    }
}

impl Level {
    pub const ALL: [Level; 5] = [Level::L0, Level::L1, Level::L2, Level::L3, Level::L4];

    pub const fn number(self) -> u8 {
        match self {
            Level::L0 => 0,
            Level::L1 => 1,
            Level::L2 => 2,
            Level::L3 => 3,
            Level::L4 => 4,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Level::L0 => "L0",
            Level::L1 => "L1",
            Level::L2 => "L2",
            Level::L3 => "L3",
            Level::L4 => "L4",
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl View {
    pub const fn as_str(self) -> &'static str {
        match self {
            View::Strict => "strict",
            View::Relaxed => "relaxed",
        }
    }
}

impl std::fmt::Display for LevelRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.level.as_str())?;
        match self.anchor {
            Some(root) => write!(f, " {}", root.as_str()),
            None => Ok(()),
        }
    }
}

/// Without the table the policy asks nothing of levels.
pub(super) fn parse(root: &mut Section<'_>) -> Result<LevelRules, PolicyError> {
    let Some(entry) = root.optional("levels") else {
        return Ok(LevelRules { view: View::Strict, wanted: Vec::new() });
    };
    let mut table = entry.section(&["view", "firmware", "boot", "kernel", "userspace"])?;
    let view = table
        .optional("view")
        .map_or(Ok(View::Strict), |e| e.word(&[("strict", View::Strict), ("relaxed", View::Relaxed)]))?;
    let mut wanted = Vec::new();
    for component in Component::ALL {
        if let Some(entry) = table.optional(component.as_str()) {
            wanted.push(rule(component, &entry)?);
        }
    }
    table.finish()?;
    if wanted.is_empty() {
        let wanted = "at least one of firmware, boot, kernel, userspace, such as firmware = \"L3\"";
        return Err(entry.error(PolicyProblem::Missing { wanted }));
    }
    Ok(LevelRules { view, wanted })
}

/// `L3`, `L3 amd-sp` or `L3 vtpm`; never L0, which every guest has.
fn rule(component: Component, entry: &Entry<'_>) -> Result<LevelRule, PolicyError> {
    let text = entry.text()?;
    let (level, anchor) = match text.split_once(' ') {
        Some((level, anchor)) => (level, Some(anchor)),
        None => (text, None),
    };
    let level = Level::ALL.into_iter().find(|known| *known > Level::L0 && known.as_str() == level);
    let anchor = match anchor {
        None => Some(None),
        Some(name) => [Root::AmdSp, Root::Vtpm].into_iter().find(|root| root.as_str() == name).map(Some),
    };
    match (level, anchor) {
        (Some(level), Some(anchor)) => Ok(LevelRule { component, level, anchor }),
        _ => Err(entry.value_error(text, "L1, L2, L3 or L4, alone or with a root: \"L3\", \"L2 amd-sp\", \"L2 vtpm\"")),
    }
}
