//! What a verdict needs beside the ATTEST: larger parts, and the proof that a TPM's key lives beside the SVSM's EK.
//!
//! Both are asked on the connection itself, after its ATTEST was verified and before the verdict, in one round trip; and only what is
//! not known yet. A part is known by its digest, a proof by everything that it depends on ([`CredentialProof`]), so a second
//! connection to the same guest asks nothing. What the guest may cost us is bounded: what it listed, 4 MiB at most, one deadline.

use std::sync::{Mutex, PoisonError};

use proxy_core::framing::{Framed, FramingError};
use proxy_core::link::FrameLink;
use ratls::appraise::Finding;
use ratls::endorsement::TrustAnchors;
use ratls::findings::{BindingCheck, TpmCheck};
use ratls::policy::{AppraisalPolicy, ProfilePolicy};
use ratls::verify::{CredentialError, CredentialProof, Part, PartRefusal, Question, VerifiedEvidence};
use ratls::wire::attest::{PartInfo, part};
use ratls::wire::credential::CredentialResponse;
use ratls::wire::frame::FrameType;
use ratls::wire::parts::{Assembler, PartError, encode_want};

use crate::credential;

/// Parts that are kept: some boots of one guest, with what grows.
const MAX_KEPT_PARTS: usize = 8;
/// Proofs that are kept: guests behind one address.
const MAX_KEPT_PROOFS: usize = 64;

/// What earlier connections to a guest brought, oldest first.
#[derive(Default)]
pub struct Known {
    parts: Mutex<Vec<Part>>,
    proofs: Mutex<Vec<CredentialProof>>,
}

/// Evidence with everything that was to be had.
pub struct Complete {
    pub evidence: VerifiedEvidence,
    /// The parts in it, for a bundle.
    pub parts: Vec<Part>,
    /// The AK was proven, now or before.
    pub proven: bool,
}

/// Why the evidence could not be completed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The connection is lost, or the guest closed it.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// The guest answered something wrong.
    #[error("{}", .0.id())]
    Guest(Finding),
}

impl From<PartError> for AskError {
    fn from(error: PartError) -> Self {
        AskError::Guest(Finding::of_verification(BindingCheck::Part, &error))
    }
}

impl From<PartRefusal> for AskError {
    fn from(error: PartRefusal) -> Self {
        AskError::Guest(Finding::of_verification(error.check(), &error))
    }
}

impl From<CredentialError> for AskError {
    fn from(error: CredentialError) -> Self {
        AskError::Guest(Finding::of_verification(TpmCheck::Proof, &error))
    }
}

/// Asks for what the policy needs and is not known; without a policy, for everything.
pub async fn complete<S: FrameLink>(
    framed: &mut Framed<S>,
    mut evidence: VerifiedEvidence,
    policy: Option<&AppraisalPolicy>,
    anchors: &TrustAnchors,
    known: &Known,
) -> Result<Complete, AskError> {
    let (mut parts, mut missing) = (vec![], vec![]);
    for listed in evidence.listed_parts().iter().filter(|listed| is_needed(listed, &evidence, policy)) {
        match known.part(listed) {
            Some(part) => parts.push(part),
            None => missing.push(listed.clone()),
        }
    }
    let key = CredentialProof::key(&evidence);
    let mut proof = key.as_ref().and_then(|key| known.proof(|proof| proof.is_of(key)));
    let question = match (&key, &proof) {
        (Some(_), None) => credential::question(&evidence)?,
        _ => None,
    };
    // Both questions go out before the first answer is awaited.
    if !missing.is_empty() {
        let digests: Vec<_> = missing.iter().map(|listed| listed.digest).collect();
        framed.write(FrameType::Want, &encode_want(&digests)).await.map_err(FramingError::from)?;
    }
    if let Some((_, credential)) = &question {
        framed.write(FrameType::Cred, &credential.encode()).await.map_err(FramingError::from)?;
    }
    for part in fetched(framed, &missing).await? {
        known.keep_part(&part);
        parts.push(part);
    }
    if let Some((question, _)) = question {
        proof = Some(answered(framed, question).await?);
        known.keep_proof(proof.as_ref());
    }
    for part in &parts {
        evidence.add_part(part, anchors)?;
    }
    if let Some(proof) = &proof {
        evidence.prove_ak(proof)?;
    }
    Ok(Complete { evidence, parts, proven: proof.is_some() })
}

/// Logs are of use where a TPM says what they must replay to; the endorsement of a firmware, where the policy can rest on it.
fn is_needed(listed: &PartInfo, evidence: &VerifiedEvidence, policy: Option<&AppraisalPolicy>) -> bool {
    let needs_ima =
        || policy.is_none_or(|file| file.for_profile(evidence.profile()).is_some_and(ProfilePolicy::needs_ima));
    match listed.name.as_str() {
        part::EVENT_LOG => evidence.tpm().is_some(),
        // It grows, so it is another one for each connection: not without need.
        part::IMA_LOG => evidence.tpm().is_some() && needs_ima(),
        part::GCE_ENDORSEMENT => true,
        part::SETTINGS => policy.is_none(),
        _ => false,
    }
}

async fn fetched<S: FrameLink>(framed: &mut Framed<S>, missing: &[PartInfo]) -> Result<Vec<Part>, AskError> {
    let mut assembler = Assembler::new(missing)?;
    let mut done = missing.is_empty();
    while !done {
        let frame = framed.read().await?;
        if frame.kind != FrameType::Part {
            return Err(FramingError::Unexpected { seen: frame.kind, wanted: "PART" }.into());
        }
        done = assembler.add(&frame.body)?;
    }
    let bytes = assembler.finish();
    let read = |listed: &PartInfo| match bytes.get(&listed.digest) {
        Some(bytes) => Part::read(&listed.name, &bytes[..]).map(Some),
        None => Ok(None),
    };
    Ok(missing.iter().filter_map(|listed| read(listed).transpose()).collect::<Result<_, _>>()?)
}

async fn answered<S: FrameLink>(framed: &mut Framed<S>, question: Question) -> Result<CredentialProof, AskError> {
    let frame = framed.read().await?;
    if frame.kind != FrameType::CredResponse {
        return Err(FramingError::Unexpected { seen: frame.kind, wanted: "CRED_RESP" }.into());
    }
    let response = CredentialResponse::parse(&frame.body)
        .map_err(|source| FramingError::Body { kind: FrameType::CredResponse, source })?;
    Ok(question.answered(&response)?)
}

impl Known {
    fn part(&self, listed: &PartInfo) -> Option<Part> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().find(|part| part.name() == listed.name && *part.digest() == listed.digest).cloned()
    }

    fn keep_part(&self, part: &Part) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        // Another connection may have brought it meanwhile.
        parts.retain(|kept| (kept.name(), kept.digest()) != (part.name(), part.digest()));
        if parts.len() == MAX_KEPT_PARTS {
            parts.remove(0);
        }
        parts.push(part.clone());
    }

    fn proof(&self, is_wanted: impl Fn(&CredentialProof) -> bool) -> Option<CredentialProof> {
        let proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        proofs.iter().find(|proof| is_wanted(proof)).cloned()
    }

    fn keep_proof(&self, proof: Option<&CredentialProof>) {
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        if proofs.len() == MAX_KEPT_PROOFS {
            proofs.remove(0);
        }
        proofs.extend(proof.cloned());
    }
}
