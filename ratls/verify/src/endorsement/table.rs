//! The certificate table that comes with an extended report.
//!
//! The host wrote it: entries of {GUID, offset, length}, ended by an entry of zeros, then the blobs. It is material for building
//! a chain and nothing more. GUIDs stand in the byte order of RFC 4122, unlike those of the OVMF and SVSM tables.
//! Source: AMD GHCB specification, SNP Extended Guest Request; Linux Documentation/virt/coco/sev-guest.rst.

use formats::bytes::Reader;
use formats::guid::NetworkGuid;

/// Bytes of a table: four pages, as the Linux driver reads.
pub const MAX_TABLE_BYTES: usize = 0x4000;
const ENTRY_LEN: usize = 24;

/// What a blob of the table is. Others are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TableItem {
    Vcek,
    Vlek,
    /// Or ASVK.
    Ask,
    Ark,
    Crl,
    /// Google's launch endorsement of the firmware.
    LaunchEndorsement,
}

impl TableItem {
    const ALL: [TableItem; 6] = [
        TableItem::Vcek,
        TableItem::Vlek,
        TableItem::Ask,
        TableItem::Ark,
        TableItem::Crl,
        TableItem::LaunchEndorsement,
    ];

    const fn guid(self) -> NetworkGuid {
        match self {
            TableItem::Vcek => NetworkGuid::new(0x63da_758d, 0xe664, 0x4564, 0xadc5_f4b9_3be8_accd),
            TableItem::Vlek => NetworkGuid::new(0xa807_4bc2, 0xa25a, 0x483e, 0xaae6_39c0_45a0_b8a1),
            TableItem::Ask => NetworkGuid::new(0x4ab7_b379, 0xbbac, 0x4fe4, 0xa02f_05ae_f327_c782),
            TableItem::Ark => NetworkGuid::new(0xc0b4_06a4, 0xa803, 0x4952, 0x9743_3fb6_014c_d0ae),
            TableItem::Crl => NetworkGuid::new(0x92f8_1bc3, 0x5811, 0x4d3d, 0x97ff_d19f_88dc_67ea),
            TableItem::LaunchEndorsement => NetworkGuid::new(0x9f41_16cd, 0xc503, 0x4f5a, 0x8f6f_fb68_882f_4ce2),
        }
    }
}

/// Why a table is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    #[error("the certificate table has {seen} bytes, at most {MAX_TABLE_BYTES} are read")]
    TooLarge { seen: usize },
    #[error("the certificate table does not end with an entry of zeros")]
    Unterminated,
    #[error("entry {index} of the certificate table points outside: {len} bytes at {offset}")]
    Bounds { index: usize, offset: u32, len: u32 },
    #[error("the certificate table has {item:?} twice")]
    Duplicate { item: TableItem },
}

/// A table that was parsed; its blobs are untrusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateTable<'a> {
    items: Vec<(TableItem, &'a [u8])>,
}

impl<'a> CertificateTable<'a> {
    /// No bytes at all are an empty table: the host gave none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TableError> {
        if bytes.len() > MAX_TABLE_BYTES {
            return Err(TableError::TooLarge { seen: bytes.len() });
        }
        let entries = read_entries(bytes)?;
        let header_len = (entries.len() + 1) * ENTRY_LEN;
        let mut items = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let blob = entry.blob(bytes, header_len).ok_or(TableError::Bounds {
                index,
                offset: entry.offset,
                len: entry.len,
            })?;
            let Some(item) = TableItem::ALL.into_iter().find(|item| item.guid() == entry.guid) else { continue };
            if blob.is_empty() {
                continue; // a place that the host did not fill
            }
            if items.iter().any(|(known, _)| *known == item) {
                return Err(TableError::Duplicate { item });
            }
            items.push((item, blob));
        }
        Ok(CertificateTable { items })
    }

    pub fn get(&self, item: TableItem) -> Option<&'a [u8]> {
        self.items.iter().find(|(known, _)| *known == item).map(|(_, blob)| *blob)
    }

    /// What a chain can be built of, in the order of the table. The ARK is left out: roots are pinned.
    pub fn certificates(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        let chain = |item| matches!(item, TableItem::Vcek | TableItem::Vlek | TableItem::Ask);
        self.items.iter().filter(move |(item, _)| chain(*item)).map(|(_, blob)| *blob)
    }
}

struct Entry {
    guid: NetworkGuid,
    offset: u32,
    len: u32,
}

impl Entry {
    /// The blob lies behind the entries and inside the table.
    fn blob<'a>(&self, table: &'a [u8], header_len: usize) -> Option<&'a [u8]> {
        let start = usize::try_from(self.offset).ok().filter(|start| *start >= header_len)?;
        let end = start.checked_add(usize::try_from(self.len).ok()?)?;
        table.get(start..end)
    }
}

