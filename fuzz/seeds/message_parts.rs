//! Seeds: parts in order, in reverse, twice, with a byte changed, over time, on several topics.

type Failure = Box<dyn std::error::Error>;

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let operation = |what: u8, argument: u16| [&[what][..], &argument.to_be_bytes()].concat();
    let part = |topic: u8, at: u16| operation(topic << 2, at);
    let changed = |change: u8, at: u16, place: u16| operation(1 | change << 2, at | place << 6);
    let passes = |ms: u16| operation(3, ms);
    let any = |bytes: &[u8]| [operation(2, bytes.len() as u16), bytes.to_vec()].concat();
    Ok(vec![
        ("seed-in-order".into(), (0..36).flat_map(|at| part(0, at)).collect()),
        ("seed-in-reverse".into(), (0..36).rev().flat_map(|at| part(0, at)).collect()),
        ("seed-twice".into(), (0..72).flat_map(|at| part(0, at / 2)).collect()),
        ("seed-topics".into(), (0..144).flat_map(|at| part((at % 4) as u8, at / 4)).collect()),
        ("seed-late".into(), (0..36).flat_map(|at| [part(1, at), passes(400)].concat()).collect()),
        ("seed-changed".into(), (0..36).flat_map(|at| [changed(at as u8, at, at), part(0, at)].concat()).collect()),
        ("seed-any".into(), [any(b"{\"id\":1}"), any(b"\xFF\x01"), any(&[0xFF; 40])].concat()),
    ])
}
