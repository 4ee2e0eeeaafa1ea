//! Processor lines: the parts that AMD publishes security versions for, told apart by family, model and stepping.
//!
//! Microcode versions are per stepping, so a number that proves a fix on one line proves nothing on another. A stepping
//! that is on no line (early silicon, or newer than the table) has no row at all.

use formats::evidence::snp::Cpuid;
use formats::tcb::Product;

/// A part with security versions of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessorLine {
    MilanB1,
    MilanXB2,
    GenoaB1,
    GenoaXB2,
    /// Bergamo and Siena.
    #[serde(rename = "zen4c-a2")]
    Zen4cA2,
    TurinC1,
    TurinDenseB0,
}

impl ProcessorLine {
    pub const ALL: [ProcessorLine; 7] = [
        ProcessorLine::MilanB1,
        ProcessorLine::MilanXB2,
        ProcessorLine::GenoaB1,
        ProcessorLine::GenoaXB2,
        ProcessorLine::Zen4cA2,
        ProcessorLine::TurinC1,
        ProcessorLine::TurinDenseB0,
    ];

    /// Returns family, model and stepping, as CPUID Fn0000_0001 has them with the extended fields combined.
    pub const fn cpuid(self) -> Cpuid {
        let (family, model, stepping) = match self {
            ProcessorLine::MilanB1 => (0x19, 0x01, 1),
            ProcessorLine::MilanXB2 => (0x19, 0x01, 2),
            ProcessorLine::GenoaB1 => (0x19, 0x11, 1),
            ProcessorLine::GenoaXB2 => (0x19, 0x11, 2),
            ProcessorLine::Zen4cA2 => (0x19, 0xA0, 2),
            ProcessorLine::TurinC1 => (0x1A, 0x02, 1),
            ProcessorLine::TurinDenseB0 => (0x1A, 0x11, 0),
        };
        Cpuid { family, model, stepping }
    }

    /// Returns the line of exactly this part.
    pub fn from_cpuid(cpuid: Cpuid) -> Option<ProcessorLine> {
        ProcessorLine::ALL.into_iter().find(|line| line.cpuid() == cpuid)
    }

    pub const fn product(self) -> Product {
        match self {
            ProcessorLine::MilanB1 | ProcessorLine::MilanXB2 => Product::Milan,
            ProcessorLine::GenoaB1 | ProcessorLine::GenoaXB2 | ProcessorLine::Zen4cA2 => Product::Genoa,
            ProcessorLine::TurinC1 | ProcessorLine::TurinDenseB0 => Product::Turin,
        }
    }

    /// Returns the name as AMD's bulletins write it.
    pub const fn name(self) -> &'static str {
        match self {
            ProcessorLine::MilanB1 => "Milan B1",
            ProcessorLine::MilanXB2 => "Milan-X B2",
            ProcessorLine::GenoaB1 => "Genoa B1",
            ProcessorLine::GenoaXB2 => "Genoa-X B2",
            ProcessorLine::Zen4cA2 => "Bergamo/Siena A2",
            ProcessorLine::TurinC1 => "Turin C1",
            ProcessorLine::TurinDenseB0 => "Turin Dense B0",
        }
    }
}

impl std::fmt::Display for ProcessorLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_exactly_one_stepping_of_its_product() {
        for line in ProcessorLine::ALL {
            assert_eq!(ProcessorLine::from_cpuid(line.cpuid()), Some(line));
            assert_eq!(line.cpuid().product(), Some(line.product()));
        }
        for (family, model, stepping) in [(0x19, 0x01, 0), (0x19, 0xA0, 1), (0x1A, 0x02, 2), (0x1A, 0x50, 0)] {
            assert_eq!(ProcessorLine::from_cpuid(Cpuid { family, model, stepping }), None);
        }
    }
}