fn read_entries(bytes: &[u8]) -> Result<Vec<Entry>, TableError> {
    let mut entries = Vec::new();
    let mut reader = Reader::new(bytes);
    while reader.left() > 0 {
        let raw: [u8; ENTRY_LEN] = reader.array().map_err(|_| TableError::Unterminated)?;
        if raw == [0; ENTRY_LEN] {
            return Ok(entries);
        }
        let mut fields = Reader::new(&raw);
        let guid = fields.array().map(NetworkGuid::from_bytes);
        let (offset, len) = (fields.u32_le(), fields.u32_le());
        match (guid, offset, len) {
            (Ok(guid), Ok(offset), Ok(len)) => entries.push(Entry { guid, offset, len }),
            _ => return Err(TableError::Unterminated),
        }
    }
    if bytes.is_empty() { Ok(entries) } else { Err(TableError::Unterminated) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: NetworkGuid = NetworkGuid::new(0xecae_0c0f, 0x9502, 0x43b1, 0xafa2_0ae2_e0d5_65b6);

    /// A table of these entries, with `blobs` behind them.
    fn table(entries: &[(NetworkGuid, u32, u32)], blobs: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (guid, offset, len) in entries {
            bytes.extend(guid.to_bytes());
            bytes.extend(offset.to_le_bytes());
            bytes.extend(len.to_le_bytes());
        }
        bytes.extend([0; ENTRY_LEN]);
        bytes.extend(blobs);
        bytes
    }

    #[test]
    fn finds_blobs_by_guid_and_ignores_unknown_ones() {
        let guid = TableItem::Vcek.guid();
        assert_eq!(guid.to_bytes()[..4], [0x63, 0xda, 0x75, 0x8d]);
        let bytes = table(
            &[(UNKNOWN, 96, 1), (TableItem::Ark.guid(), 96, 3), (TableItem::Ask.guid(), 97, 2), (UNKNOWN, 96, 0)],
            b"",
        );
        assert_eq!(CertificateTable::parse(&bytes), Err(TableError::Bounds { index: 0, offset: 96, len: 1 }));
        let bytes =
            table(&[(UNKNOWN, 120, 1), (TableItem::Ark.guid(), 120, 3), (guid, 121, 2), (UNKNOWN, 122, 0)], b"abc");
        let parsed = CertificateTable::parse(&bytes).unwrap();
        assert_eq!(parsed.get(TableItem::Ark), Some(&b"abc"[..]));
        assert_eq!(parsed.get(TableItem::Vcek), Some(&b"bc"[..]));
        assert_eq!(parsed.get(TableItem::Crl), None);
        assert_eq!(parsed.certificates().collect::<Vec<_>>(), [b"bc"]);
        let empty = table(&[(guid, 48, 0)], b"");
        assert_eq!(CertificateTable::parse(&empty), Ok(CertificateTable::default()));
    }

    #[test]
    fn refuses_offsets_and_lengths_outside() {
        let guid = TableItem::Vcek.guid();
        let refused = |offset, len| {
            let bytes = table(&[(guid, offset, len)], b"abcd");
            CertificateTable::parse(&bytes) == Err(TableError::Bounds { index: 0, offset, len })
        };
        assert!(!refused(48, 4) && !refused(52, 0));
        assert!(refused(48, 5) && refused(49, 4) && refused(53, 0));
        assert!(refused(47, 1), "a blob must not lie in the entries");
        assert!(refused(u32::MAX, u32::MAX) && refused(48, u32::MAX) && refused(u32::MAX, 1));
    }

    #[test]
    fn refuses_the_same_guid_twice_where_it_is_used() {
        let guid = TableItem::Vlek.guid();
        let bytes = table(&[(guid, 72, 1), (guid, 72, 1)], b"a");
        assert_eq!(CertificateTable::parse(&bytes), Err(TableError::Duplicate { item: TableItem::Vlek }));
        let unknown = table(&[(UNKNOWN, 72, 1), (UNKNOWN, 72, 1)], b"a");
        assert!(CertificateTable::parse(&unknown).is_ok());
    }

    #[test]
    fn refuses_a_table_without_end_or_too_large() {
        let bytes = table(&[(TableItem::Vcek.guid(), 48, 0)], b"");
        for cut in 1..bytes.len() {
            assert_eq!(CertificateTable::parse(&bytes[..cut]), Err(TableError::Unterminated), "cut at {cut}");
        }
        assert_eq!(CertificateTable::parse(&[]), Ok(CertificateTable::default()));
        assert!(CertificateTable::parse(&[0; MAX_TABLE_BYTES]).is_ok());
        assert_eq!(
            CertificateTable::parse(&[0; MAX_TABLE_BYTES + 1]),
            Err(TableError::TooLarge { seen: MAX_TABLE_BYTES + 1 })
        );
    }
}
