//! What the fuzz targets hold true for every input, one function per target.
//!
//! ```text
//! wire      frame  statement  attest  control  parts  bundle  merkle     bytes of a peer, or of a file made from them
//! evidence  report  certificate  chain  table  cmw                       bytes of a host, a guest, a key service
//! platforms hcl  runtime_json  tpms_attest  tpmt_public  tpmt_signature  event_log  ima  svsm_manifest  ovmf  nitro  gce_endorsement
//!                                                                        what the platforms add
//! artefacts igvm  dsse  verity  uki                                      files that reference values are made from
//! records   records                                                      records of a peer after its handshake
//! policy    policy                                                       a file of the operator
//! ways_in   http  socks  tls                                             bytes of a client before anything is decided
//! ```
//!
//! "Does not panic" is the least of it: what is accepted is written again and compared with what was read, and nothing that a
//! fuzzer can write may pass for verified evidence. A hang and too much memory are libFuzzer's to find (README.md).

#![forbid(unsafe_code)]

pub mod artefacts;
pub mod evidence;
pub mod platforms;
pub mod policy;
pub mod records;
pub mod tagged;
pub mod ways_in;
pub mod wire;
