//! Topics in the paths of HTTP requests.

use sealcast_node::percent_decode;

/// The topic or filter in `/topics/<topic>`, percent-decoded: a space is `%20`, `#` is `%23`.
///
/// # Errors
/// What is wrong, for the answer.
pub fn of_path(path: &str) -> Result<String, String> {
    let Some(rest) = path.strip_prefix("/topics/").filter(|rest| !rest.is_empty()) else {
        return Err("the path is /topics/<topic>".into());
    };
    decoded(rest)
}

/// Percent-decoded UTF-8 text.
fn decoded(text: &str) -> Result<String, String> {
    let bytes = percent_decode(text);
    let bytes = bytes.ok_or_else(|| format!("% is not followed by two hexadecimal digits in {text:?}"))?;
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is not UTF-8"))
}

/// The values of a query such as `retain=1&qos=0`, in order; percent-decoded.
///
/// # Errors
/// What is wrong, for the answer.
pub fn query(text: Option<&str>) -> Result<Vec<(String, String)>, String> {
    text.unwrap_or_default()
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decoded(key)?, decoded(value)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_hold_topics() {
        for (path, topic) in [
            ("/topics/a/b", Some("a/b")),
            ("/topics//a/", Some("/a/")),
            ("/topics/a/%23", Some("a/#")),
            ("/topics/a/+/c", Some("a/+/c")),
            ("/topics/caf%C3%A9%20x", Some("café x")),
            ("/topics/", None),
            ("/topic/a", None),
            ("/topics/%", None),
            ("/topics/%+1", None),
            ("/topics/%ff", None),
        ] {
            assert_eq!(of_path(path).ok().as_deref(), topic, "{path}");
        }
    }

    #[test]
    fn queries_are_pairs() {
        let pairs = |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(query(Some("retain=1&qos=0&x")), Ok(pairs(&[("retain", "1"), ("qos", "0"), ("x", "")])));
        assert_eq!(query(None), Ok(Vec::new()));
        assert!(query(Some("a=%zz")).is_err());
    }
}
