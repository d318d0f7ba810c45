//! Genuine messages in a fixture, and what an input makes of them.

/// The parts of a fixture, each behind its length as u32.
pub fn parts(mut fixture: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = fixture.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        fixture = rest;
        Some(part)
    })
}

/// `position u16 | xor u8` again and again; one byte that is left cuts so many bytes off.
pub fn changed(genuine: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = genuine.to_vec();
    let changes = changes.chunks_exact(3);
    if let [cut] = changes.remainder() {
        bytes.truncate(bytes.len().saturating_sub((*cut).into()));
    }
    for change in changes {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= change[2];
        }
    }
    bytes
}
