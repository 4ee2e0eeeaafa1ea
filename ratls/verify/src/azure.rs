//! Profile `azure-snp`: the paravisor asks for the report, over a JSON that names its vTPM's key and what the guest gave.
//!
//! A paravisor that takes the guest's data puts B into the JSON, and the report is fresh. An older one puts nothing there:
//! then its report may be of any day since the machine was made, and the quote is all that is of now. Data that is there and
//! is not B is never passed over (N46).

use crate::channel::Freshness;
use crate::endorsement::{AkError, verify_azure_ak};
use crate::error::VerifyError;
use crate::evidence::Platform;
use crate::pieces::{Pieces, carries, quoted};
use crate::tpm::{self, AkProof, TpmError, TpmKind};
use formats::evidence::hcl::Hcl;
use formats::evidence::tpm::Key;
use formats::wire::attest::HardwareFormat;

pub(super) fn verify(pieces: &Pieces<'_>) -> Result<Platform, VerifyError> {
    let hcl = Hcl::parse(pieces.only(HardwareFormat::HclBlob)?)?;
    let freshness = match &hcl.claims().user_data {
        Some(data) => carries(data.as_bytes(), pieces.binder.as_bytes()).map(|()| Freshness::Connect)?,
        None => Freshness::Stale,
    };
    let quote = quoted(pieces, hcl.report())?;
    if quote.is_none() && freshness == Freshness::Stale {
        return Err(VerifyError::Unbound);
    }
    if let Some(quote) = &quote {
        paravisors_key(quote.public().key(), &hcl)?;
    }
    let report = pieces.verify_report(hcl.report())?;
    let mut platform = Platform::of_report(report, freshness);
    if let Some(quote) = quote {
        let key = tpm::certified_key(quote.public().key());
        let certificate = match verify_azure_ak(&pieces.certificates, &pieces.crls, &key, pieces.anchors, pieces.now) {
            Ok(ak) => Some(Box::new(ak)),
            Err(AkError::NoCertificate(_)) => None,
            Err(error) => return Err(error.into()),
        };
        platform = platform.with_tpm(TpmKind::Paravisor, quote, AkProof::Paravisor { certificate });
    }
    platform.hcl = Some(hcl.into_claims());
    Ok(platform)
}

/// The key in the JSON by its `kid`; its exponent is 65,537 in both.
fn paravisors_key(key: &Key, hcl: &Hcl) -> Result<(), TpmError> {
    match key {
        Key::Rsa { modulus } if *modulus == hcl.claims().ak_modulus => Ok(()),
        _ => Err(TpmError::NotParavisors),
    }
}
