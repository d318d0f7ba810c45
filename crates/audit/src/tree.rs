//! The tree of a series (RFC 9162, section 2.1), of any size: its root, what a device keeps to go on, and proofs about it.

use sealcast_seal::merkle::{Node, parent};

/// What is needed of a tree to add leaves: the roots of the complete subtrees that it consists of, the largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Node>,
}

impl Frontier {
    /// From what [`to_bytes`](Self::to_bytes) wrote of a tree of `size` leaves; `None` if it is not of such a tree.
    #[must_use]
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Option<Self> {
        let (peaks, rest) = bytes.as_chunks::<32>();
        let fits = rest.is_empty() && peaks.len() == size.count_ones() as usize;
        fits.then(|| Self { size, peaks: peaks.to_vec() })
    }

    /// The hashes one after the other.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.peaks.concat()
    }

    /// How many leaves the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf behind the last one.
    pub fn append(&mut self, leaf: Node) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            node = parent(&left, &node);
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The root; `None` without leaves.
    #[must_use]
    pub fn root(&self) -> Option<Node> {
        self.peaks.iter().rev().copied().reduce(|right, left| parent(&left, &right))
    }

    /// The root of the complete subtree of these leaves, if it is one of the peaks.
    fn peak(&self, start: u64, size: u64) -> Option<Node> {
        let mut at = 0;
        for (peak, bit) in self.peaks.iter().zip((0..u64::BITS).rev().filter(|bit| self.size >> bit & 1 == 1)) {
            if (at, 1 << bit) == (start, size) {
                return Some(*peak);
            }
            at += 1_u64 << bit;
        }
        None
    }
}

/// A tree as far as it is known: the frontier of an earlier one, and the hashes of all leaves after.
#[derive(Debug, Clone)]
pub struct Leaves {
    base: Frontier,
    leaves: Vec<Node>,
}

impl Leaves {
    /// `leaves` follow those of `base`.
    #[must_use]
    pub fn new(base: Frontier, leaves: Vec<Node>) -> Self {
        Self { base, leaves }
    }

    /// The root of the leaves from `start` on, `size` of them; `None` if it cannot be known.
    fn node(&self, start: u64, size: u64) -> Option<Node> {
        if let Some(peak) = self.base.peak(start, size) {
            return Some(peak);
        }
        match size {
            0 => None,
            1 => self.leaves.get(usize::try_from(start.checked_sub(self.base.size)?).ok()?).copied(),
            _ => {
                let left = split(size);
                Some(parent(&self.node(start, left)?, &self.node(start + left, size - left)?))
            }
        }
    }

    /// The root of the tree of the first `size` leaves.
    #[must_use]
    pub fn root(&self, size: u64) -> Option<Node> {
        self.node(0, size)
    }

    /// The consistency proof from the tree of the first `first` leaves to that of the first `second` (RFC 9162,
    /// section 2.1.4.1); empty if they are the same.
    #[must_use]
    pub fn consistency(&self, first: u64, second: u64) -> Option<Vec<Node>> {
        let mut path = Vec::new();
        let (mut m, mut start, mut size, mut whole) = (first, 0, second, true);
        if m == 0 || m > size {
            return None;
        }
        while m != size {
            let left = split(size);
            if m <= left {
                path.push(self.node(start + left, size - left)?);
                size = left;
            } else {
                path.push(self.node(start, left)?);
                (m, start, size, whole) = (m - left, start + left, size - left, false);
            }
        }
        if !whole {
            path.push(self.node(start, size)?);
        }
        path.reverse();
        Some(path)
    }

    /// What leads from the leaves at `opened`, in order, to the root of the tree of `size` leaves: the roots of the largest
    /// subtrees without any of them, from left to right. For one leaf these are the nodes of its inclusion path (RFC 9162,
    /// section 2.1.3.1).
    #[must_use]
    pub fn cover(&self, size: u64, opened: &[u64]) -> Option<Vec<Node>> {
        let mut cover = Vec::new();
        self.cover_below(0, size, opened, &mut cover)?;
        Some(cover)
    }

