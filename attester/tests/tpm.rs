//! A TPM that is busy, locked out, hung or torn, and one whose registers and handles change under us. swtpm answers what is not scripted.

#![allow(clippy::unwrap_used)] // all of this is test code

use attester::tpm::{Address, AkSource, Hierarchy, Link, Patience, Tpm, TpmError, TpmQueue};
use ratls::evidence::tpm::{Bank, PcrValues, Public, Signature};
use ratls::verify::verify_quote;
use simulator::tpm::objects::{self, template};
use simulator::tpm::{Front, Passed, Swtpm};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PCR_READ: u32 = 0x17E;
const QUOTE: u32 = 0x158;
const QUICK: Patience = Patience {
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(4),
    total: Duration::from_millis(60),
};

/// What happens to commands on their way.
#[derive(Default)]
struct Script {
    /// Response codes instead of answers, in turn.
    refuse: VecDeque<u32>,
    /// Every command of this code is preceded by an extension of PCR 12.
    extend_before: Option<(u32, u32)>,
    /// Responses are cut to so many bytes.
    cut: Option<usize>,
    seen: Vec<u32>,
}

struct Between {
    tpm: Box<dyn Link>,
    front: Arc<Front>,
    script: Arc<Mutex<Script>>,
}

impl Link for Between {
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let code = u32::from_be_bytes(command[6..10].try_into().unwrap());
        let mut script = self.script.lock().unwrap();
        script.seen.push(code);
        if let Some(refusal) = script.refuse.pop_front() {
            return Ok([&[0x80, 1, 0, 0, 0, 10][..], &refusal.to_be_bytes()].concat());
        }
        if let Some((at, times)) = script.extend_before
            && at == code
            && times > 0
        {
            script.extend_before = Some((at, times - 1));
            let digest = objects::Bank::Sha256.hash(&times.to_be_bytes());
            self.front.with_tpm(|tpm| objects::extend(tpm, 12, &[(objects::Bank::Sha256, digest)])).unwrap();
        }
        let mut response = self.tpm.transmit(command)?;
        if let Some(length) = script.cut {
            response.truncate(length);
        }
        Ok(response)
    }
}

struct Rig {
    tpm: Tpm,
    front: Arc<Front>,
    script: Arc<Mutex<Script>>,
    _dir: TempDir,
}

impl Rig {
    fn start() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let swtpm = Swtpm::start(&dir.path().join("state"), &dir.path().join("swtpm")).unwrap();
        let front = Arc::new(Front::listen(&dir.path().join("tpm"), swtpm, Box::new(Passed)).unwrap());
        let address: Address = front.tcti().parse().unwrap();
        let script = Arc::new(Mutex::new(Script::default()));
        let link = Between { tpm: address.open().unwrap(), front: front.clone(), script: script.clone() };
        let tpm = Tpm::over(address, Box::new(link)).with_patience(QUICK);
        Rig { tpm, front, script, _dir: dir }
    }

    fn with_ak() -> Rig {
        let mut rig = Rig::start();
        let source = AkSource::Primary(Hierarchy::Owner, template::ecc_signing(&[7; 32]));
        rig.tpm.load_ak(source).unwrap();
        // The first use of an algorithm is TPM_RC_TESTING, which passes by itself.
        rig.quote().unwrap();
        rig.script().seen.clear();
        rig
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// A quote, checked as a client checks it.
    fn quote(&mut self) -> Result<PcrValues, TpmError> {
        let quote = self.tpm.quote(&[9; 32], Bank::Sha256)?;
        let values = quote.pcrs.iter().map(|(index, value)| (*index, value.as_slice()));
        let values = PcrValues::new(Bank::Sha256, values).unwrap();
        let (public, signature) = (Public::parse(&quote.public).unwrap(), Signature::parse(&quote.signature).unwrap());
        let verified = verify_quote(&public, &quote.attest, &signature, &[9; 32], &values).unwrap();
        Ok(verified.pcrs().clone())
    }
}

#[test]
fn what_passes_by_itself_is_waited_for() {
    let mut rig = Rig::start();
    // RETRY, YIELDED, TESTING, NV_RATE, OBJECT_MEMORY.
    rig.script().refuse.extend([0x922, 0x908, 0x90A, 0x920, 0x902]);
    assert_eq!(rig.tpm.property(0x100).unwrap(), Some(0x322E_3000), "TPM_PT_FAMILY_INDICATOR: \"2.0\"");
    assert_eq!(rig.script().seen.len(), 6);
}

