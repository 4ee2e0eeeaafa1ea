//! The launch digest: what an AMD-SP measures of a guest before its first instruction, computed from the parts.
//!
//! ```text
//! chain     one SHA-384 per page                    machine   hypervisor, vCPUs, their save areas (vmsa, vcpu)
//! ovmf      the layout that an image asks for       hashes    kernel, initrd, command line through the firmware
//! recipe    all of it → digest                      cover     what such a digest says of each component
//! pages     a guest given page by page              search    which machine matched, or what would have to differ
//! line      a command line that is off by a little
//! id_block  the owner's signature over a digest      igvm      pages from an IGVM file
//! ```
//!
//! Nothing here is evidence: a digest becomes worth something when a verified report carries the same one.

mod chain;
mod cover;
mod hashes;
pub mod id_block;
mod igvm;
mod line;
mod machine;
mod ovmf;
mod pages;
mod recipe;
mod search;
mod vcpu;
mod vmsa;

pub use chain::{PAGE_BYTES, Page, PageChain};
pub use cover::{Coverage, Covered, Enforcement, Known, LaunchLink, NotCovered};
pub use hashes::{Ingredient, KernelHashes, MAX_CMDLINE_BYTES};
pub use igvm::{IgvmError, MAX_IGVM_BYTES, measure_igvm};
pub use line::slips;
pub use machine::{BadVcpuCount, GceHost, Machine, UnknownVmm, VcpuCount, Vmm};
pub use ovmf::{MAX_FIRMWARE_BYTES, OvmfError, OvmfLayout, Section, SectionKind};
pub use pages::{MAX_RECIPE_BYTES, PageFile, PagePart, PagesError, PagesLaunch, PagesRecipe};
pub use recipe::{Firmware, FirmwareFile, LaunchError, OvmfLaunch, SvsmLaunch};
pub use search::{Difference, LaunchMatch, MAX_MACHINES, Machines, MachinesError, would_match};
pub use vcpu::{BadFeatures, GuestFeatures, MAX_VCPUS, UnknownModel, VcpuSignature};
