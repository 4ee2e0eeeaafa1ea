//! Larger items beside an ATTEST, after they came: an event log, an IMA list, an endorsement of the firmware, the settings.
//!
//! A part is what the ATTEST lists, by its hash. That alone makes nothing true. The event log and the settings are those of the
//! statement, the endorsement is signed by its maker, and an IMA list is as good as register 10 confirms it. How a log fits
//! the registers is appraisal's to see: registers that the system goes on extending differ from it rightly.

use std::sync::Arc;

use crate::endorsement::TrustAnchors;
use crate::endorsement::gce_firmware::{GceFirmwareRefusal, VerifiedGceEndorsement, verify_gce_endorsement};
use crate::format_checks;
use findings::{BindingCheck, Check, EventLogCheck};
use formats::crypto::sha256;
use formats::digest::Sha256Digest;
use formats::evidence::event_log::{EventLog, EventLogError};
use formats::evidence::ima::{ImaError, ImaList};
use formats::time::UnixTime;
use formats::wire::attest::{PartInfo, part};
use measure::measured_boot::ReadLog;

/// An item that was read, whoever sent it. Cheap to clone, and good for every connection whose ATTEST lists it.
#[derive(Clone, Debug)]
pub struct Part {
    name: String,
    digest: Sha256Digest,
    bytes: Arc<[u8]>,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    EventLog(Arc<ReadLog>),
    ImaList(Arc<ImaList>),
    /// Read with the roots at hand.
    GceEndorsement,
    /// Of a later version, or only to be shown.
    Opaque,
}

/// Why an item is not what it was listed as.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartRefusal {
    #[error("the ATTEST lists no part {name:?} with this digest")]
    NotListed { name: String },
    #[error("the settings do not have the digest that the statement names")]
    Settings,
    #[error(transparent)]
    EventLog(#[from] EventLogError),
    #[error(transparent)]
    ImaList(#[from] ImaError),
}

impl PartRefusal {
    /// Returns the printed id of the check that failed.
    pub fn id(&self) -> &'static str {
        self.check().id()
    }

    /// Returns the check that failed.
    pub fn check(&self) -> Check {
        match self {
            PartRefusal::NotListed { .. } => BindingCheck::Part.into(),
            PartRefusal::Settings => BindingCheck::Settings.into(),
            PartRefusal::EventLog(error) => format_checks::event_log(error),
            PartRefusal::ImaList(_) => EventLogCheck::ImaParse.into(),
        }
    }
}

impl Part {
    /// Reads what was listed under this name. The name says how; the digest is computed here.
    pub fn read(name: &str, bytes: impl Into<Arc<[u8]>>) -> Result<Self, PartRefusal> {
        let bytes: Arc<[u8]> = bytes.into();
        let digest = sha256(&[&bytes]);
        let content = match name {
            part::EVENT_LOG => Content::EventLog(Arc::new(ReadLog::parse(&bytes)?)),
            part::IMA_LOG => Content::ImaList(Arc::new(ImaList::parse(&bytes)?)),
            part::GCE_ENDORSEMENT => Content::GceEndorsement,
            _ => Content::Opaque,
        };
        Ok(Part { name: name.to_owned(), digest, bytes, content })
    }

    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn digest(&self) -> &Sha256Digest {
        &self.digest
    }
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What of the parts is known to belong to the evidence.
#[derive(Debug, Default)]
pub struct VerifiedParts {
    event_log: Option<Arc<ReadLog>>,
    ima_list: Option<Arc<ImaList>>,
    gce_endorsement: Option<Result<VerifiedGceEndorsement, GceFirmwareRefusal>>,
    settings: Option<Arc<[u8]>>,
}

impl VerifiedParts {
    /// The firmware's event log: the one that the statement commits to.
    pub fn event_log(&self) -> Option<&EventLog> {
        self.event_log.as_deref().map(ReadLog::log)
    }
    /// The same with what was computed of it.
    pub fn read_log(&self) -> Option<&ReadLog> {
        self.event_log.as_deref()
    }
    /// The kernel's measurement list. Nothing but register 10 says that it is this boot's.
    pub fn ima_list(&self) -> Option<&ImaList> {
        self.ima_list.as_deref()
    }
    /// Google's word about a firmware. Which one runs, the report says.
    pub fn gce_endorsement(&self) -> Option<&VerifiedGceEndorsement> {
        self.gce_endorsement.as_ref()?.as_ref().ok()
    }
    /// Why an endorsement that came counts for nothing. It stands beside the evidence and carries none of it, so the evidence is
    /// no less authentic; a policy that asks for an endorsement refuses with this reason.
    pub fn refused_endorsement(&self) -> Option<&GceFirmwareRefusal> {
        self.gce_endorsement.as_ref()?.as_ref().err()
    }
    /// The settings behind the statement's `config`, deterministic CBOR.
    pub fn settings(&self) -> Option<&[u8]> {
        self.settings.as_deref()
    }
}

impl VerifiedParts {
    /// Adds an item of a file, which nothing lists.
    pub(super) fn add_of_file(&mut self, part: &Part, anchors: &TrustAnchors, at: UnixTime) {
        match &part.content {
            Content::EventLog(log) => self.event_log = Some(log.clone()),
            Content::ImaList(list) => self.ima_list = Some(list.clone()),
            Content::GceEndorsement => self.gce_endorsement = Some(verify_gce_endorsement(&part.bytes, anchors, at)),
            Content::Opaque => {}
        }
    }

    /// Adds an item that the ATTEST lists.
    pub(super) fn add_listed(
        &mut self,
        part: &Part,
        listing: Listing<'_>,
        anchors: &TrustAnchors,
        at: UnixTime,
    ) -> Result<(), PartRefusal> {
        if !listing.listed.iter().any(|info| info.name == part.name && info.digest == part.digest) {
            return Err(PartRefusal::NotListed { name: part.name.clone() });
        }
        if part.name == part::SETTINGS {
            if listing.config != Some(&part.digest) {
                return Err(PartRefusal::Settings);
            }
            self.settings = Some(part.bytes.clone());
        }
        self.add_of_file(part, anchors, at);
        Ok(())
    }
}

/// What an ATTEST says of the items beside it.
pub(super) struct Listing<'a> {
    pub(super) listed: &'a [PartInfo],
    /// Digest of the settings, by the statement.
    pub(super) config: Option<&'a Sha256Digest>,
}
