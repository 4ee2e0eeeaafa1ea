//! The virtual processor: its model, the SEV features it starts with, and how many there are. All three are in the digest.
//!
//! QEMU puts CPUID(1).EAX of the model into each save area (target/i386/sev.c).

use std::fmt;
use std::str::FromStr;

/// Most vCPUs of one guest. QEMU's q35 ends at 4096 and KVM at as many; clouds at a few hundred.
pub const MAX_VCPUS: u32 = 4096;

/// CPUID(1).EAX of a virtual processor model: family, model and stepping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuSignature(u32);

/// QEMU's names, its versions of them left out: they differ in features, not in the signature.
const MODELS: &[(&str, VcpuSignature)] = &[
    ("EPYC", VcpuSignature::of_model(23, 1, 2)),
    ("EPYC-Rome", VcpuSignature::of_model(23, 49, 0)),
    ("EPYC-Milan", VcpuSignature::of_model(25, 1, 1)),
    ("EPYC-Genoa", VcpuSignature::of_model(25, 17, 0)),
    ("EPYC-Turin", VcpuSignature::of_model(26, 0, 0)),
];

impl VcpuSignature {
    /// One of each model that QEMU has.
    pub const KNOWN: [VcpuSignature; 5] = [MODELS[0].1, MODELS[1].1, MODELS[2].1, MODELS[3].1, MODELS[4].1];

    /// AMD 25481, CPUID Fn0000_0001_EAX: families above 15 go into the extended field.
    pub const fn of_model(family: u8, model: u8, stepping: u8) -> VcpuSignature {
        let (base, extended) = if family > 15 { (15, family - 15) } else { (family, 0) };
        let [stepping, base, extended, low, high] =
            [widen(stepping & 15), widen(base), widen(extended), widen(model & 15), widen(model >> 4)];
        VcpuSignature(extended << 20 | high << 16 | base << 8 | low << 4 | stepping)
    }
    pub const fn from_raw(raw: u32) -> VcpuSignature {
        VcpuSignature(raw)
    }
    pub const fn raw(self) -> u32 {
        self.0
    }
}

const fn widen(byte: u8) -> u32 {
    u32::from_le_bytes([byte, 0, 0, 0])
}

impl fmt::Display for VcpuSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match MODELS.iter().find(|(_, signature)| signature == self) {
            Some((name, _)) => f.pad(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

impl fmt::Debug for VcpuSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VcpuSignature({:#x})", self.0)
    }
}

/// A text that names no processor model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no processor model; known: EPYC, EPYC-Rome, EPYC-Milan, EPYC-Genoa, EPYC-Turin, with or without a version such as -v4, or CPUID(1).EAX as 0x800f12"
)]
pub struct UnknownModel(String);

impl FromStr for VcpuSignature {
    type Err = UnknownModel;

    /// A name of QEMU, with or without its version, in any case; or the signature in hex.
    fn from_str(text: &str) -> Result<VcpuSignature, UnknownModel> {
        let unknown = || UnknownModel(text.chars().take(64).collect());
        if let Some(hex) = text.strip_prefix("0x") {
            let digits = hex.bytes().all(|b| b.is_ascii_hexdigit());
            return u32::from_str_radix(hex, 16)
                .ok()
                .filter(|n| digits && *n != 0)
                .map(VcpuSignature)
                .ok_or_else(unknown);
        }
        let name = match text.rsplit_once('-') {
            Some((name, version)) if is_version(version) || version.eq_ignore_ascii_case("IBPB") => name,
            _ => text,
        };
        let found = MODELS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, signature)| *signature).ok_or_else(unknown)
    }
}

/// `v1` to `v9`.
fn is_version(text: &str) -> bool {
    matches!(text.as_bytes(), [b'v' | b'V', b'1'..=b'9'])
}

/// SEV_FEATURES of the save areas.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestFeatures(u64);

/// AMD APM volume 2, table B-3, offset 0x3B0.
const FEATURES: &[(u32, &str)] = &[
    (0, "SNP"),
    (1, "vTOM"),
    (2, "ReflectVC"),
    (3, "RestrictedInjection"),
    (4, "AlternateInjection"),
    (5, "DebugSwap"),
    (6, "PreventHostIBS"),
    (7, "BTBIsolation"),
    (8, "VmplSSS"),
    (9, "SecureTSC"),
    (10, "VmgexitParameter"),
    (12, "IbsVirtualization"),
    (14, "VmsaRegProt"),
    (15, "SmtProtection"),
];

impl GuestFeatures {
    /// What KVM sets unless it is asked for more.
    pub const SNP: GuestFeatures = GuestFeatures(1);
    /// What hosts with Linux 6.6 and 6.7 set.
    pub const SNP_DEBUG_SWAP: GuestFeatures = GuestFeatures(0x21);

    pub const fn from_raw(raw: u64) -> GuestFeatures {
        GuestFeatures(raw)
    }
    pub const fn raw(self) -> u64 {
        self.0
    }
}

/// A text that is no number in hex.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no set of guest features; write SEV_FEATURES in hex, as 0x1 or 0x21")]
pub struct BadFeatures(String);

impl FromStr for GuestFeatures {
    type Err = BadFeatures;

    /// Hex, with or without `0x`.
    fn from_str(text: &str) -> Result<GuestFeatures, BadFeatures> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let raw = hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten();
        raw.map(GuestFeatures).ok_or_else(|| BadFeatures(text.chars().take(64).collect()))
    }
}

impl fmt::Display for GuestFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)?;
        let names: Vec<_> = FEATURES.iter().filter(|(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| *name).collect();
        if names.is_empty() { Ok(()) } else { write!(f, " ({})", names.join(", ")) }
    }
}

impl fmt::Debug for GuestFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestFeatures({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_the_same_signature_under_all_its_names() {
        for name in ["EPYC", "epyc", "EPYC-v4", "EPYC-v1", "EPYC-IBPB", "0x800f12"] {
            assert_eq!(name.parse(), Ok(VcpuSignature(0x0080_0F12)), "{name}");
        }
        assert_eq!("EPYC-Genoa-v1".parse(), Ok(VcpuSignature::of_model(25, 17, 0)));
        assert_eq!(VcpuSignature::of_model(25, 17, 0).raw(), 0x00A1_0F10);
        for name in ["", "EPYC-", "EPYC-v", "EPYC-v44", "Opteron", "0x", "0x0", "0x+1", "0x1800f120000"] {
            assert!(name.parse::<VcpuSignature>().is_err(), "{name}");
        }
        assert_eq!(VcpuSignature::of_model(25, 1, 1).to_string(), "EPYC-Milan");
        assert_eq!(VcpuSignature(1).to_string(), "0x1");
    }

    #[test]
    fn features_are_shown_with_their_names() {
        assert_eq!(GuestFeatures::SNP_DEBUG_SWAP.to_string(), "0x21 (SNP, DebugSwap)");
        assert_eq!(GuestFeatures(0).to_string(), "0x0");
        assert_eq!("0x21".parse(), Ok(GuestFeatures::SNP_DEBUG_SWAP));
        assert_eq!("21".parse(), Ok(GuestFeatures::SNP_DEBUG_SWAP));
        for text in ["", "0x", "-1", "+1", "g", "0x10000000000000000"] {
            assert!(text.parse::<GuestFeatures>().is_err(), "{text}");
        }
    }
}
