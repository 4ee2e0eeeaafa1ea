//! Evidence in files: what each piece is, and what holds between those that came together.
//!
//! A file answers no question of ours, so what a report or a quote answers is compared with nothing. What can be checked is what
//! pieces say of each other: the report inside a paravisor's blob, the key that the blob names, the hash of the report in a quote's
//! question or a document. Where the last does not hold the pieces may be of two machines, which is told and not refused here
//! ([`VerifiedEvidence::tpm_is_unbound`]). Without a report there is no guest, only [`VerifiedPieces`].

use crate::account::{Outcome, PieceAccount, accounts, first_difference};
use crate::channel::{Channel, Freshness};
use crate::endorsement::{
    AkError, PublicKey, TrustAnchors, VerifiedAk, azure_ak_keys, gce_ak_keys, verify_azure_ak, verify_gce_ak,
    verify_nitro_document,
};
use crate::error::VerifyError;
use crate::evidence::{Platform, VerifiedEvidence};
use crate::given::{AkFile, Files, QuoteFiles, SvsmFiles};
use crate::parts::{Part, VerifiedParts};
use crate::pieces::carries;
use crate::quote::{QuoteError, VerifiedQuote, verify_quote_of_file};
use crate::report::{VerifiedReport, verify_report};
use crate::tpm::{AkProof, Registers, TpmError, TpmKind, VerifiedTpm, certified_key};
use formats::binding::{Binder, Profile, quote_binder};
use formats::crypto::{constant_time_eq, sha384};
use formats::evidence::event_log::{Comparison, Replay};
use formats::evidence::hcl::Hcl;
use formats::evidence::ima::ImaMismatch;
use formats::evidence::snp::Report;
use formats::evidence::svsm::{Manifest, report_data};
use formats::evidence::tpm::{Public, Quoted, Signature};
use formats::time::UnixTime;
use formats::wire::attest::part;

/// What was verified.
#[derive(Debug)]
pub enum VerifiedFiles {
    /// There is a report, and so a guest.
    Guest(Box<VerifiedEvidence>),
    Pieces(Box<VerifiedPieces>),
}

/// Genuine pieces without a report: nothing of them is of a machine that the AMD-SP knows.
#[derive(Debug)]
pub struct VerifiedPieces {
    profile: Option<Profile>,
    tpm: Option<VerifiedTpm>,
    ak: Option<VerifiedAk>,
    parts: VerifiedParts,
    accounts: Vec<PieceAccount>,
    at: UnixTime,
}

impl VerifiedPieces {
    /// The platform that they are of, where they tell.
    pub fn profile(&self) -> Option<Profile> {
        self.profile
    }
    pub fn tpm(&self) -> Option<&VerifiedTpm> {
        self.tpm.as_ref()
    }
    /// A key for which a cloud vouches, where there is no quote by it.
    pub fn ak(&self) -> Option<&VerifiedAk> {
        self.ak.as_ref()
    }
    pub fn parts(&self) -> &VerifiedParts {
        &self.parts
    }
    /// What became of each piece.
    pub fn accounts(&self) -> &[PieceAccount] {
        &self.accounts
    }
    pub fn at(&self) -> UnixTime {
        self.at
    }
    pub fn simulated(&self) -> bool {
        self.tpm().is_some_and(VerifiedTpm::simulated)
            || self.ak().is_some_and(VerifiedAk::simulated)
            || self.parts.gce_endorsement().is_some_and(|endorsement| endorsement.simulated())
    }
}

