//! Server-sent events, as the HTML standard's section 9.2 has them: a stream of lines in which an empty one ends an event.

/// The longest event, in bytes: as much as the console's server keeps of all its events.
const MAX_EVENT_BYTES: usize = 8 << 20;
/// The longest id or name of an event: each event has a copy of the id, and many events come at once.
const MAX_WORD_BYTES: usize = 128;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The stream can go on behind it by this.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: String,
}

/// The stream has an event that is longer than any of the console's.
#[derive(Debug, thiserror::Error)]
#[error("an event of the feed is longer than {MAX_EVENT_BYTES} bytes, or its id or name than {MAX_WORD_BYTES}")]
pub struct TooLong;

/// Takes the stream's bytes as they come.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    id: String,
    name: String,
    data: Option<String>,
}

impl Parser {
    /// The events that end in these bytes.
    ///
    /// # Errors
    /// The stream cannot be followed further.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let kept = self.line.len() + self.data.as_ref().map_or(0, String::len);
            if kept + part.len() > MAX_EVENT_BYTES {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let is_long = self.line.len() > MAX_WORD_BYTES
                    && [b"id".as_slice(), b"event"].iter().any(|of| self.line.starts_with(of));
                if is_long {
                    return Err(TooLong);
                }
                let line = std::mem::take(&mut self.line);
                events.extend(self.take(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n'])));
            }
        }
        Ok(events)
    }

    fn take(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            return self.data.take().map(|data| Event { id: self.id.clone(), name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut self.id),
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                data => *data = Some(value.to_owned()),
            },
            // A comment, which keeps the connection alive, or a field that the console does not use.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, name: &str, data: &str) -> Event {
        Event { id: id.into(), name: name.into(), data: data.into() }
    }

    const STREAM: &str = ": hello\n\nid: 1\nevent: entry\ndata: {\"index\":1}\n\nid:2\r\nevent:x\r\ndata:a\r\ndata: é\r\n\r\nevent: none\n\n";

    #[test]
    fn events_come_out_however_the_bytes_are_cut() {
        let expected = [event("1", "entry", "{\"index\":1}"), event("2", "x", "a\né")];
        for step in 1..STREAM.len() {
            let mut parser = Parser::default();
            let found: Vec<Event> =
                STREAM.as_bytes().chunks(step).flat_map(|chunk| parser.push(chunk).unwrap()).collect();
            assert_eq!(found, expected, "cut after each {step}");
        }
    }

    #[test]
    fn an_endless_event_ends_the_stream() {
        let mut parser = Parser::default();
        let long = [b"data: ".to_vec(), vec![b'x'; MAX_EVENT_BYTES / 2], b"\n".to_vec()].concat();
        assert!(parser.push(&long).is_ok());
        assert!(parser.push(&long).is_err());
        for field in ["id: ", "event: "] {
            let line = format!("{field}{}\n", "x".repeat(MAX_WORD_BYTES));
            assert!(Parser::default().push(line.as_bytes()).is_err(), "each event would have a copy of it");
        }
        let mut parser = Parser::default();
        let line = vec![b'x'; MAX_EVENT_BYTES / 2 + 1];
        assert!(parser.push(&line).is_ok());
        assert!(parser.push(&line).is_err());
    }
}
