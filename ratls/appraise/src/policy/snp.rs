//! The `[snp]` table: what is accepted of an SEV-SNP report (AMD 56860).
//!
//! Mandatory: measurements, signing keys, and a floor for the TCB of at least one product. Everything else has the strict
//! answer as its default, so a key that is left out never accepts more. There is no key for DEBUG: it is never accepted.

use super::cloud::CloudRules;
use super::document::{Entry, Section};
use super::error::{PolicyError, PolicyProblem};
use super::identity::{IdentityRule, svn};
use super::reference::References;
use formats::evidence::snp::{HostData, Measurement};
use formats::tcb::{Product, TcbVersion};

/// What a report must say to be accepted.
#[derive(Debug)]
pub struct SnpRules {
    pub(crate) measurements: Vec<Measurement>,
    /// Said explicitly: whatever the pinned key of the ID block signed may run.
    pub(crate) signer_suffices: bool,
    pub(crate) signing_keys: Vec<AcceptedKey>,
    /// cspID values of a VLEK; empty exactly where no VLEK is accepted.
    pub(crate) csp: Vec<String>,
    /// Tested against reported and committed TCB.
    pub(crate) minimum_tcb: TcbFloors,
    /// In addition to `minimum_tcb`, where given.
    pub(crate) minimum_committed_tcb: TcbFloors,
    pub(crate) minimum_launch_tcb: TcbFloors,
    pub(crate) distrust_products: Vec<Product>,
    pub(crate) vmpl: u32,
    /// Empty where the policy names none: the host chooses this field and it proves nothing by being there.
    pub(crate) host_data: Vec<HostData>,
    pub(crate) min_guest_svn: u32,
    pub(crate) smt: Permission,
    pub(crate) cxl: Permission,
    pub(crate) migrate_ma: MigrateMa,
    pub(crate) minimum_abi: Option<AbiVersion>,
    pub(crate) require_policy: Vec<Bit>,
    pub(crate) require_platform_info: Vec<Bit>,
    pub(crate) mitigations: Mitigations,
}

/// Kind of key that may sign the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedKey {
    Vcek,
    Vlek,
}

/// A permission bit of the guest policy: may the host do this?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    Refuse,
    Allow,
}

/// Whether a guest policy with MIGRATE_MA is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrateMa {
    Refuse,
    /// Only where the report says that no migration agent is associated.
    AllowUnused,
}

/// Minimum ABI of the guest policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbiVersion {
    pub(crate) major: u8,
    pub(crate) minor: u8,
}

impl std::fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A bit that must be set, with its name in policy files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bit {
    pub(crate) name: &'static str,
    pub(crate) mask: u64,
}

/// Bits that must be set in the mitigation vectors; zero asks nothing.
#[derive(Clone, Copy, Debug)]
pub struct Mitigations {
    pub(crate) launch: u64,
    pub(crate) current: u64,
}

/// A floor per product; a product without one has none.
#[derive(Debug)]
pub struct TcbFloors(Vec<(Product, TcbVersion)>);

impl TcbFloors {
    pub(crate) fn floor(&self, product: Product) -> Option<&TcbVersion> {
        self.0.iter().find(|(p, _)| *p == product).map(|(_, floor)| floor)
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Restrictions of the guest policy (AMD 56860, table Guest Policy).
const POLICY_BITS: &[(&str, Bit)] = &[
    ("single-socket", Bit { name: "single-socket", mask: 1 << 20 }),
    ("mem-aes-256-xts", Bit { name: "mem-aes-256-xts", mask: 1 << 22 }),
    ("rapl-disabled", Bit { name: "rapl-disabled", mask: 1 << 23 }),
    ("ciphertext-hiding", Bit { name: "ciphertext-hiding", mask: 1 << 24 }),
    ("page-swap-disabled", Bit { name: "page-swap-disabled", mask: 1 << 25 }),
];

/// Properties of the platform (AMD 56860, PLATFORM_INFO). SMT is not among them: it is refused, never required.
const PLATFORM_BITS: &[(&str, Bit)] = &[
    ("tsme", Bit { name: "tsme", mask: 1 << 1 }),
    ("ecc", Bit { name: "ecc", mask: 1 << 2 }),
    ("rapl-disabled", Bit { name: "rapl-disabled", mask: 1 << 3 }),
    ("ciphertext-hiding", Bit { name: "ciphertext-hiding", mask: 1 << 4 }),
    ("alias-check-complete", Bit { name: "alias-check-complete", mask: 1 << 5 }),
    ("tio", Bit { name: "tio", mask: 1 << 7 }),
];

const PRODUCTS: &[(&str, Product)] = &[("milan", Product::Milan), ("genoa", Product::Genoa), ("turin", Product::Turin)];

const PERMISSIONS: &[(&str, Permission)] = &[("refuse", Permission::Refuse), ("allow", Permission::Allow)];

const KEYS: &[&str] = &[
    "measurements",
    "signing_keys",
    "csp",
    "minimum_tcb",
    "minimum_committed_tcb",
    "minimum_launch_tcb",
    "distrust_products",
    "vmpl",
    "host_data",
    "min_guest_svn",
    "smt",
    "cxl",
    "migrate_ma",
    "minimum_abi",
    "require_policy",
    "require_platform_info",
    "mitigations",
];

/// The words for [`SnpRules::signer_suffices`].
const SIGNER_SUFFICES: &str = "whatever launch_identity signed";

/// What else of a policy may say which launch digests are accepted.
pub(super) struct Elsewhere<'p> {
    pub(super) references: &'p References,
    pub(super) clouds: &'p CloudRules,
    pub(super) identity: &'p IdentityRule,
}

impl Elsewhere<'_> {
    fn endorsed(&self) -> bool {
        self.clouds.gcp.as_ref().is_some_and(|gcp| gcp.endorsement.is_some())
    }

