//! What names a key in a token: a `pkcs11:` URI (RFC 7512).

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use anyhow::{Context as _, Result, bail, ensure};
use sealcast_node::percent_decode;

/// Which key, in which token, of which module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenUri {
    /// The token's label.
    pub token: Option<String>,
    /// The token's serial number.
    pub serial: Option<String>,
    /// Who made the token.
    pub manufacturer: Option<String>,
    /// The token's model.
    pub model: Option<String>,
    /// The key's label.
    pub object: Option<String>,
    /// The key's identifier.
    pub id: Option<Vec<u8>>,
    /// The library that talks to the token.
    pub module_path: Option<PathBuf>,
    /// The file with the PIN.
    pub pin_source: Option<PathBuf>,
}

impl FromStr for TokenUri {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("pkcs11:").context("it is not a pkcs11: URI (RFC 7512)")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut path = attributes(path, ';')?;
        let mut query = attributes(query, '&')?;
        ensure!(
            !query.contains_key("pin-value"),
            "pin-value: a PIN in a URI is read by others; put it into a file, and name that by pin-source"
        );
        let mut text = |name: &str| path.remove(name).map(|value| utf8(name, value)).transpose();
        let mut uri = Self {
            token: text("token")?,
            serial: text("serial")?,
            manufacturer: text("manufacturer")?,
            model: text("model")?,
            object: text("object")?,
            ..Self::default()
        };
        if let Some(kind) = text("type")? {
            ensure!(kind == "private", "type={kind}: what signs is a private key");
        }
        uri.id = path.remove("id");
        let mut file = |name: &str| query.remove(name).map(|value| file(name, value)).transpose();
        uri.module_path = file("module-path")?;
        uri.pin_source = file("pin-source")?;
        if let Some(name) = path.keys().chain(query.keys()).next() {
            bail!(
                "{name}: known are token, serial, manufacturer, model, object, id and type, and behind the question mark \
                 module-path and pin-source"
            );
        }
        ensure!(uri.object.is_some() || uri.id.is_some(), "it names no key: give object or id");
        Ok(uri)
    }
}

fn attributes(text: &str, separator: char) -> Result<BTreeMap<&str, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for part in text.split(separator).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').with_context(|| format!("{part}: an attribute is name=value"))?;
        let value = percent_decode(value).with_context(|| format!("{part}: a % has two hex digits behind it"))?;
        ensure!(found.insert(name, value).is_none(), "{name} is there twice");
    }
    Ok(found)
}

fn utf8(name: &str, value: Vec<u8>) -> Result<String> {
    String::from_utf8(value).with_context(|| format!("{name} is not UTF-8"))
}

fn file(name: &str, value: Vec<u8>) -> Result<PathBuf> {
    let path = utf8(name, value)?;
    let path = path.strip_prefix("file:").map(|path| path.strip_prefix("//").unwrap_or(path)).unwrap_or(&path);
    ensure!(path.starts_with('/'), "{name}: give a file by its whole path");
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_s_parts_are_read() {
        let uri: TokenUri =
            "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;\
                             serial=;object=my-certificate;type=private;id=%69%95%3E%5C%F4%BD%EC%91\
                             ?module-path=/usr/lib/p11.so&pin-source=file:/etc/token_pin"
                .parse()
                .unwrap();
        let wanted = TokenUri {
            token: Some("The Software PKCS#11 Softtoken".into()),
            manufacturer: Some("Snake Oil, Inc.".into()),
            model: Some("1.0".into()),
            serial: Some(String::new()),
            object: Some("my-certificate".into()),
            id: Some(b"\x69\x95\x3e\x5c\xf4\xbd\xec\x91".to_vec()),
            module_path: Some("/usr/lib/p11.so".into()),
            pin_source: Some("/etc/token_pin".into()),
        };
        assert_eq!(uri, wanted);
        for source in ["/etc/token_pin", "file:///etc/token_pin"] {
            let uri: TokenUri = format!("pkcs11:id=%01?pin-source={source}").parse().unwrap();
            assert_eq!(uri.pin_source, wanted.pin_source, "{source}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_name() {
        for (text, part) in [
            ("device.key", "not a pkcs11: URI"),
            ("pkcs11:token=a", "names no key"),
            ("pkcs11:object=a;object=b", "object is there twice"),
            ("pkcs11:object=a;type=cert", "type=cert"),
            ("pkcs11:object=a;slot-id=1", "slot-id: known are"),
            ("pkcs11:object=a?module-name=x", "module-name: known are"),
            ("pkcs11:object=a?pin-value=1234", "pin-source"),
            ("pkcs11:object=a?pin-source=|ask", "whole path"),
            ("pkcs11:object=a?module-path=lib.so", "whole path"),
            ("pkcs11:object", "name=value"),
            ("pkcs11:object=%4", "two hex digits"),
            ("pkcs11:object=%+1", "two hex digits"),
            ("pkcs11:object=%ff", "not UTF-8"),
        ] {
            let refused = format!("{:#}", text.parse::<TokenUri>().unwrap_err());
            assert!(refused.contains(part), "{text}: {refused}");
            assert!(!refused.contains("1234"), "{refused}");
        }
    }
}
