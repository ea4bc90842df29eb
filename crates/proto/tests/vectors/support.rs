//! Reads the recorded vectors: what a Python peer and others put on the wire.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// One recorded scenario.
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) json: Value,
}

/// One published body.
pub(crate) struct Body {
    pub(crate) scenario: String,
    /// The remark of the scenario before it.
    pub(crate) step: String,
    /// Whether Python's oslo.messaging sent it.
    pub(crate) from_python: bool,
    pub(crate) content_type: Option<String>,
    /// The body, decompressed.
    pub(crate) text: String,
}

pub(crate) fn scenario(name: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../vectors")
        .join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Scenario {
        name: name.to_owned(),
        json: serde_json::from_str(&text).unwrap(),
    }
}

/// All scenarios in the order of their names.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            Some(
                entry
                    .unwrap()
                    .file_name()
                    .to_str()?
                    .strip_suffix(".json")?
                    .to_owned(),
            )
        })
        .collect();
    names.sort();
    names.iter().map(|name| scenario(name)).collect()
}

impl Scenario {
    /// Everything published, in order; bodies in a compressed form as `decoded` has them.
    pub(crate) fn bodies(&self) -> Vec<Body> {
        let mut step = String::new();
        let mut bodies = Vec::new();
        for event in self.json["direction"].as_array().unwrap() {
            if let Some(text) = event["step"].as_str() {
                step = text.to_owned();
            }
            if event["method"] != "basic.publish" {
                continue;
            }
            let connection = event["conn"].as_str().unwrap();
            bodies.push(Body {
                scenario: self.name.clone(),
                step: step.clone(),
                from_python: self.json["connections"][connection]["peer"] == "oslo.messaging",
                content_type: event["properties"]["content_type"]
                    .as_str()
                    .map(str::to_owned),
                text: text_of(event),
            });
        }
        bodies
    }

    pub(crate) fn observed(&self) -> &[Value] {
        self.json["observed"].as_array().unwrap()
    }
}

fn text_of(event: &Value) -> String {
    if let Some(text) = event["body_utf8"].as_str() {
        return text.to_owned();
    }
    if let Some(text) = event["decoded"]["uncompressed_utf8"].as_str() {
        return text.to_owned();
    }
    rebuild(&event["body_note"])
}

/// A large body from its note: between both ends is only the letter x.
fn rebuild(note: &Value) -> String {
    let first = note["first_400"].as_str().unwrap();
    let last = note["last_400"].as_str().unwrap();
    let length = note["length"].as_u64().unwrap() as usize;
    let text = format!(
        "{first}{}{last}",
        "x".repeat(length - first.len() - last.len())
    );
    let sum: String = Sha256::digest(&text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(sum, note["sha256"].as_str().unwrap(), "a rebuilt body");
    text
}