/// Verifies what there is. `wanted` names the platform where pieces do not tell: a report and a quote by an unknown key.
pub fn verify_files(
    files: &Files<'_>,
    wanted: Option<Profile>,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<VerifiedFiles, VerifyError> {
    let job = Job { files, anchors, now };
    let found = match (files.hcl, &files.svsm, files.nitro) {
        (Some(hcl), None, None) => job.azure(hcl)?,
        (None, Some(svsm), None) => job.svsm(svsm)?,
        (None, None, Some(document)) => job.nitro(document)?,
        (None, None, None) => job.plain(wanted)?,
        (Some(_), _, _) => return Err(VerifyError::UnexpectedHardware(Profile::AzureSnp)),
        (None, _, _) => return Err(VerifyError::UnexpectedHardware(Profile::SvsmSnp)),
    };
    job.answers(&found)?;
    let parts = job.parts()?;
    job.replays(&parts, &found)?;
    let accounts = accounts(files, &found.outcome(&parts));
    Ok(match found.platform {
        Some(platform) => VerifiedFiles::Guest(Box::new(VerifiedEvidence {
            profile: found.profile.unwrap_or(Profile::Snp),
            platform: platform.no_fresher_than(Freshness::None),
            channel: Channel::None,
            listed: Vec::new(),
            parts,
            unbound_tpm: found.unbound,
            accounts,
            statement: None,
            leaf: None,
            at: now,
        })),
        None => {
            signed_by_somebody(&accounts, &parts)?;
            VerifiedFiles::Pieces(Box::new(VerifiedPieces {
                profile: found.profile,
                tpm: found.tpm,
                ak: found.ak,
                parts,
                accounts,
                at: now,
            }))
        }
    })
}

/// Data that nobody signed is never authentic, however well it parses and however well its pieces agree: whoever wrote one of
/// them could write them all.
fn signed_by_somebody(accounts: &[PieceAccount], parts: &VerifiedParts) -> Result<(), VerifyError> {
    if accounts.iter().any(|account| account.fate.is_signed()) {
        return Ok(());
    }
    match (accounts, parts.refused_endorsement()) {
        ([_], Some(refusal)) => Err(refusal.clone().into()),
        _ => Err(VerifyError::NothingSigned(accounts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))),
    }
}

struct Job<'f> {
    files: &'f Files<'f>,
    anchors: &'f TrustAnchors,
    now: UnixTime,
}

struct Found {
    profile: Option<Profile>,
    platform: Option<Platform>,
    tpm: Option<VerifiedTpm>,
    ak: Option<VerifiedAk>,
    /// The key whose quote was good.
    quoting_key: Option<PublicKey>,
    /// The key that the paravisor names.
    named_key: Option<PublicKey>,
    unbound: bool,
}

impl Found {
    fn guest(profile: Profile, platform: Platform) -> Self {
        Found { platform: Some(platform), ..Found::pieces(Some(profile), None, None) }
    }

    fn pieces(profile: Option<Profile>, tpm: Option<VerifiedTpm>, ak: Option<VerifiedAk>) -> Self {
        Found { profile, platform: None, tpm, ak, quoting_key: None, named_key: None, unbound: false }
    }

    fn tpm(&self) -> Option<&VerifiedTpm> {
        self.platform.as_ref().map_or(self.tpm.as_ref(), |platform| platform.tpm.as_ref())
    }

    fn outcome<'a>(&'a self, parts: &'a VerifiedParts) -> Outcome<'a> {
        let tpm = self.tpm();
        Outcome {
            report: self.platform.as_ref().map(|platform| &platform.report),
            tpm,
            ak: self.platform.as_ref().map_or(self.ak.as_ref(), |platform| platform.named_ak.as_ref()),
            quoting_key: self.quoting_key.clone().or(tpm.and_then(VerifiedTpm::ak).map(|ak| certified_key(ak.key()))),
            named_key: self.named_key.clone(),
            parts,
        }
    }
}

