//! The list that the kernel's IMA keeps, template `ima-ng`, and PCR 10 that it extends.
//!
//! Layout: Documentation/security/IMA-templates.rst. Little-endian, as on every machine with SEV-SNP.

use crate::tpm::command::{Channel, TpmError};
use crate::tpm::objects::{self, Bank};

/// IMA's own PCR.
const PCR: u32 = 10;

/// Measures these files (path, content) after `boot_aggregate`, into PCR 10 of these banks; the bytes of
/// `binary_runtime_measurements`.
pub fn measure(tpm: &mut dyn Channel, banks: &[Bank], files: &[(&str, &[u8])]) -> Result<Vec<u8>, TpmError> {
    let mut registers = Vec::new();
    for pcr in 0..10 {
        registers.extend(objects::read_pcr(tpm, Bank::Sha256, pcr)?);
    }
    let mut list = entries(tpm, banks, [("boot_aggregate", Bank::Sha256.hash(&registers))])?;
    list.extend(opened(tpm, banks, files)?);
    Ok(list)
}

/// Measures these files too: what the list grows by.
pub fn opened(tpm: &mut dyn Channel, banks: &[Bank], files: &[(&str, &[u8])]) -> Result<Vec<u8>, TpmError> {
    entries(tpm, banks, files.iter().map(|(path, content)| (*path, Bank::Sha256.hash(content))))
}

fn entries<'a>(
    tpm: &mut dyn Channel,
    banks: &[Bank],
    entries: impl IntoIterator<Item = (&'a str, Vec<u8>)>,
) -> Result<Vec<u8>, TpmError> {
    let mut list = Vec::new();
    for (path, digest) in entries {
        let data = template_data(path, &digest);
        let digests: Vec<_> = banks.iter().map(|bank| (*bank, bank.hash(&data))).collect();
        objects::extend(tpm, PCR, &digests)?;
        list.extend(PCR.to_le_bytes());
        list.extend(Bank::Sha1.hash(&data));
        list.extend(field(b"ima-ng"));
        list.extend(field(&data));
    }
    Ok(list)
}

/// d-ng and n-ng.
fn template_data(path: &str, digest: &[u8]) -> Vec<u8> {
    [field(&[b"sha256:\0", digest].concat()), field(format!("{path}\0").as_bytes())].concat()
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("an entry is short").to_le_bytes()[..], bytes].concat()
}