    fn pins_signer(&self) -> bool {
        matches!(self.identity, IdentityRule::All(rules) if rules.launch_identity.is_some())
    }

    /// The list of launch digests, and whether the signer of the ID block is enough.
    fn measurements(&self, table: &mut Section<'_>) -> Result<(Vec<Measurement>, bool), PolicyError> {
        match table.optional("measurements") {
            None if self.references.speaks_of_launches() || self.endorsed() => Ok((Vec::new(), false)),
            None => {
                let wanted = "the launch digests that are accepted, a [[reference]] that gives them, or endorsement_root in [gcp]";
                Err(table.error_at("measurements", PolicyProblem::Missing { wanted }))
            }
            Some(e) if e.is_string() => {
                e.word(&[(SIGNER_SUFFICES, ())])?;
                match self.pins_signer() {
                    true => Ok((Vec::new(), true)),
                    false => Err(e.error(PolicyProblem::Conflict("[identity] pins no launch_identity"))),
                }
            }
            Some(e) => Ok((e.list(|e| e.hex(Measurement::from_hex, Measurement::is_zero))?, false)),
        }
    }
}

pub(super) fn parse(root: &mut Section<'_>, elsewhere: &Elsewhere<'_>) -> Result<SnpRules, PolicyError> {
    let mut table = root.required("snp", "an [snp] table: every platform has a report")?.section(KEYS)?;
    let signing_keys = table
        .required("signing_keys", "[\"vcek\"], [\"vlek\"] or both")?
        .list(|e| e.word(&[("vcek", AcceptedKey::Vcek), ("vlek", AcceptedKey::Vlek)]))?;
    let (measurements, signer_suffices) = elsewhere.measurements(&mut table)?;
    let rules = SnpRules {
        measurements,
        signer_suffices,
        csp: csp(&mut table, &signing_keys)?,
        signing_keys,
        minimum_tcb: minimum_tcb(&mut table)?,
        minimum_committed_tcb: floors(&mut table, "minimum_committed_tcb")?,
        minimum_launch_tcb: floors(&mut table, "minimum_launch_tcb")?,
        distrust_products: optional_list(&mut table, "distrust_products", |e| e.word(PRODUCTS))?,
        vmpl: match table.optional("vmpl") {
            None => 0,
            Some(e) => u32::try_from(e.integer(3)?).expect("at most 3"),
        },
        host_data: optional_list(&mut table, "host_data", |e| e.hex(HostData::from_hex, HostData::is_zero))?,
        min_guest_svn: table.optional("min_guest_svn").map_or(Ok(0), |e| svn(&e))?,
        smt: table.optional("smt").map_or(Ok(Permission::Refuse), |e| e.word(PERMISSIONS))?,
        cxl: table.optional("cxl").map_or(Ok(Permission::Refuse), |e| e.word(PERMISSIONS))?,
        migrate_ma: table.optional("migrate_ma").map_or(Ok(MigrateMa::Refuse), |e| {
            e.word(&[("refuse", MigrateMa::Refuse), ("allow-unused", MigrateMa::AllowUnused)])
        })?,
        minimum_abi: table.optional("minimum_abi").map(|e| abi(&e)).transpose()?,
        require_policy: optional_list(&mut table, "require_policy", |e| e.word(POLICY_BITS))?,
        require_platform_info: optional_list(&mut table, "require_platform_info", |e| e.word(PLATFORM_BITS))?,
        mitigations: mitigations(&mut table)?,
    };
    table.finish()?;
    Ok(rules)
}

fn optional_list<'d, T: PartialEq>(
    table: &mut Section<'d>,
    name: &str,
    read: impl Fn(&Entry<'d>) -> Result<T, PolicyError>,
) -> Result<Vec<T>, PolicyError> {
    table.optional(name).map_or(Ok(Vec::new()), |e| e.list(read))
}

