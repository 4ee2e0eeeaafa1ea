//! How a key, a register or a log hangs on a root of trust. Said by verification, used by the levels of appraisal.

/// Whose signature a claim comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// The report that the AMD-SP signed.
    AmdSp,
    /// What a vTPM signed, whoever vouches for the vTPM.
    Vtpm,
}

/// The link from a component to the AMD-SP, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// The bytes are inside the launch measurement.
    Direct,
    /// Measured code refuses anything whose hash is not in the launch measurement.
    VerifiedByMeasured,
    /// A report of VMPL 0 carries the key's hash, and the guest's system runs at another VMPL and cannot get such a report.
    FirmwareAsserted,
    /// The cloud's certificate or signature vouches.
    VendorPki,
    /// The guest's own system wrote the hash into REPORT_DATA. It is the very party that the registers are to reveal, so
    /// this is never a link, however often it is taken for one.
    GuestAsserted,
    None,
}

impl Root {
    pub const fn as_str(self) -> &'static str {
        match self {
            Root::AmdSp => "amd-sp",
            Root::Vtpm => "vtpm",
        }
    }
}

impl Link {
    /// The root that a claim over this link may be shown under; `None` where the link proves nothing.
    pub const fn anchor(self) -> Option<Root> {
        match self {
            Link::Direct | Link::VerifiedByMeasured | Link::FirmwareAsserted => Some(Root::AmdSp),
            Link::VendorPki => Some(Root::Vtpm),
            Link::GuestAsserted | Link::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_says_of_itself_anchors_nothing() {
        assert_eq!(Link::GuestAsserted.anchor(), None);
        assert_eq!(Link::None.anchor(), None);
        assert_eq!(Link::VendorPki.anchor(), Some(Root::Vtpm));
        for link in [Link::Direct, Link::VerifiedByMeasured, Link::FirmwareAsserted] {
            assert_eq!(link.anchor(), Some(Root::AmdSp));
        }
    }
}
