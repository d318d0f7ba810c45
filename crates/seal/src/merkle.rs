//! The Merkle tree of a batch (RFC 9162 §2.1): the hashes of a few messages, a root over them, and each one's path to it.

use aws_lc_rs::digest::{SHA256, digest};

/// A hash in the tree.
pub(crate) type Node = [u8; 32];

/// What the hash of a leaf is of begins so (RFC 9162 §2.1.1).
pub(crate) const LEAF: u8 = 0x00;
/// What the hash of another node is of begins so.
const NODE: u8 = 0x01;

/// The hash of a leaf: `marked` is [`LEAF`] and the message.
pub(crate) fn leaf(marked: &[u8]) -> Node {
    hash(marked)
}

fn parent(left: &Node, right: &Node) -> Node {
    let mut children = [NODE; 1 + 2 * size_of::<Node>()];
    let (one, other) = children[1..].split_at_mut(size_of::<Node>());
    one.copy_from_slice(left);
    other.copy_from_slice(right);
    hash(&children)
}

/// In one call, which takes half the time of one that is begun, fed and finished.
fn hash(bytes: &[u8]) -> Node {
    let mut out = Node::default();
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// All hashes over some messages.
///
/// Each level pairs the hashes of the one below; one that is left over goes up as it is. That is the tree of RFC 9162,
/// whose left half is the largest power of two.
pub(crate) struct Tree(Vec<Vec<Node>>);

impl Tree {
    pub(crate) fn new(leaves: Vec<Node>) -> Self {
        let mut levels = vec![leaves];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let pairs = level.chunks(2).map(|pair| match pair {
                [left, right] => parent(left, right),
                [single, ..] => *single,
                [] => Node::default(),
            });
            levels.push(pairs.collect());
        }
        Self(levels)
    }

    pub(crate) fn root(&self) -> Node {
        self.0.last().and_then(|level| level.first()).copied().unwrap_or_default()
    }

    /// How many messages it is over. A batch has no more than a byte can tell.
    pub(crate) fn size(&self) -> u8 {
        self.0.first().map_or(0, |leaves| leaves.len() as u8)
    }

    /// The hashes beside the way from leaf `index` to the root, from the bottom up.
    pub(crate) fn path(&self, index: usize) -> impl Iterator<Item = &Node> {
        self.0.iter().enumerate().filter_map(move |(level, nodes)| nodes.get((index >> level) ^ 1))
    }
}

/// On which side of the way from leaf `index` to the root of `size` leaves the next hash stands, from the bottom up.
fn sides(index: usize, size: usize) -> impl Iterator<Item = Side> {
    let levels = std::iter::successors(Some((index, size)), |(index, size)| Some((index / 2, size.div_ceil(2))));
    levels.take_while(|(_, size)| *size > 1).filter_map(|(index, size)| match index % 2 {
        1 => Some(Side::Left),
        _ if index + 1 < size => Some(Side::Right),
        _ => None,
    })
}

enum Side {
    Left,
    Right,
}

/// How many hashes the path of leaf `index` has.
pub(crate) fn path_len(index: usize, size: usize) -> usize {
    sides(index, size).count()
}

/// The root that `leaf` and its path lead to (RFC 9162 §2.1.3.2). `path` has [`path_len`] hashes.
pub(crate) fn root_of(leaf: Node, index: usize, size: usize, path: &[Node]) -> Node {
    sides(index, size).zip(path).fold(leaf, |node, (side, beside)| match side {
        Side::Left => parent(beside, &node),
        Side::Right => parent(&node, beside),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// MTH of RFC 9162 §2.1.1, by the letter.
    fn mth(leaves: &[Node]) -> Node {
        match leaves {
            [single] => *single,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                parent(&mth(left), &mth(right))
            }
        }
    }

    /// PATH of RFC 9162 §2.1.3.1, by the letter.
    fn path(index: usize, leaves: &[Node]) -> Vec<Node> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let k = split(leaves.len());
        let (left, right) = leaves.split_at(k);
        let (mut path, beside) =
            if index < k { (path(index, left), mth(right)) } else { (path(index - k, right), mth(left)) };
        path.push(beside);
        path
    }

    /// The largest power of two below `n`.
    fn split(n: usize) -> usize {
        n.next_power_of_two() / 2
    }

    fn leaves(count: usize) -> Vec<Node> {
        (0..count).map(|i| leaf(&[&[LEAF], i.to_be_bytes().as_slice()].concat())).collect()
    }

    #[test]
    fn roots_and_paths_are_those_of_the_rfc() {
        for size in 1..=130 {
            let leaves = leaves(size);
            let tree = Tree::new(leaves.clone());
            assert_eq!(tree.root(), mth(&leaves), "{size}");
            for (index, leaf) in leaves.iter().enumerate() {
                let expected = path(index, &leaves);
                let own: Vec<Node> = tree.path(index).copied().collect();
                assert_eq!((&own, path_len(index, size)), (&expected, expected.len()), "{index} of {size}");
                assert_eq!(root_of(*leaf, index, size, &own), tree.root());
            }
        }
    }

    #[test]
    fn the_hashes_are_those_of_the_rfc() {
        let hex = |node: Node| node.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // SHA-256 of 0x00, and of 0x01 and two of them: sha256sum says the same.
        assert_eq!(hex(leaf(&[LEAF])), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(
            hex(parent(&leaf(&[LEAF]), &leaf(&[LEAF]))),
            "fe43d66afa4a9a5c4f9c9da89f4ffb52635c8f342e7ffb731d68e36c5982072a"
        );
    }

    proptest! {
        #[test]
        fn another_leaf_place_or_path_leads_elsewhere(size in 2..65usize, index: prop::sample::Index, other: prop::sample::Index,
                                                      at: prop::sample::Index) {
            let (index, other) = (index.index(size), other.index(size));
            let leaves = leaves(size);
            let tree = Tree::new(leaves.clone());
            let path: Vec<Node> = tree.path(index).copied().collect();
            if index != other {
                prop_assert_ne!(root_of(leaves[other], index, size, &path), tree.root());
                if path_len(other, size) == path.len() {
                    prop_assert_ne!(root_of(leaves[index], other, size, &path), tree.root());
                }
            }
            let mut changed = path.clone();
            changed[at.index(path.len())][0] ^= 1;
            prop_assert_ne!(root_of(leaves[index], index, size, &changed), tree.root());
        }
    }
}
