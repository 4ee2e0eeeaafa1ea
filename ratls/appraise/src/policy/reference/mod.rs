//! `[[reference]]`: what a guest must be made of, by digests that somebody names, by files that the policy names, or by files that
//! were rebuilt from source.
//!
//! ```text
//! parse    the TOML → wanted: what the file asks for, and where it says so
//! load     wanted and the files → what a launch or a boot must come to
//! ```
//!
//! Parsing opens no file. Whoever loads the policy reads what [`References::files`] lists and hands it to
//! [`super::AppraisalPolicy::load_references`]; until then a reference with files matches nothing.

mod load;
mod parse;
mod wanted;

use std::fmt;

use super::error::PolicyError;
use formats::evidence::snp::Measurement;
use formats::text::Untrusted;
use measure::launch::would_match;
use measure::reference::{BootReference, Expected, LaunchFound, LaunchReference, Rebuild, VerityRoot};
use wanted::{Place, Wanted};

pub(super) use parse::{ORIGINS, parse};

/// Where a digest comes from that stands in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestOrigin {
    Own,
    Vendor,
    Learned,
}

/// Gives the bytes of a file that the policy names, relative to the policy's own folder.
pub trait ReferenceFiles {
    /// All of it, if it has at most `max` bytes.
    fn read(&mut self, name: &str, max: usize) -> Result<Vec<u8>, FileProblem>;
    /// All of it, piece by piece: it may be larger than memory.
    fn stream(&mut self, name: &str, each: &mut dyn FnMut(&[u8])) -> Result<(), FileProblem>;
}

/// Why a file cannot be had, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FileProblem(pub String);

/// Launch digests that somebody named.
#[derive(Clone, Debug)]
struct DigestReference {
    measurements: Vec<Measurement>,
    origin: DigestOrigin,
}

/// An image under dm-verity whose root hash was computed.
#[derive(Clone, Debug)]
pub struct ImageReference {
    name: String,
    root: VerityRoot,
}

impl ImageReference {
    /// What a command line that was measured must name, if the guest mounts this image.
    pub fn expected(&self) -> Expected {
        self.root.expected(&self.name)
    }
}

/// Everything under `[[reference]]`, as far as it was loaded.
#[derive(Debug, Default)]
pub struct References {
    wanted: Vec<(Place, Wanted)>,
    launches: Vec<LaunchReference>,
    digests: Vec<DigestReference>,
    images: Vec<ImageReference>,
    rebuilds: Vec<Rebuild>,
    boot: Option<BootReference>,
}

/// What the policy says of a launch digest.
#[derive(Clone, Debug)]
pub enum LaunchAnswer<'p> {
    /// Recomputed.
    Launch(LaunchFound<'p>),
    /// On a list.
    Digest(DigestOrigin),
}

impl References {
    /// The files that loading asks for.
    pub fn files(&self) -> Vec<&str> {
        self.wanted.iter().flat_map(|(_, wanted)| wanted.files()).collect()
    }

    pub fn launches(&self) -> &[LaunchReference] {
        &self.launches
    }
    pub fn images(&self) -> &[ImageReference] {
        &self.images
    }
    /// Files that firmware, loader or stub measures. `None` where the policy names none.
    pub fn boot(&self) -> Option<&BootReference> {
        self.boot.as_ref()
    }
    /// Files known to be built from source.
    pub fn rebuilds(&self) -> &[Rebuild] {
        &self.rebuilds
    }

    /// The strongest answer: recomputed before listed.
    pub(super) fn launch(&self, measured: &Measurement) -> Option<LaunchAnswer<'_>> {
        let launch = self.launches.iter().find_map(|launch| launch.compare(measured)).map(LaunchAnswer::Launch);
        let listed = || self.digests.iter().find(|d| d.measurements.contains(measured));
        launch.or_else(|| listed().map(|d| LaunchAnswer::Digest(d.origin)))
    }

    /// Launch digests that the policy names, and the word for whose they are.
    pub(super) fn listed(&self) -> impl Iterator<Item = (&Measurement, &'static str)> {
        let word = |origin| ORIGINS.iter().find(|(_, known)| *known == origin).map_or("own", |(word, _)| word);
        self.digests.iter().flat_map(move |digest| digest.measurements.iter().map(move |m| (m, word(digest.origin))))
    }

    /// The launch digests that would be accepted.
    pub(crate) fn accepted_launches(&self) -> Vec<Measurement> {
        let recomputed = self.launches.iter().flat_map(LaunchReference::digests);
        recomputed.chain(self.digests.iter().flat_map(|digest| digest.measurements.iter().copied())).collect()
    }

    /// Why no reference matches, if a small difference explains it: "it would match with vcpus = 8". It costs up to some 50,000
    /// hashes for each reference, so it is for people who ask, never for each connection.
    pub fn explain(&self, measured: &Measurement) -> Option<String> {
        let found = self.launches.iter().filter_map(|launch| launch.explain(measured));
        found.min_by_key(Vec::len).map(|differences| would_match(&differences))
    }

    /// The same for a command line that is one slip away from that of a reference: some 60,000 launches for each.
    pub fn explain_line(&self, measured: &Measurement) -> Option<String> {
        self.launches.iter().find_map(|launch| launch.explain_line(measured)).map(|found| would_match(&[found]))
    }

    /// Where a reference stands that only rules about the boot can use.
    pub(super) fn needs_event_log(&self) -> Option<PolicyError> {
        let boot = self.wanted.iter().find(|(_, wanted)| matches!(wanted, Wanted::Boot(_)))?;
        Some(boot.0.error("has no effect without the table [event_log]"))
    }

    /// Whether a launch digest can match anything here.
    pub(crate) fn speaks_of_launches(&self) -> bool {
        self.wanted.iter().any(|(_, w)| {
            matches!(w, Wanted::Launch(_) | Wanted::Pages { .. } | Wanted::Igvm { .. } | Wanted::Digests { .. })
        })
    }
}

/// For `policy check`: what was recomputed, and from what.
impl fmt::Display for References {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for launch in &self.launches {
            writeln!(f, "  recomputed    {} launch digests", launch.digests().count())?;
        }
        for image in &self.images {
            writeln!(f, "  image         {}, root hash {}", Untrusted(&image.name), image.root.root())?;
        }
        for rebuild in &self.rebuilds {
            let by = rebuild.by().join(", ");
            writeln!(f, "  from source   sha256 {}, {}, by {}", rebuild.sha256(), rebuild.source(), Untrusted(&by))?;
        }
        Ok(())
    }
}
