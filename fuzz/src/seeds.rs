//! Writes the recorded bodies as seeds into `corpus/`: run it in this folder by `cargo run --bin seeds`.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

/// Texts with the edge cases of transport URLs.
const URLS: [&str; 12] = [
    "rabbit://",
    "rabbit://guest:guest@localhost:5672/",
    "rabbit://u:p%2Fw@h1:1,u2@[::1]:5672,::1/a/b?x=1&y=a+b&x=2#f",
    "RABBIT://u@d:p:q@h//",
    "kombu+memory:///",
    "memory://",
    "rabbit://:p@h/%2F",
    "rabbit://u:@h?ssl_key_password=x",
    "rabbit://,,h:99999",
    "rabbit://[::1",
    "rabbit://h/%ff%C3%A9",
    "foo",
];

fn main() -> io::Result<()> {
    for target in ["envelope", "request", "reply", "failure", "url"] {
        fs::create_dir_all(Path::new("corpus").join(target))?;
    }
    for (index, url) in URLS.iter().enumerate() {
        fs::write(format!("corpus/url/{index}"), url)?;
    }
    let mut written = URLS.len();
    for entry in fs::read_dir("../vectors")? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let scenario: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
            let name = path
                .file_stem()
                .and_then(|name| name.to_str())
                .unwrap_or("vector");
            written += seeds_of(name, &scenario)?;
        }
    }
    println!("{written} seeds");
    Ok(())
}

/// Writes the bodies of one scenario; gives how many files that were.
fn seeds_of(name: &str, scenario: &Value) -> io::Result<usize> {
    let mut written = 0;
    for event in scenario["direction"].as_array().into_iter().flatten() {
        let body = event["body_utf8"]
            .as_str()
            .or(event["decoded"]["uncompressed_utf8"].as_str());
        let (Some(body), Some(number)) = (body, event["n"].as_u64()) else {
            continue;
        };
        let message: Value =
            serde_json::from_str::<Value>(body)
                .ok()
                .map_or(Value::Null, |outer| {
                    let inner = outer["oslo.message"]
                        .as_str()
                        .and_then(|text| serde_json::from_str(text).ok());
                    inner.unwrap_or(outer)
                });
        let mut targets = vec!["envelope"];
        targets.extend(message.get("ending").map(|_| "reply"));
        targets.extend((targets.len() == 1).then_some("request"));
        for target in targets {
            fs::write(format!("corpus/{target}/{name}-{number}"), body)?;
            written += 1;
        }
        if let Some(failure) = message["failure"].as_str() {
            fs::write(format!("corpus/failure/{name}-{number}"), failure)?;
            written += 1;
        }
    }
    Ok(written)
}
