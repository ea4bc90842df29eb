//! Any body: opened or refused, and what was opened says the same after sealing. Any text: all JSON readers agree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oslo_messaging_proto::json::{de, ser};
use oslo_messaging_proto::wire::envelope;
use oslo_messaging_proto::{JsonErrorKind, Message, RawJson, Value};

fuzz_target!(|body: &[u8]| {
    if let Ok(message) = Message::open(body) {
        let members: Vec<(String, RawJson)> = message
            .iter()
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect();
        let written = members.iter().map(|(key, value)| {
            format!(
                "{}: {}",
                ser::to_string(key).expect("text"),
                ser::to_string(value).expect("raw JSON")
            )
        });
        let object = format!("{{{}}}", written.collect::<Vec<_>>().join(", "));
        let sealed =
            envelope::seal(&RawJson::from_text(object).expect("an object")).expect("an object");
        let again = Message::open(&sealed).expect("a sealed message can be opened");
        assert_eq!(again.iter().count(), members.len());
        for (key, value) in &members {
            let kept = again.get(key).expect("a member that was there");
            match (kept.to_value(), value.to_value()) {
                (Ok(kept), Ok(value)) => assert_eq!(kept, value),
                (kept, value) => assert_eq!(kept.is_ok(), value.is_ok()),
            }
        }
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return;
    };
    let raw = RawJson::from_text(text);
    match de::from_str::<Value>(text) {
        Ok(value) => {
            assert!(raw.is_ok());
            let written = ser::to_string(&value).expect("what was read can be written");
            assert!(written.is_ascii());
            assert_eq!(
                de::from_str::<Value>(&written).expect("what was written can be read"),
                value
            );
        }
        Err(error) if *error.kind() == JsonErrorKind::TooDeep => {}
        Err(_) => assert!(raw.is_err()),
    }
    if serde_json::from_str::<serde_json::Value>(text).is_ok() {
        assert!(raw.is_ok(), "another library reads it");
    }
});