impl Job<'_> {
    fn verify_report(&self, report: &[u8]) -> Result<VerifiedReport, VerifyError> {
        Ok(verify_report(report, &self.files.certificates, &self.files.crls, self.anchors, self.now)?)
    }

    fn azure(&self, blob: &[u8]) -> Result<Found, VerifyError> {
        let hcl = Hcl::parse(blob)?;
        if self.files.report.is_some_and(|report| report != hcl.report()) {
            return Err(VerifyError::UnexpectedHardware(Profile::AzureSnp));
        }
        let public = Public::azure_ak(&hcl.claims().ak_modulus).map_err(TpmError::from)?;
        let key = certified_key(public.key());
        if self.files.ak.as_ref().is_some_and(|given| given.key() != key) {
            return Err(TpmError::NotParavisors.into());
        }
        let mut platform = Platform::of_report(self.verify_report(hcl.report())?, Freshness::None);
        let certificate = vouched(verify_azure_ak, self, &key)?;
        if let Some(quote) = &self.files.quote {
            let quote = self.quoted(quote, &[public])?;
            let proof = AkProof::Paravisor { certificate: certificate.map(Box::new) };
            platform = platform.with_tpm(TpmKind::Paravisor, quote, proof);
        } else {
            platform.named_ak = certificate;
        }
        platform.hcl = Some(hcl.into_claims());
        Ok(Found { named_key: Some(key), ..Found::guest(Profile::AzureSnp, platform) })
    }

    fn svsm(&self, svsm: &SvsmFiles<'_>) -> Result<Found, VerifyError> {
        let manifest = Manifest::parse(svsm.manifest)?;
        let bytes = self.files.report.ok_or(VerifyError::NoReport)?;
        let report = Report::parse(bytes).map_err(VerifyError::Report)?;
        let over = report_data(&svsm.nonce, svsm.manifest);
        if !constant_time_eq(report.report_data().as_bytes(), over.as_bytes()) {
            return Err(VerifyError::NotOverManifest);
        }
        let mut platform = Platform::of_report(self.verify_report(bytes)?, Freshness::None);
        if let Some(quote) = &self.files.quote {
            let quote = self.quoted(quote, &self.areas()?)?;
            platform = platform.with_tpm(TpmKind::Svsm, quote, AkProof::Unproven);
        }
        platform.svsm = Some(manifest);
        Ok(Found::guest(Profile::SvsmSnp, platform))
    }

    /// A document is worth its PCRs. A quote beside it must be good as well, by the key that the document carries or that was
    /// given; it adds nothing.
    fn nitro(&self, document: &[u8]) -> Result<Found, VerifyError> {
        let document = verify_nitro_document(document, &self.files.crls, self.anchors, self.now)?;
        let mut quoting_key = None;
        if let Some(quote) = &self.files.quote {
            let mut areas = self.areas().unwrap_or_default();
            let carried = document.document().public_key().and_then(|key| PublicKey::point(key).ok());
            areas.extend(carried.iter().flat_map(templates));
            quoting_key = Some(certified_key(self.quoted(quote, &areas)?.public().key()));
        }
        if let Some(given) = &self.files.pcrs {
            // A quote is of another moment: what a system extends as it runs may differ, what firmware extended may not.
            let settled = |pcr: u8| self.files.quote.is_none() || pcr < 8;
            if let Some((pcr, given, signed)) = first_difference(document.document().pcrs(), given, settled) {
                return Err(VerifyError::OtherRegisters { pcr, given, signed });
            }
        }
        let Some(bytes) = self.files.report else {
            let tpm = of_file(TpmKind::Host, document.into(), AkProof::Document);
            return Ok(Found { quoting_key, ..Found::pieces(Some(Profile::AwsSnp), Some(tpm), None) });
        };
        let names_report =
            document.document().user_data().is_some_and(|data| constant_time_eq(data, sha384(&[bytes]).as_bytes()));
        let platform = Platform::of_report(self.verify_report(bytes)?, Freshness::None);
        let platform = platform.with_tpm(TpmKind::Host, document, AkProof::Document);
        Ok(Found { unbound: !names_report, quoting_key, ..Found::guest(Profile::AwsSnp, platform) })
    }

    /// A report alone, a quote beside it, a quote alone, or a key with its certificate.
    fn plain(&self, wanted: Option<Profile>) -> Result<Found, VerifyError> {
        let quote = self.files.quote.as_ref().map(|quote| self.quoted(quote, &self.areas()?)).transpose()?;
        let Some(quote) = quote else {
            return match self.files.report {
                Some(bytes) => {
                    // On Google's and AWS's machines the guest asks for its report as on any other; nothing in it tells. Only a
                    // policy can say which of them is meant, and only it can do without the vTPM.
                    let as_any = |profile: &Profile| matches!(profile, Profile::AwsSnp | Profile::GcpSnp);
                    let profile = wanted.filter(as_any).unwrap_or(Profile::Snp);
                    Ok(Found::guest(profile, Platform::of_report(self.verify_report(bytes)?, Freshness::None)))
                }
                None => self.key_alone(),
            };
        };
        let key = certified_key(quote.public().key());
        let (profile, kind, proof) = match self.certificate(&key)? {
            Some((profile, ak)) => {
                let kind = if profile == Profile::AzureSnp { TpmKind::Paravisor } else { TpmKind::Host };
                (Some(profile), kind, AkProof::Certificate(Box::new(ak)))
            }
            None => (wanted.filter(|profile| *profile != Profile::Snp), TpmKind::Host, AkProof::Unproven),
        };
        let Some(bytes) = self.files.report else {
            return Ok(Found::pieces(profile, Some(of_file(kind, quote.into(), proof)), None));
        };
        let report = self.verify_report(bytes)?;
        let question = quote_binder(&Binder::from_bytes(*report.report().report_data().as_bytes()), bytes);
        let asked = Quoted::parse(self.files.quote.as_ref().map_or(&[][..], |quote| quote.attest));
        let bound = asked.is_ok_and(|quoted| constant_time_eq(&quoted.extra_data, question.as_bytes()));
        let platform = Platform::of_report(report, Freshness::None).with_tpm(kind, quote, proof);
        Ok(Found { unbound: !bound, ..Found::guest(profile.unwrap_or(Profile::AwsSnp), platform) })
    }

    fn key_alone(&self) -> Result<Found, VerifyError> {
        let keys = match &self.files.ak {
            Some(ak) => vec![ak.key()],
            None => self.certified_keys()?,
        };
        for key in &keys {
            if let Some((profile, ak)) = self.certificate(key)? {
                return Ok(Found::pieces(Some(profile), None, Some(ak)));
            }
        }
        let has_parts =
            self.files.event_log.is_some() || self.files.ima_list.is_some() || self.files.endorsement.is_some();
        if keys.is_empty() && has_parts {
            return Ok(Found::pieces(None, None, None));
        }
        Err(AkError::NoCertificate("a cloud").into())
    }

    fn certificate(&self, key: &PublicKey) -> Result<Option<(Profile, VerifiedAk)>, VerifyError> {
        if let Some(ak) = vouched(verify_gce_ak, self, key)? {
            return Ok(Some((Profile::GcpSnp, ak)));
        }
        Ok(vouched(verify_azure_ak, self, key)?.map(|ak| (Profile::AzureSnp, ak)))
    }

    fn certified_keys(&self) -> Result<Vec<PublicKey>, VerifyError> {
        let certificates = &self.files.certificates;
        Ok([gce_ak_keys(certificates)?, azure_ak_keys(certificates)?].concat())
    }

    /// The public areas that the quote may be by.
    fn areas(&self) -> Result<Vec<Public>, VerifyError> {
        let areas: Vec<Public> = match &self.files.ak {
            Some(AkFile::Area(public)) => vec![(**public).clone()],
            Some(AkFile::Key(key)) => templates(key),
            None => self.certified_keys()?.iter().flat_map(templates).collect(),
        };
        if areas.is_empty() { Err(VerifyError::NoAk) } else { Ok(areas) }
    }

    /// Good under one of these areas. Of several reasons, one that is not about the signer's name: that one only says that the
    /// area was not the right one.
    fn quoted(&self, quote: &QuoteFiles<'_>, areas: &[Public]) -> Result<VerifiedQuote, VerifyError> {
        let pcrs = self.files.pcrs.as_ref().ok_or(VerifyError::NoPcrs)?;
        let mut refused = VerifyError::NoAk;
        for public in areas {
            let signature = Signature::parse_file(quote.signature, public.key()).map_err(TpmError::from)?;
            match verify_quote_of_file(public, quote.attest, &signature, pcrs) {
                Ok(quote) => return Ok(quote),
                Err(QuoteError::QualifiedSigner { seen }) if matches!(refused, VerifyError::NoAk) => {
                    refused = TpmError::from(QuoteError::QualifiedSigner { seen }).into();
                }
                Err(QuoteError::QualifiedSigner { .. }) => {}
                Err(error) => refused = TpmError::from(error).into(),
            }
        }
        Err(refused)
    }

    /// Records lead to the registers that were given with them. Those that a TPM signed are for appraisal to compare, since the
    /// system goes on extending some of them; values of another bank than the signed ones are not, and are compared here.
    fn replays(&self, parts: &VerifiedParts, found: &Found) -> Result<(), VerifyError> {
        let Some(pcrs) = &self.files.pcrs else { return Ok(()) };
        if found.tpm().is_some_and(|tpm| tpm.pcrs().bank() == pcrs.bank()) {
            return Ok(());
        }
        if let Some(log) = parts.event_log() {
            let replay = Replay::of(log, pcrs.bank()).ok_or(VerifyError::LogBank(pcrs.bank()))?;
            for pcr in (0..24).filter(|pcr| replay.mentions(*pcr)) {
                if let Comparison::Different { replayed, quoted } = replay.compare(pcr, pcrs) {
                    return Err(VerifyError::Replay {
                        pcr,
                        replayed: replayed.to_string(),
                        quoted: quoted.to_string(),
                    });
                }
            }
        }
        match parts.ima_list().map(|list| list.replay(pcrs)) {
            None | Some(Ok(_) | Err(ImaMismatch::NotQuoted)) => Ok(()),
            Some(Err(mismatch)) => Err(mismatch.into()),
        }
    }

    /// Report and quote answer what their reader says that he asked.
    fn answers(&self, found: &Found) -> Result<(), VerifyError> {
        if let (Some(wanted), Some(platform)) = (&self.files.report_data, &found.platform) {
            match &platform.hcl {
                Some(claims) => {
                    let given = claims.user_data.as_ref().ok_or(VerifyError::Unbound)?;
                    carries(given.as_bytes(), wanted)?;
                }
                None => carries(platform.report.report().report_data().as_bytes(), wanted)?,
            }
        }
        let Some(wanted) = &self.files.nonce else { return Ok(()) };
        if let Some(quote) = &self.files.quote {
            let seen = Quoted::parse(quote.attest).map_err(|error| TpmError::from(QuoteError::from(error)))?.extra_data;
            if !constant_time_eq(&seen, wanted) {
                let (seen, wanted) = (hex::encode(seen), hex::encode(wanted));
                return Err(TpmError::from(QuoteError::Nonce { seen, wanted }).into());
            }
            return Ok(());
        }
        let document = found.tpm().and_then(VerifiedTpm::document);
        match document.and_then(|verified| verified.document().nonce()) {
            Some(seen) if constant_time_eq(seen, wanted) => Ok(()),
            _ => Err(VerifyError::NitroNonce),
        }
    }

    fn parts(&self) -> Result<VerifiedParts, VerifyError> {
        let mut parts = VerifiedParts::default();
        for (name, bytes) in [
            (part::EVENT_LOG, self.files.event_log),
            (part::IMA_LOG, self.files.ima_list),
            (part::GCE_ENDORSEMENT, self.files.endorsement),
        ] {
            if let Some(bytes) = bytes {
                parts.add_of_file(&Part::read(name, bytes)?, self.anchors, self.now);
            }
        }
        Ok(parts)
    }
}

