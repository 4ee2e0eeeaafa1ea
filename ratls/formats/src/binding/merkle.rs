//! The tree of RFC 9162 §2.1 over leaves 0..n-1, its paths, and their check.
//!
//! Building level by level and carrying an odd last node up unchanged gives exactly the RFC's shape (largest power of two
//! to the left). Leaves and inner nodes have different first bytes, and n stands in the signed statement, so neither an
//! inner node nor a path of another length can pass for a leaf.

use crate::binding::leaf::LeafHash;
use crate::crypto::sha256;
use crate::digest::bytes_type;
pub use crate::wire::attest::Sibling;
pub use crate::wire::limits::MAX_PATH;

bytes_type!(
    /// Root of a tree.
    Root, 32);

/// Most leaves of one tree (docs/protocol.md, "Tree").
pub const MAX_LEAVES: u32 = 65_536;

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    *sha256(&[&[1], left, right]).as_bytes()
}

/// All levels of a tree, leaves first.
#[derive(Debug)]
pub struct Tree {
    levels: Vec<Vec<[u8; 32]>>,
}

/// A tree has between 1 and [`MAX_LEAVES`] leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tree has 1 to {MAX_LEAVES} leaves, not {0}")]
pub struct LeafCount(pub usize);

impl Tree {
    pub fn build(leaves: &[LeafHash]) -> Result<Self, LeafCount> {
        if leaves.is_empty() || leaves.len() > MAX_LEAVES as usize {
            return Err(LeafCount(leaves.len()));
        }
        let mut levels = vec![leaves.iter().map(|leaf| *leaf.as_bytes()).collect::<Vec<_>>()];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let next = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => node(left, right),
                    [odd] => *odd,
                    _ => unreachable!("chunks(2) gives one or two"),
                })
                .collect();
            levels.push(next);
        }
        Ok(Tree { levels })
    }

    pub fn root(&self) -> Root {
        let top = self.levels.last().and_then(|level| level.first());
        Root::from_bytes(*top.expect("a tree has at least one leaf"))
    }

    /// Number of leaves.
    pub fn n(&self) -> u32 {
        u32::try_from(self.levels[0].len()).expect("build() bounds the leaves")
    }

    /// The path of leaf `index`, nearest sibling first; `None` where there is no such leaf.
    pub fn path(&self, index: u32) -> Option<Vec<Sibling>> {
        let mut at = usize::try_from(index).ok().filter(|i| *i < self.levels[0].len())?;
        let mut path = Vec::with_capacity(MAX_PATH);
        for level in &self.levels {
            if let Some(sibling) = level.get(at ^ 1) {
                path.push(Sibling::from_bytes(*sibling));
            }
            at /= 2;
        }
        Some(path)
    }
}

/// The path does not belong to a leaf at that index of a tree of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    #[error("n is {0}; a tree has 1 to {MAX_LEAVES} leaves")]
    Size(u64),
    #[error("index {index} is not below n = {n}")]
    Index { index: u64, n: u32 },
    #[error("the path has {seen} hashes; index {index} of {n} needs {wanted}")]
    Length { seen: usize, wanted: usize, index: u32, n: u32 },
}

/// The root that this leaf and path lead to (RFC 9162 §2.1.3.2, with the exact length). The caller compares it.
pub fn root_from_path(leaf: &LeafHash, index: u64, n: u64, path: &[Sibling]) -> Result<Root, PathError> {
    let n = u32::try_from(n).ok().filter(|n| (1..=MAX_LEAVES).contains(n)).ok_or(PathError::Size(n))?;
    let index = u32::try_from(index).ok().filter(|i| *i < n).ok_or(PathError::Index { index, n })?;
    let wanted = path_length(index, n);
    if path.len() != wanted {
        return Err(PathError::Length { seen: path.len(), wanted, index, n });
    }
    let (mut at, mut last) = (index, n - 1);
    let mut hash = *leaf.as_bytes();
    for sibling in path {
        // Levels at which our node is an odd last one add nothing to the path.
        while at == last && at.is_multiple_of(2) && last != 0 {
            at /= 2;
            last /= 2;
        }
        hash = if at % 2 == 1 { node(sibling.as_bytes(), &hash) } else { node(&hash, sibling.as_bytes()) };
        at /= 2;
        last /= 2;
    }
    Ok(Root::from_bytes(hash))
}

