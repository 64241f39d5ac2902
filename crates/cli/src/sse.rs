//! Server-sent events out of a stream of bytes, as the HTML standard reads them ("Server-sent events", 9.2.6).

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its type; `message` where none was given.
    pub(crate) name: String,
    /// Its data, lines joined by `\n`.
    pub(crate) data: String,
}

/// Data that can be no event of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an event of more than {MAX_EVENT_BYTES} bytes")]
pub(crate) struct TooLarge;

/// The largest event that is taken, in bytes.
const MAX_EVENT_BYTES: usize = 4 << 20;

/// Takes bytes as they come and gives events as they are complete.
#[derive(Default)]
pub(crate) struct Decoder {
    line: Vec<u8>,
    after_cr: bool,
    begun: bool,
    name: String,
    data: Option<String>,
    last_event_id: Option<String>,
}

impl Decoder {
    /// The last `id:` seen, for `Last-Event-ID`.
    pub(crate) fn last_event_id(&self) -> Option<&str> {
        self.last_event_id.as_deref()
    }

    /// The events that `bytes` completes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.end_line(&line));
                }
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > MAX_EVENT_BYTES {
                return Err(TooLarge);
            }
        }
        Ok(events)
    }

    fn end_line(&mut self, line: &[u8]) -> Option<Event> {
        let text = String::from_utf8_lossy(line);
        let text = if self.begun {
            &text
        } else {
            text.strip_prefix('\u{feff}').unwrap_or(&text)
        };
        self.begun = true;
        if text.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = self.data.take()?;
            let name = if name.is_empty() {
                "message".to_owned()
            } else {
                name
            };
            return Some(Event { name, data });
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.last_event_id = Some(value.to_owned()),
            // Comments (an empty field name), `retry` and what may come later.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event {
            name: name.into(),
            data: data.into(),
        }
    }

    const STREAM: &str = "\u{feff}: hello\n\nid: 7\nevent: session\ndata: {\"a\":\ndata: \"é\"}\n\n\
                          event: end\r\ndata:\r\n\r\nevent: nothing\n\ndata: x\r\rretry: 5\nodd\ndata: unfinished";

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let expected = [
            event("session", "{\"a\":\n\"é\"}"),
            event("end", ""),
            event("message", "x"),
        ];
        for cut in 1..STREAM.len() {
            let mut decoder = Decoder::default();
            let mut events = Vec::new();
            for piece in STREAM.as_bytes().chunks(cut) {
                events.extend(decoder.push(piece).unwrap());
            }
            assert_eq!(events, expected, "in pieces of {cut}");
            assert_eq!(decoder.last_event_id(), Some("7"));
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(&vec![b'x'; MAX_EVENT_BYTES + 1]), Err(TooLarge));
    }
}
