//! The certificates between an AK's certificate and its root, so that a client needs no network but the tunnel.
//!
//! They come from the operator's files, else from where each certificate says that its issuer is (Authority Information Access, plain
//! HTTP). The certificate was given by the host, and so is the address in it: an address of the guest itself is refused, the answer is
//! small, and what it is worth is decided by who verifies the chain. Roots are not sent; they would be ignored.

use crate::kds::http::{Answer, Client};
use ratls::endorsement::pem;
use ratls::wire::limits::MAX_CERTIFICATE;
use std::time::Duration;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS, OID_PKIX_AUTHORITY_INFO_ACCESS};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Between leaf and root: Azure has two, Google one.
const MAX_ISSUERS: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why the chain ends before its root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Gap {
    #[error("the certificate of {subject} cannot be read")]
    Certificate { subject: String },
    #[error(
        "the issuer of {subject} is not in the files of `endorsements.certificates`, and the certificate does not say where it is"
    )]
    NoAddress { subject: String },
    #[error("the issuer of {subject} cannot be fetched from {url}: {reason}")]
    Fetch { subject: String, url: String, reason: String },
}

/// What was found, nearest to the leaf first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issuers {
    pub certificates: Vec<Vec<u8>>,
    /// `None` where the last one was issued by a root, as far as that shows, or so many were found that more cannot be.
    pub gap: Option<Gap>,
}

/// Looks for the issuers of `leaf` among `files`, and where the certificates say. `local` is the one address of this machine that may be
/// asked, where the machine is emulated.
pub async fn find(leaf: &[u8], files: &[Vec<u8>], local: Option<&str>) -> Issuers {
    let mut found = Issuers::default();
    let mut below = leaf.to_vec();
    while found.certificates.len() < MAX_ISSUERS {
        match issuer(&below, files, local).await {
            Ok(Some(certificate)) => {
                below.clone_from(&certificate);
                found.certificates.push(certificate);
            }
            Ok(None) => return found,
            // What issued an issuer and cannot be found is the root, as far as one can know.
            Err(Gap::NoAddress { .. }) if !found.certificates.is_empty() => return found,
            Err(gap) => {
                found.gap = Some(gap);
                return found;
            }
        }
    }
    found
}

/// `None` where the issuer is a root.
async fn issuer(below: &[u8], files: &[Vec<u8>], local: Option<&str>) -> Result<Option<Vec<u8>>, Gap> {
    let (subject, issuer_name, url) = {
        let certificate = parse(below).ok_or(Gap::Certificate { subject: "an AK or its issuer".into() })?;
        (certificate.subject().to_string(), certificate.issuer().as_raw().to_vec(), issuer_address(&certificate))
    };
    let of_files = files
        .iter()
        .find(|file| parse(file).is_some_and(|certificate| certificate.subject().as_raw() == issuer_name.as_slice()));
    let bytes = match (of_files, url) {
        (Some(file), _) => file.clone(),
        (None, Some(url)) => fetch(&url, local).await.map_err(|reason| Gap::Fetch { subject, url, reason })?,
        (None, None) => return Err(Gap::NoAddress { subject }),
    };
    let root = parse(&bytes).is_some_and(|certificate| certificate.subject() == certificate.issuer());
    Ok((!root).then_some(bytes))
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, certificate)| certificate)
}

/// The first plain address of caIssuers.
fn issuer_address(certificate: &X509Certificate<'_>) -> Option<String> {
    let access = certificate.extensions().iter().find(|extension| extension.oid == OID_PKIX_AUTHORITY_INFO_ACCESS)?;
    let ParsedExtension::AuthorityInfoAccess(access) = access.parsed_extension() else { return None };
    access.accessdescs.iter().find_map(|description| match &description.access_location {
        GeneralName::URI(url)
            if description.access_method == OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS && url.starts_with("http://") =>
        {
            Some((*url).to_owned())
        }
        _ => None,
    })
}

async fn fetch(url: &str, local: Option<&str>) -> Result<Vec<u8>, String> {
    let uri: http::Uri = url.parse().map_err(|_| "not a URL".to_owned())?;
    let authority = uri.authority().ok_or("no host")?.as_str();
    let base = format!("http://{authority}");
    let client = Client::new(&base, TIMEOUT).map_err(|error| error.to_string())?;
    let client = if local == Some(base.as_str()) { client } else { client.only_elsewhere() };
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    match client.get_with(path, MAX_CERTIFICATE, None).await {
        Ok(Answer::Body(body)) => match pem::certificates(&body) {
            Ok(certificates) => certificates.into_iter().next().ok_or_else(|| "no certificate".into()),
            Err(error) => Err(error.to_string()),
        },
        Ok(Answer::Status { status, .. }) => Err(format!("the answer is {status}")),
        Err(error) => Err(error.to_string()),
    }
}