/// The areas that clouds give keys of this kind.
fn templates(key: &PublicKey) -> Vec<Public> {
    match key {
        PublicKey::Rsa(_) => key
            .rsa_numbers()
            .map(|(modulus, _)| [Public::azure_ak(modulus), Public::gce_rsa_ak(modulus)])
            .into_iter()
            .flatten()
            .flatten()
            .collect(),
        PublicKey::P256(point) => {
            let [_, rest @ ..] = point;
            match (rest.first_chunk(), rest.last_chunk()) {
                (Some(x), Some(y)) => Public::gce_ecc_ak(x, y).into_iter().collect(),
                _ => Vec::new(),
            }
        }
        PublicKey::P384(_) => Vec::new(),
    }
}

type VerifyAk = fn(&[&[u8]], &[&[u8]], &PublicKey, &TrustAnchors, UnixTime) -> Result<VerifiedAk, AkError>;

/// The cloud's certificate for this key: `None` where there is none of that cloud.
fn vouched(verify: VerifyAk, job: &Job<'_>, key: &PublicKey) -> Result<Option<VerifiedAk>, VerifyError> {
    match verify(&job.files.certificates, &job.files.crls, key, job.anchors, job.now) {
        Ok(ak) => Ok(Some(ak)),
        Err(AkError::NoCertificate(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Registers of a file without a report: no VMPL is known, and none would help.
fn of_file(kind: TpmKind, registers: Registers, proof: AkProof) -> VerifiedTpm {
    VerifiedTpm { kind, registers, proof, freshness: Freshness::None, vmpl: u32::MAX }
}