/// A VLEK belongs to a cloud, not to a machine: which clouds must be said, and only where a VLEK is accepted at all.
fn csp(table: &mut Section<'_>, signing_keys: &[AcceptedKey]) -> Result<Vec<String>, PolicyError> {
    let vlek = signing_keys.contains(&AcceptedKey::Vlek);
    match table.optional("csp") {
        None if vlek => {
            let wanted = "the cspID of each cloud whose VLEK is accepted, since signing_keys lists \"vlek\"";
            Err(table.error_at("csp", PolicyProblem::Missing { wanted }))
        }
        None => Ok(Vec::new()),
        Some(entry) if !vlek => {
            Err(entry.error(PolicyProblem::Conflict("only a VLEK has a csp, and signing_keys does not list \"vlek\"")))
        }
        Some(entry) => entry.list(|e| match e.text()? {
            "" => Err(e.value_error("", "a cspID such as \"CN=cc-us-east-2.amazonaws.com\"")),
            csp => Ok(csp.to_owned()),
        }),
    }
}

fn minimum_tcb(table: &mut Section<'_>) -> Result<TcbFloors, PolicyError> {
    let found = floors(table, "minimum_tcb")?;
    if found.is_empty() {
        let wanted = "a table [snp.minimum_tcb.milan], .genoa or .turin for each product that is accepted";
        return Err(table.error_at("minimum_tcb", PolicyProblem::Missing { wanted }));
    }
    Ok(found)
}

fn floors(table: &mut Section<'_>, name: &str) -> Result<TcbFloors, PolicyError> {
    let Some(entry) = table.optional(name) else { return Ok(TcbFloors(Vec::new())) };
    let words: Vec<&str> = PRODUCTS.iter().map(|(word, _)| *word).collect();
    let mut products = entry.section(&words)?;
    let mut floors = Vec::new();
    for (word, product) in PRODUCTS {
        if let Some(entry) = products.optional(word) {
            floors.push((*product, floor(&entry, *product)?));
        }
    }
    products.finish()?;
    if floors.is_empty() {
        return Err(entry.error(PolicyProblem::Missing { wanted: "a table for at least one of milan, genoa, turin" }));
    }
    Ok(TcbFloors(floors))
}

/// Every component must be written, under the names that a verdict's JSON has. The rejected alternative, absent means zero,
/// would let a forgotten line accept old microcode.
fn floor(entry: &Entry<'_>, product: Product) -> Result<TcbVersion, PolicyError> {
    let known: &[&str] = match product {
        Product::Turin => &["fmc", "bl", "tee", "snp", "ucode"],
        Product::Milan | Product::Genoa => &["bl", "tee", "snp", "ucode"],
    };
    let mut table = entry.section(known)?;
    let mut component = |name: &str| -> Result<u8, PolicyError> {
        let n = table.required(name, "the lowest security version that is accepted")?.integer(u8::MAX.into())?;
        Ok(u8::try_from(n).expect("bounded by u8::MAX"))
    };
    let fmc = match product {
        Product::Turin => component("fmc")?,
        Product::Milan | Product::Genoa => 0,
    };
    let (bl, tee, snp, ucode) = (component("bl")?, component("tee")?, component("snp")?, component("ucode")?);
    table.finish()?;
    if [fmc, bl, tee, snp, ucode] == [0; 5] {
        return Err(entry.error(PolicyProblem::Zero));
    }
    Ok(match product {
        Product::Turin => TcbVersion::new_turin(fmc, bl, tee, snp, ucode),
        Product::Milan | Product::Genoa => TcbVersion::new_milan_genoa(bl, tee, snp, ucode),
    })
}

fn abi(entry: &Entry<'_>) -> Result<AbiVersion, PolicyError> {
    let text = entry.text()?;
    text.split_once('.')
        .and_then(|(major, minor)| Some(AbiVersion { major: major.parse().ok()?, minor: minor.parse().ok()? }))
        .ok_or_else(|| entry.value_error(text, "a version such as \"1.51\""))
}

fn mitigations(table: &mut Section<'_>) -> Result<Mitigations, PolicyError> {
    let Some(entry) = table.optional("mitigations") else { return Ok(Mitigations { launch: 0, current: 0 }) };
    let mut masks = entry.section(&["launch", "current"])?;
    let mut mask = |name: &str| match masks.optional(name) {
        None => Ok(0),
        Some(e) => match e.integer(u64::MAX)? {
            0 => Err(e.error(PolicyProblem::Zero)),
            bits => Ok(bits),
        },
    };
    let found = Mitigations { launch: mask("launch")?, current: mask("current")? };
    masks.finish()?;
    if found.launch == 0 && found.current == 0 {
        return Err(
            entry.error(PolicyProblem::Missing { wanted: "launch or current, a mask of bits that must be set" })
        );
    }
    Ok(found)
}
