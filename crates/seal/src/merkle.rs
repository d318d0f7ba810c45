//! The Merkle tree of a batch (RFC 9162 §2.1): the hashes of a few messages, a root over them, and each one's path to it.

use aws_lc_rs::digest::{SHA256, digest};

/// A hash in the tree.
pub type Node = [u8; 32];

/// What the hash of a leaf is of begins so (RFC 9162 §2.1.1).
pub const LEAF: u8 = 0x00;
/// What the hash of another node is of begins so.
const NODE: u8 = 0x01;

/// The hash of a leaf: `marked` is [`LEAF`] and the message.
#[must_use]
pub fn leaf(marked: &[u8]) -> Node {
    hash(marked)
}

/// The hash of a node above two others.
#[must_use]
pub fn parent(left: &Node, right: &Node) -> Node {
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

/// On which side of the way from leaf `index` to the root of `size` leaves the next hash stands, for each level from the
/// bottom up; `None` where there is nothing beside the way.
fn sides(index: usize, size: usize) -> impl Iterator<Item = Option<Side>> {
    let levels = std::iter::successors(Some((index, size)), |(index, size)| Some((index / 2, size.div_ceil(2))));
    levels.take_while(|(_, size)| *size > 1).map(|(index, size)| match index % 2 {
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
    sides(index, size).flatten().count()
}

/// The way from a leaf to the root, with all hashes on it and beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    index: usize,
    size: usize,
    /// From the leaf up, without the root.
    levels: Vec<Level>,
    root: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    on: Node,
    beside: Option<Node>,
}

impl Way {
    /// Where `leaf` and its path lead to (RFC 9162 §2.1.3.2). `path` has [`path_len`] hashes.
    pub(crate) fn new(leaf: Node, index: usize, size: usize, path: &[Node]) -> Self {
        let mut levels = Vec::with_capacity(path.len() + 1);
        let root = climb(leaf, sides(index, size), &mut path.iter(), &mut levels);
        Self { index, size, levels, root }
    }

    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    /// How many leaves the tree has.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Whether another leaf of the tree and its path lead to the same root. If so this becomes its way. That hashes only what
    /// is below the place where the two ways meet: above it, the path has to be the same, hash by hash.
    pub(crate) fn turn_to(&mut self, leaf: Node, index: usize, path: &[Node]) -> bool {
        let meet = (usize::BITS - (self.index ^ index).leading_zeros()) as usize;
        let mut path = path.iter();
        let Some(apart) = meet.checked_sub(1) else {
            let own = self.levels.first().map_or(self.root, |level| level.on);
            return own == leaf && path.eq(self.beside_from(0));
        };
        // One level below they stand beside each other.
        let mut levels = Vec::with_capacity(meet);
        let on = climb(leaf, sides(index, self.size).take(apart), &mut path, &mut levels);
        let Some(level) = self.levels.get(apart) else { return false };
        if level.beside != Some(on) || path.next() != Some(&level.on) || !path.eq(self.beside_from(meet)) {
            return false;
        }
        levels.push(Level { on, beside: Some(level.on) });
        self.levels.iter_mut().zip(levels).for_each(|(known, level)| *known = level);
        self.index = index;
        true
    }

    fn beside_from(&self, level: usize) -> impl Iterator<Item = &Node> {
        self.levels.iter().skip(level).filter_map(|level| level.beside.as_ref())
    }
}

/// Goes up from `node`, notes each level, and gives the hash that is reached.
fn climb<'n>(
    node: Node,
    sides: impl Iterator<Item = Option<Side>>,
    path: &mut impl Iterator<Item = &'n Node>,
    levels: &mut Vec<Level>,
) -> Node {
    sides.fold(node, |on, side| {
        let beside = side.as_ref().and_then(|_| path.next().copied());
        levels.push(Level { on, beside });
        match (side, beside) {
            (Some(Side::Left), Some(beside)) => parent(&beside, &on),
            (Some(Side::Right), Some(beside)) => parent(&on, &beside),
            _ => on,
        }
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
                assert_eq!(*Way::new(*leaf, index, size, &own).root(), tree.root());
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

    fn path_of(tree: &Tree, index: usize) -> Vec<Node> {
        tree.path(index).copied().collect()
    }

    #[test]
    fn the_way_of_a_lone_leaf_is_that_leafs_alone() {
        let [own, other] = [leaf(b"own"), leaf(b"other")];
        let mut way = Way::new(own, 0, 1, &[]);
        assert!(way.turn_to(own, 0, &[]) && !way.turn_to(other, 0, &[]) && !way.turn_to(own, 0, &[other]));
    }

    proptest! {
        #[test]
        fn another_leaf_place_or_path_leads_elsewhere(size in 2..130usize, index: prop::sample::Index, other: prop::sample::Index,
                                                      at: prop::sample::Index) {
            let (index, other) = (index.index(size), other.index(size));
            let leaves = leaves(size);
            let tree = Tree::new(leaves.clone());
            let path = path_of(&tree, index);
            let root_of = |leaf, index, path: &[Node]| *Way::new(leaf, index, size, path).root();
            if index != other {
                prop_assert_ne!(root_of(leaves[other], index, &path), tree.root());
                if path_len(other, size) == path.len() {
                    prop_assert_ne!(root_of(leaves[index], other, &path), tree.root());
                }
            }
            let mut changed = path.clone();
            changed[at.index(path.len())][0] ^= 1;
            prop_assert_ne!(root_of(leaves[index], index, &changed), tree.root());
        }

        /// However the leaves follow each other.
        #[test]
        fn a_way_turns_to_the_leaves_of_its_tree(size in 2..130usize, order: Vec<prop::sample::Index>) {
            let leaves = leaves(size);
            let tree = Tree::new(leaves.clone());
            let way_of = |index: usize| Way::new(leaves[index], index, size, &path_of(&tree, index));
            let mut way = way_of(0);
            for index in order.into_iter().map(|index| index.index(size)) {
                prop_assert!(way.turn_to(leaves[index], index, &path_of(&tree, index)));
                prop_assert_eq!(&way, &way_of(index));
            }
        }

        /// Nor with a hash that is wrong, missing or too much.
        #[test]
        fn a_way_turns_to_nothing_else(size in 2..130usize, from: prop::sample::Index, to: prop::sample::Index,
                                       other: prop::sample::Index, at: prop::sample::Index) {
            let (from, to, other) = (from.index(size), to.index(size), other.index(size));
            let leaves = leaves(size);
            let tree = Tree::new(leaves.clone());
            let before = Way::new(leaves[from], from, size, &path_of(&tree, from));
            let mut way = before.clone();
            let path = path_of(&tree, to);
            let mut changed = path.clone();
            changed[at.index(path.len())][0] ^= 1;
            prop_assert!(!way.turn_to(leaves[to], to, &changed));
            prop_assert!(!way.turn_to(leaves[to], to, &path[1..]));
            prop_assert!(!way.turn_to(leaves[to], to, &[&path[..], &path[..1]].concat()));
            if to != other {
                prop_assert!(!way.turn_to(leaves[other], to, &path));
                prop_assert!(!way.turn_to(leaves[to], other, &path));
            }
            prop_assert_eq!(way, before);
        }
    }
}
