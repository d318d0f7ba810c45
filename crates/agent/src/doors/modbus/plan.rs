//! Which values are read in one request.
//!
//! Registers that touch each other are read together; a gap is never read, since a device may refuse what stands in it.
//! Where a device refused a request for several values, a [`Cut`] keeps them apart from then on.

use std::{collections::BTreeSet, fmt};

use super::settings::Table;

/// Bits or registers that follow each other in a table of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Their table.
    pub table: Table,
    /// The first one's address, from 0.
    pub address: u16,
    /// How many; not 0.
    pub count: u16,
}

impl Span {
    /// The address behind the last one.
    fn end(self) -> u32 {
        u32::from(self.address) + u32::from(self.count)
    }

    /// The part of an answer to `self` that belongs to `part`, if it is there. A register has two bytes, a bit one.
    pub fn slice(self, part: Self, answer: &[u8]) -> Option<&[u8]> {
        let width = if self.table.is_bits() { 1 } else { 2 };
        let start = usize::from(part.address.checked_sub(self.address)?) * width;
        answer.get(start..start + usize::from(part.count) * width)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, address, count } = *self;
        let name = match table {
            Table::Coil => "coil",
            Table::Discrete => "discrete input",
            Table::Input => "input register",
            Table::Holding => "holding register",
        };
        match count {
            1 => write!(f, "{name} {address}"),
            _ => write!(f, "{name}s {address} to {}", self.end() - 1),
        }
    }
}

/// The longest read of one request: Modbus Application Protocol V1.1b3, sections 6.1 to 6.4.
fn limit(table: Table) -> u32 {
    if table.is_bits() { 2_000 } else { 125 }
}

/// No request may read this value together with those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut(Span);

/// The request that reads `wanted` and what touches it among `due`, and which of `due` it covers.
pub fn merge<T: Copy + Ord>(wanted: (Span, T), due: &[(Span, T)], cuts: &BTreeSet<Cut>) -> (Span, Vec<(Span, T)>) {
    let mut due: Vec<(Span, T)> = due.iter().copied().filter(|(span, _)| span.table == wanted.0.table).collect();
    due.sort_unstable();
    let mut run: Option<(Span, Vec<(Span, T)>)> = None;
    for (span, value) in due {
        if let Some((whole, values)) = &mut run {
            let length = span.end().max(whole.end()) - u32::from(whole.address);
            let known = values.last().is_some_and(|(last, _)| *last == span);
            let joins = u32::from(span.address) <= whole.end() && length <= limit(span.table);
            if known || (joins && !cuts.contains(&Cut(span))) {
                whole.count = u16::try_from(length).unwrap_or(whole.count);
                values.push((span, value));
                continue;
            }
            if values.contains(&wanted) {
                break;
            }
        }
        run = Some((span, vec![(span, value)]));
    }
    run.filter(|(_, values)| values.contains(&wanted)).unwrap_or((wanted.0, vec![wanted]))
}

/// Where to part values that a device does not give in one request: in the middle, so that one wrong address among many
/// is found with few requests. `None` if it is one value.
pub fn cut<T>(values: &[(Span, T)]) -> Option<Cut> {
    let spans: BTreeSet<Span> = values.iter().map(|(span, _)| *span).collect();
    if spans.len() < 2 { None } else { spans.iter().nth(spans.len() / 2).copied().map(Cut) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(table: Table, address: u16, count: u16) -> Span {
        Span { table, address, count }
    }

    #[test]
    fn what_touches_is_read_in_one_request_up_to_the_limit() {
        let holding = |address, count| span(Table::Holding, address, count);
        let check = |due: &[Span], wanted: usize, expected: Span, covered: usize| {
            let due: Vec<(Span, usize)> = due.iter().copied().zip(0..).collect();
            let (whole, values) = merge(due[wanted], &due, &BTreeSet::new());
            assert_eq!((whole, values.len()), (expected, covered), "{due:?}");
        };
        check(&[holding(4, 2), holding(0, 1), holding(1, 1), holding(2, 2)], 0, holding(0, 6), 4);
        // A gap, another table.
        check(&[holding(0, 1), holding(2, 1)], 0, holding(0, 1), 1);
        check(&[holding(0, 1), span(Table::Input, 1, 1)], 0, holding(0, 1), 1);
        // One register for two topics, values that overlap.
        check(&[holding(7, 1), holding(7, 1)], 1, holding(7, 1), 2);
        check(&[holding(0, 4), holding(2, 1), holding(3, 2)], 1, holding(0, 5), 3);
        // 125 registers, 2,000 bits, the last address.
        let many: Vec<Span> = (0..130).map(|address| holding(address, 1)).collect();
        check(&many, 0, holding(0, 125), 125);
        check(&many, 129, holding(125, 5), 5);
        let coils: Vec<Span> = (0..2100).map(|address| span(Table::Coil, address, 1)).collect();
        check(&coils, 0, span(Table::Coil, 0, 2000), 2000);
        check(&[holding(65_532, 4), holding(65_535, 1)], 0, holding(65_532, 4), 2);
    }

    #[test]
    fn cuts_find_the_wrong_address_and_keep_the_rest_together() {
        let all: Vec<(Span, u16)> = (0..100).map(|address| (span(Table::Input, address, 1), address)).collect();
        let (mut cuts, mut requests) = (BTreeSet::new(), 0);
        // A device that knows each address but 37.
        let mut left = all.clone();
        while let Some(wanted) = left.first().copied() {
            let (whole, values) = merge(wanted, &left, &cuts);
            requests += 1;
            if (u32::from(whole.address)..whole.end()).contains(&37)
                && let Some(cut) = cut(&values)
            {
                cuts.insert(cut);
                continue;
            }
            left.retain(|value| !values.contains(value));
        }
        assert!(requests < 20, "{requests}");
        let (alone, _) = merge(all[37], &all, &cuts);
        assert_eq!(alone, span(Table::Input, 37, 1));
        // What was learnt holds; all is read in few requests.
        let mut wholes: Vec<Span> = all.iter().map(|value| merge(*value, &all, &cuts).0).collect();
        wholes.dedup();
        assert!(wholes.len() < 10, "{wholes:?}");
    }

    #[test]
    fn an_answer_is_taken_apart() {
        let whole = span(Table::Holding, 10, 3);
        let answer = [0, 1, 0, 2, 0, 3];
        assert_eq!(whole.slice(span(Table::Holding, 11, 2), &answer), Some(&[0, 2, 0, 3][..]));
        assert_eq!(whole.slice(span(Table::Holding, 12, 2), &answer), None);
        assert_eq!(whole.slice(span(Table::Holding, 9, 1), &answer), None);
        let bits = span(Table::Coil, 0, 3);
        assert_eq!(bits.slice(span(Table::Coil, 2, 1), &[0, 0, 1]), Some(&[1][..]));
    }
}