#[test]
fn a_tpm_that_stays_busy_is_busy_and_says_with_what() {
    let mut rig = Rig::start();
    rig.script().refuse.extend([0x922; 1000]);
    let started = Instant::now();
    let error = rig.tpm.property(0x100).unwrap_err();
    assert!(matches!(error, TpmError::Busy { .. }) && error.to_string().contains("TPM_RC_RETRY"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
    rig.script().refuse.clear();
    assert!(rig.tpm.property(0x100).is_ok(), "and works when it is not busy any more");
}

#[test]
fn lockout_is_told_at_once_and_not_tried_again() {
    let mut rig = Rig::with_ak();
    rig.script().refuse.push_back(0x921);
    let error = rig.quote().unwrap_err();
    assert!(matches!(error, TpmError::Lockout) && error.to_string().contains("lockout"), "{error}");
    assert_eq!(rig.script().seen.len(), 1);
    assert!(rig.quote().is_ok());
}

#[test]
fn a_register_that_moves_before_the_quote_is_read_again() {
    let mut rig = Rig::with_ak();
    let before = rig.quote().unwrap();
    rig.script().extend_before = Some((QUOTE, 2));
    let after = rig.quote().unwrap();
    assert_ne!(before.value(12), after.value(12));
    let quotes = rig.script().seen.iter().filter(|code| **code == QUOTE).count();
    assert_eq!(quotes, 4, "one for the first, and three until nothing moved");
}

#[test]
fn a_register_that_moves_between_two_reads_is_read_again() {
    let mut rig = Rig::with_ak();
    rig.script().extend_before = Some((PCR_READ, 2));
    assert!(rig.quote().is_ok());
    let quotes = rig.script().seen.iter().filter(|code| **code == QUOTE).count();
    assert_eq!(quotes, 1, "the update counter told before anything was signed");
}

#[test]
fn registers_that_never_rest_are_an_error_and_not_a_loop() {
    let mut rig = Rig::with_ak();
    rig.script().extend_before = Some((QUOTE, u32::MAX));
    assert!(matches!(rig.quote(), Err(TpmError::PcrsMove { attempts: 5 })));
}

#[test]
fn a_key_that_was_evicted_is_made_again_and_is_the_same() {
    let mut rig = Rig::with_ak();
    let first = rig.tpm.quote(&[9; 32], Bank::Sha256).unwrap();
    rig.front.with_tpm(|tpm| {
        for handle in objects::handles(tpm, 0x8000_0000).unwrap() {
            objects::flush(tpm, handle).unwrap();
        }
    });
    let second = rig.tpm.quote(&[9; 32], Bank::Sha256).unwrap();
    assert_eq!(first.public, second.public);
}

#[test]
fn a_persistent_key_that_is_not_there_is_named() {
    let mut rig = Rig::start();
    let error = rig.tpm.load_ak(AkSource::Persistent(0x8100_0003)).unwrap_err();
    assert!(error.to_string().contains("0x81000003"), "{error}");
}

#[test]
fn a_response_that_is_cut_anywhere_is_malformed() {
    let mut rig = Rig::with_ak();
    // Header, moreData, capability, count, one property.
    let whole = 10 + 1 + 4 + 4 + 8;
    for length in 0..whole {
        rig.script().cut = Some(length);
        let property = rig.tpm.property(0x100).map(drop);
        let (quote, public) = (rig.quote().map(drop), rig.tpm.public(0x8000_0000).map(drop));
        for result in [property, quote, public] {
            assert!(matches!(result, Err(TpmError::Malformed { .. })), "{length}: {result:?}");
        }
    }
    rig.script().cut = Some(whole);
    assert!(rig.tpm.property(0x100).is_ok());
}

#[test]
fn a_tpm_that_hangs_costs_its_callers_their_patience_and_nobody_the_thread() {
    struct Hung(mpsc::Receiver<()>, Box<dyn Link>);
    impl Link for Hung {
        fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
            // Fails when the test lets go, and then it is an ordinary TPM.
            let _ = self.0.recv();
            self.1.transmit(command)
        }
    }
    let rig = Rig::start();
    let (hold, held) = mpsc::channel();
    let address = rig.tpm.address().clone();
    let link = Hung(held, address.open().unwrap());
    let queue = TpmQueue::start(Tpm::over(address, Box::new(link))).unwrap().with_answer(Duration::from_millis(100));
    for _ in 0..2 {
        let error = queue.call(|tpm| tpm.property(0x100)).unwrap_err();
        assert!(matches!(error, TpmError::TimedOut { .. }), "{error}");
    }
    drop(hold);
    let queue = queue.with_answer(Duration::from_secs(20));
    assert!(queue.call(|tpm| tpm.property(0x100)).is_ok());
}