    fn cover_below(&self, start: u64, size: u64, opened: &[u64], cover: &mut Vec<Node>) -> Option<()> {
        if opened.is_empty() {
            cover.push(self.node(start, size)?);
        } else if size > 1 {
            let left = split(size);
            let (before, after) = opened.split_at(opened.partition_point(|index| *index < start + left));
            self.cover_below(start, left, before, cover)?;
            self.cover_below(start + left, size - left, after, cover)?;
        }
        Some(())
    }
}

/// The root that leaves, each with its index and in order, and their [cover](Leaves::cover) lead to in a tree of `size`
/// leaves. `None` if the cover has too few or too many hashes, or a leaf is outside.
pub(crate) fn root_of(size: u64, leaves: &[(u64, Node)], cover: &[Node]) -> Option<Node> {
    let mut cover = cover.iter();
    let root = root_below(0, size, leaves, &mut cover)?;
    cover.next().is_none().then_some(root)
}

fn root_below(start: u64, size: u64, leaves: &[(u64, Node)], cover: &mut std::slice::Iter<'_, Node>) -> Option<Node> {
    match leaves {
        [] => cover.next().copied(),
        [(index, leaf)] if size == 1 => (*index == start).then_some(*leaf),
        _ if size <= 1 => None,
        _ => {
            let left = split(size);
            let (before, after) = leaves.split_at(leaves.partition_point(|(index, _)| *index < start + left));
            let one = root_below(start, left, before, cover)?;
            Some(parent(&one, &root_below(start + left, size - left, after, cover)?))
        }
    }
}

/// Whether the tree of `second` leaves begins with the tree of `first` (RFC 9162, section 2.1.4.2). `first` is not 0.
pub(crate) fn is_consistent(
    (first, first_root): (u64, &Node),
    (second, second_root): (u64, &Node),
    path: &[Node],
) -> bool {
    if first == 0 || first > second {
        return false;
    }
    if first == second {
        return path.is_empty() && first_root == second_root;
    }
    let mut path = path.iter();
    let begin = if first.is_power_of_two() { Some(first_root) } else { path.next() };
    let Some(begin) = begin else { return false };
    let shift = (first - 1).trailing_ones();
    let (mut f, mut s) = ((first - 1) >> shift, (second - 1) >> shift);
    let (mut of_first, mut of_second) = (*begin, *begin);
    for node in path {
        if s == 0 {
            return false;
        }
        if f & 1 == 1 || f == s {
            of_first = parent(node, &of_first);
            of_second = parent(node, &of_second);
            while f & 1 == 0 && f != 0 {
                (f, s) = (f >> 1, s >> 1);
            }
        } else {
            of_second = parent(&of_second, node);
        }
        (f, s) = (f >> 1, s >> 1);
    }
    s == 0 && of_first == *first_root && of_second == *second_root
}

