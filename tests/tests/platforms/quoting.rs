//! Somebody who holds the socket of a TPM and has it quote: with the AK or with another key, over what is to be believed.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ratls::wire::attest::TpmEvidence;
use simulator::tpm::command::{Channel, Command, ENDORSEMENT, Fields, TpmError, read_message};
use simulator::tpm::objects::{self, Bank, template};

const QUOTE: u32 = 0x158;
const NULL_SCHEME: u16 = 0x0010;
/// TPM_RC_RETRY.
const RETRY: u32 = 0x922;

struct Socket(UnixStream);

impl Channel for Socket {
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        read_message(&mut self.0, 4096)
    }
}

/// A key of that TPM that is as good as an AK: restricted, fixed, of the endorsement hierarchy. Only nobody vouches for it.
pub(crate) fn another_key_quotes(tpm: &Path, qualifying: &[u8]) -> TpmEvidence {
    let mut tpm = Socket(UnixStream::connect(tpm).unwrap());
    let key = objects::create_primary(&mut tpm, ENDORSEMENT, &template::ecc_signing(&[0x77; 32])).unwrap();
    let pcrs: BTreeMap<u8, Vec<u8>> =
        (0..24).map(|pcr| (pcr, objects::read_pcr(&mut tpm, Bank::Sha256, pcr.into()).unwrap())).collect();
    let quote = Command::new(QUOTE)
        .authorised(key.handle)
        .sized(qualifying)
        .u16(NULL_SCHEME)
        .raw(&[0, 0, 0, 1, 0, 0x0B, 3, 0xFF, 0xFF, 0xFF]);
    // A TPM that has just made a key may say that it is not ready.
    let answer = std::iter::repeat_with(|| {
        std::thread::sleep(Duration::from_millis(5));
        quote.run(&mut tpm)
    })
    .take(200)
    .find(|answer| !matches!(answer, Err(TpmError::Code { code: RETRY, .. })))
    .expect("it becomes ready")
    .unwrap()
    .parameters;
    objects::flush(&mut tpm, key.handle).unwrap();
    let mut fields = Fields::new(&answer);
    let attest = fields.sized().unwrap().to_vec();
    TpmEvidence { attest, signature: fields.rest().to_vec(), bank: Bank::Sha256.id(), pcrs, public: key.public }
}

/// The value that a register holds now.
pub(crate) fn register(tpm: &Path, bank: Bank, pcr: u32) -> Vec<u8> {
    with_tpm(tpm, |tpm| objects::read_pcr(tpm, bank, pcr).unwrap())
}

pub(crate) fn with_tpm<T>(tpm: &Path, use_it: impl FnOnce(&mut dyn Channel) -> T) -> T {
    use_it(&mut Socket(UnixStream::connect(tpm).unwrap()))
}
