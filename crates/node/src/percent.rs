//! Percent-encoding (RFC 3986, section 2.1), as it stands in the paths of requests and in the URIs of keys.

/// The bytes that a text stands for. `None` if a `%` has no two hexadecimal digits behind it.
#[must_use]
pub fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_a_byte_is_one() {
        for (text, bytes) in [
            ("", Some(&b""[..])),
            ("a/b+c", Some(b"a/b+c")),
            ("%23%2f%FF", Some(b"#/\xff")),
            ("%", None),
            ("a%4", None),
            ("%+1", None),
            ("%4g", None),
        ] {
            assert_eq!(percent_decode(text).as_deref(), bytes, "{text}");
        }
    }
}