/// How many of `size` leaves, at least two, are below the root's left child: the largest power of two below `size`.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sealcast_seal::merkle::{LEAF, leaf};

    use super::*;

    fn leaves(count: u64) -> Vec<Node> {
        (0..count).map(|i| leaf(&[&[LEAF], i.to_be_bytes().as_slice()].concat())).collect()
    }

    /// MTH of RFC 9162, section 2.1.1, by the letter.
    fn mth(leaves: &[Node]) -> Node {
        if let [single] = leaves {
            return *single;
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        parent(&mth(left), &mth(right))
    }

    /// SUBPROOF of RFC 9162, section 2.1.4.1, by the letter.
    fn subproof(m: usize, leaves: &[Node], b: bool) -> Vec<Node> {
        if m == leaves.len() {
            return if b { Vec::new() } else { vec![mth(leaves)] };
        }
        let k = leaves.len().next_power_of_two() / 2;
        let (mut path, beside) = if m <= k {
            (subproof(m, &leaves[..k], b), mth(&leaves[k..]))
        } else {
            (subproof(m - k, &leaves[k..], false), mth(&leaves[..k]))
        };
        path.push(beside);
        path
    }

    fn frontier(leaves: &[Node]) -> Frontier {
        let mut frontier = Frontier::default();
        leaves.iter().for_each(|leaf| frontier.append(*leaf));
        frontier
    }

    #[test]
    fn roots_and_consistency_proofs_are_those_of_the_rfc() {
        let all = leaves(70);
        for size in 1..=70 {
            let tree = frontier(&all[..size]);
            assert_eq!(tree.root(), Some(mth(&all[..size])));
            assert_eq!(Frontier::from_bytes(size as u64, &tree.to_bytes()), Some(tree));
            let known = Leaves::new(Frontier::default(), all[..size].to_vec());
            for first in 1..=size {
                let path = known.consistency(first as u64, size as u64).unwrap();
                assert_eq!(path, subproof(first, &all[..size], true), "{first} of {size}");
                let (one, other) = (mth(&all[..first]), mth(&all[..size]));
                assert!(is_consistent((first as u64, &one), (size as u64, &other), &path));
            }
        }
    }

    #[test]
    fn a_tree_without_leaves_has_no_root_and_is_consistent_with_nothing() {
        assert_eq!(Frontier::default().root(), None);
        let known = Leaves::new(Frontier::default(), leaves(2));
        assert_eq!((known.root(0), known.consistency(0, 2), known.consistency(3, 2)), (None, None, None));
        let root = known.root(2).unwrap();
        assert!(!is_consistent((0, &root), (2, &root), &[]) && !is_consistent((2, &root), (1, &root), &[]));
        assert_eq!(root_of(0, &[(0, root)], &[]), None);
    }

    proptest! {
        /// With leaves before `base` gone.
        #[test]
        fn covers_lead_to_the_root(base in 0..90usize, more in 1..60usize, picked: Vec<prop::sample::Index>) {
            let all = leaves((base + more) as u64);
            let size = all.len() as u64;
            let known = Leaves::new(frontier(&all[..base]), all[base..].to_vec());
            prop_assert_eq!(known.root(size), Some(mth(&all)));
            let opened: std::collections::BTreeSet<u64> =
                picked.iter().map(|index| (base + index.index(more)) as u64).collect();
            let opened: Vec<u64> = opened.into_iter().collect();
            let cover = known.cover(size, &opened).unwrap();
            let mut shown: Vec<(u64, Node)> = opened.iter().map(|index| (*index, all[*index as usize])).collect();
            prop_assert_eq!(root_of(size, &shown, &cover), Some(mth(&all)));
            prop_assert_eq!(root_of(size, &shown, &[&cover[..], &cover[..cover.len().min(1)]].concat())
                .filter(|_| !cover.is_empty()), None);
            if let Some((_, leaf)) = shown.first_mut() {
                leaf[0] ^= 1;
                prop_assert_ne!(root_of(size, &shown, &cover), Some(mth(&all)));
            }
            if base > 0 {
                let path = known.consistency(base as u64, size).unwrap();
                prop_assert_eq!(path, subproof(base, &all, true));
            }
        }

        /// Whatever is changed.
        #[test]
        fn nothing_else_is_consistent(size in 2..80usize, first: prop::sample::Index, at: prop::sample::Index) {
            let all = leaves(size as u64);
            let first = 1 + first.index(size - 1);
            let known = Leaves::new(Frontier::default(), all.clone());
            let path = known.consistency(first as u64, size as u64).unwrap();
            let (one, other) = (mth(&all[..first]), mth(&all));
            let check = |one: &Node, other: &Node, path: &[Node]| is_consistent((first as u64, one), (size as u64, other), path);
            let mut changed = path.clone();
            changed[at.index(path.len())][0] ^= 1;
            prop_assert!(!check(&one, &other, &changed));
            prop_assert!(!check(&one, &other, &path[1..]));
            prop_assert!(!check(&one, &other, &[&path[..], &path[..1]].concat()));
            prop_assert!(!check(&other, &one, &path));
        }
    }
}