fn path_length(index: u32, n: u32) -> usize {
    let (mut at, mut last, mut length) = (index, n - 1, 0);
    while last > 0 {
        if at % 2 == 1 || at < last {
            length += 1;
        }
        at /= 2;
        last /= 2;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves(n: u32) -> Vec<LeafHash> {
        (0..n).map(|i| LeafHash::from_bytes(*sha256(&[&i.to_be_bytes()]).as_bytes())).collect()
    }

    /// MTH of RFC 9162 §2.1.1, written recursively as the RFC has it.
    fn reference_root(leaves: &[LeafHash]) -> [u8; 32] {
        if let [leaf] = leaves {
            return *leaf.as_bytes();
        }
        let split = (leaves.len() - 1).ilog2();
        let (left, right) = leaves.split_at(1 << split);
        node(&reference_root(left), &reference_root(right))
    }

    /// PATH of RFC 9162 §2.1.3.1, recursively.
    fn reference_path(index: usize, leaves: &[LeafHash]) -> Vec<Sibling> {
        if leaves.len() == 1 {
            return vec![];
        }
        let split = 1 << (leaves.len() - 1).ilog2();
        let (left, right) = leaves.split_at(split);
        let (mut path, other) = if index < split {
            (reference_path(index, left), reference_root(right))
        } else {
            (reference_path(index - split, right), reference_root(left))
        };
        path.push(Sibling::from_bytes(other));
        path
    }

    #[test]
    fn proto_m9_every_leaf_of_every_small_tree_verifies() {
        for n in 1..=70 {
            let leaves = leaves(n);
            let tree = Tree::build(&leaves).unwrap();
            assert_eq!(tree.root().as_bytes(), &reference_root(&leaves));
            for (i, leaf) in leaves.iter().enumerate() {
                let path = tree.path(i as u32).unwrap();
                assert_eq!(root_from_path(leaf, i as u64, u64::from(n), &path), Ok(tree.root()), "leaf {i} of {n}");
            }
            assert_eq!(tree.path(n), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn proto_m10_random_trees_agree_with_the_reference_of_rfc_9162(n in 1u32..3000, pick in any::<u32>()) {
            let leaves = leaves(n);
            let tree = Tree::build(&leaves).unwrap();
            let index = pick % n;
            let path = tree.path(index).unwrap();
            prop_assert_eq!(&path, &reference_path(index as usize, &leaves));
            prop_assert_eq!(*tree.root().as_bytes(), reference_root(&leaves));
            prop_assert_eq!(root_from_path(&leaves[index as usize], index.into(), n.into(), &path), Ok(tree.root()));
        }
    }

    #[test]
    fn proto_m1_inner_node_offered_as_leaf_leads_elsewhere_or_has_the_wrong_length() {
        let leaves = leaves(4);
        let tree = Tree::build(&leaves).unwrap();
        let inner = LeafHash::from_bytes(node(leaves[0].as_bytes(), leaves[1].as_bytes()));
        let path = tree.path(0).unwrap();
        assert_eq!(
            root_from_path(&inner, 0, 4, &path[1..]).unwrap_err(),
            PathError::Length { seen: 1, wanted: 2, index: 0, n: 4 }
        );
        // With n = 2 the hashes would fit: n stands in the signed statement, and a leaf's preimage starts with 0x00.
        assert_eq!(root_from_path(&inner, 0, 2, &path[1..]), Ok(tree.root()));
    }

    #[test]
    fn proto_m2_path_one_longer_or_one_shorter_is_refused() {
        let leaves = leaves(5);
        let tree = Tree::build(&leaves).unwrap();
        for (i, leaf) in leaves.iter().enumerate() {
            let mut path = tree.path(i as u32).unwrap();
            path.push(Sibling::from_bytes([0; 32]));
            assert!(matches!(root_from_path(leaf, i as u64, 5, &path), Err(PathError::Length { .. })));
            path.truncate(path.len().saturating_sub(2));
            assert!(matches!(root_from_path(leaf, i as u64, 5, &path), Err(PathError::Length { .. })));
        }
    }

    #[test]
    fn proto_m3_index_and_size_out_of_range_are_refused() {
        let leaf = leaves(1)[0];
        assert_eq!(root_from_path(&leaf, 1, 1, &[]), Err(PathError::Index { index: 1, n: 1 }));
        assert_eq!(root_from_path(&leaf, 0, 0, &[]), Err(PathError::Size(0)));
        assert_eq!(root_from_path(&leaf, 0, 65_537, &[]), Err(PathError::Size(65_537)));
        assert_eq!(root_from_path(&leaf, u64::MAX, u64::MAX, &[]), Err(PathError::Size(u64::MAX)));
        let two = leaves(2);
        let path = Tree::build(&two).unwrap().path(0).unwrap();
        assert_ne!(root_from_path(&two[0], 1, 2, &path), Ok(Tree::build(&two).unwrap().root()), "wrong index");
        assert!(root_from_path(&two[0], 0, 3, &path).is_err(), "wrong n");
    }

    #[test]
    fn proto_m4_swapped_order_leads_to_another_root() {
        let leaves = leaves(3);
        let tree = Tree::build(&leaves).unwrap();
        let mut path = tree.path(0).unwrap();
        path.swap(0, 1);
        assert_ne!(root_from_path(&leaves[0], 0, 3, &path), Ok(tree.root()));
        let swapped = LeafHash::from_bytes(*tree.path(0).unwrap()[0].as_bytes());
        assert_ne!(
            root_from_path(&swapped, 0, 3, &[Sibling::from_bytes(*leaves[0].as_bytes()), path[0]]),
            Ok(tree.root())
        );
    }

    #[test]
    fn largest_tree_has_paths_of_sixteen() {
        let leaves = leaves(MAX_LEAVES);
        let tree = Tree::build(&leaves).unwrap();
        assert_eq!(tree.path(MAX_LEAVES - 1).unwrap().len(), MAX_PATH);
        assert_eq!(Tree::build(&[]).unwrap_err(), LeafCount(0));
    }
}
