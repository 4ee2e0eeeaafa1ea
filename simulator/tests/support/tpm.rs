//! A connection to the TPM of a machine, for tests that send commands themselves.

use simulator::Machine;
use simulator::tpm::Channel;
use simulator::tpm::command::{Command, Fields, NV_READ, NV_READ_PUBLIC, read_message};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;

pub(crate) struct Tpm(UnixStream);

impl Tpm {
    pub(crate) fn of(machine: &Machine) -> Tpm {
        Tpm(UnixStream::connect(machine.tpm().path()).unwrap())
    }

    pub(crate) fn nv(&mut self, index: u32) -> Vec<u8> {
        let public = Command::new(NV_READ_PUBLIC).handle(index).run(self).unwrap().parameters;
        let public = Fields::new(&public).sized().unwrap().to_vec();
        let size = u16::from_be_bytes(*public.last_chunk().unwrap());
        let mut content = Vec::new();
        while content.len() < usize::from(size) {
            let offset = u16::try_from(content.len()).unwrap();
            let read = Command::new(NV_READ).authorised(index).handle(index).u16((size - offset).min(1024)).u16(offset);
            content.extend(Fields::new(&read.run(self).unwrap().parameters).sized().unwrap());
        }
        content
    }
}

impl Channel for Tpm {
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        read_message(&mut self.0, 4096)
    }
}
