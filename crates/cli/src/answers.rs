//! Canned answers: what a file of methods says, checked when it is read.
//!
//! The file is an object, in JSON or YAML, from method to answer:
//! `result` (any value) or `error` (class, module, message, args, kwargs), and `delay` (seconds).

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use indexmap::IndexMap;
use oslo_messaging::{RawJson, RemoteError};
use serde::Deserialize;

use crate::exit::Problem;
use crate::files::read_file;

/// Answers by method.
pub(crate) struct Answers(HashMap<String, Answer>);

/// What one method answers.
pub(crate) struct Answer {
    /// How long it takes.
    pub(crate) delay: Duration,
    /// What the caller gets.
    pub(crate) outcome: Result<RawJson, RemoteError>,
}

impl Answers {
    /// Reads a file of answers: JSON if it is JSON, else YAML.
    ///
    /// # Errors
    /// Wrong usage that names the file and what is wrong in it.
    pub(crate) fn read(file: &Path) -> Result<Self, Problem> {
        let text = read_file(file, "--answers")?;
        Self::parse(&text).map_err(|why| {
            Problem::usage(format!("--answers: {}: {why}", file.display()))
                .hint("one entry per method, e.g. `get_host: {result: {name: node-1}}`; see `omsg serve --help`")
        })
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// What is wrong in it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // JSON first, by our own reader, which keeps numbers of any size; YAML knows 64 bits.
        let entries: IndexMap<String, Entry> = match RawJson::from_text(text) {
            Ok(json) => json.parse().map_err(|fault| fault.to_string())?,
            Err(_) => yaml_serde::from_str(text).map_err(|fault| fault.to_string())?,
        };
        let answers = entries.into_iter().map(|(method, entry)| {
            let answer = entry
                .into_answer()
                .map_err(|why| format!("{method}: {why}"))?;
            Ok((method, answer))
        });
        answers.collect::<Result<_, String>>().map(Self)
    }

    /// The answer of `method`.
    pub(crate) fn get(&self, method: &str) -> Option<&Answer> {
        self.0.get(method)
    }

    /// How many methods there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default, deserialize_with = "some")]
    result: Option<RawJson>,
    error: Option<Failing>,
    #[serde(default)]
    delay: f64,
}

/// A `null` that is written down is a result, too.
fn some<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<RawJson>, D::Error> {
    RawJson::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failing {
    class: String,
    #[serde(default = "builtins")]
    module: String,
    #[serde(default)]
    message: String,
    args: Option<RawJson>,
    kwargs: Option<RawJson>,
}

fn builtins() -> String {
    "builtins".to_owned()
}

impl Entry {
    fn into_answer(self) -> Result<Answer, String> {
        const LONGEST: f64 = 86_400.0;
        if !(0.0..=LONGEST).contains(&self.delay) {
            return Err(format!("delay must be between 0 and {LONGEST} seconds"));
        }
        let outcome = match (self.result, self.error) {
            (Some(_), Some(_)) => return Err("it has a result and an error: choose".to_owned()),
            (Some(result), None) => Ok(result),
            (None, Some(failing)) => Err(failing.into_failure()?),
            (None, None) => Ok(RawJson::null()),
        };
        Ok(Answer {
            delay: Duration::from_secs_f64(self.delay),
            outcome,
        })
    }
}

impl Failing {
    fn into_failure(self) -> Result<RemoteError, String> {
        // Without args of its own it has the message as its only one.
        let mut failure = RemoteError::new(self.class, self.module, self.message);
        if let Some(args) = self.args {
            failure = failure
                .with_args(&args)
                .map_err(|_| "args must be a list")?;
        }
        if let Some(kwargs) = self.kwargs {
            failure = failure
                .with_kwargs(&kwargs)
                .map_err(|_| "kwargs must be names with values")?;
        }
        Ok(failure)
    }
}

#[cfg(test)]
mod tests {
    use oslo_messaging::Value;

    use super::*;

    const YAML: &str = "
get_host:
  result: {name: node-1, up: true, load: 0.5}
slow:
  delay: 2.5
find_node:
  error:
    class: NodeNotFound
    module: nova.exception
    message: no such nöde
    kwargs: {node: n7}
nothing: {result: null}
";

    const JSON: &str = r#"{"get_host": {"result": {"name": "node-1", "up": true, "load": 0.5}},
        "slow": {"delay": 2.5},
        "find_node": {"error": {"class": "NodeNotFound", "module": "nova.exception", "message": "no such nöde",
                                "kwargs": {"node": "n7"}}},
        "nothing": {"result": null}}"#;

    #[test]
    fn json_and_yaml_say_the_same() {
        for text in [YAML, JSON] {
            let answers = Answers::parse(text).expect("a good file");
            assert_eq!(answers.len(), 4);
            let answer = |method| answers.get(method).expect("the method is there");
            let host = answer("get_host")
                .outcome
                .as_ref()
                .expect("a result")
                .to_value()
                .expect("a value");
            assert_eq!(host.get("name").and_then(Value::as_str), Some("node-1"));
            assert_eq!(host.get("load"), Some(&Value::from(0.5)));
            assert_eq!(answer("slow").delay, Duration::from_millis(2500));
            assert!(
                answer("nothing")
                    .outcome
                    .as_ref()
                    .is_ok_and(RawJson::is_null)
            );
            let failure = answer("find_node").outcome.as_ref().expect_err("an error");
            assert_eq!(
                (failure.module(), failure.class()),
                ("nova.exception", "NodeNotFound")
            );
            assert_eq!(failure.message(), "no such nöde");
            assert_eq!(
                failure.args().parse::<Vec<String>>().expect("strings"),
                ["no such nöde"]
            );
            assert_eq!(
                failure.kwargs().to_value().expect("a value").get("node"),
                Some(&Value::from("n7"))
            );
            assert!(answers.get("other").is_none());
        }
    }

    #[test]
    fn numbers_of_json_files_keep_every_digit() {
        let answers =
            Answers::parse(r#"{"m": {"result": [1.10, 123456789012345678901234567890]}}"#)
                .expect("a good file");
        let result = answers
            .get("m")
            .expect("it is there")
            .outcome
            .as_ref()
            .expect("a result");
        assert_eq!(result.as_str(), "[1.10, 123456789012345678901234567890]");
    }

    #[test]
    fn mistakes_in_the_file_are_told() {
        for (text, word) in [
            ("m: {result: 1, error: {class: X}}", "choose"),
            ("m: {reslt: 1}", "reslt"),
            ("m: {delay: -1}", "delay"),
            ("m: {delay: .nan}", "delay"),
            ("m: {error: {message: no class}}", "class"),
            ("m: {error: {class: X, args: 1}}", "args"),
            ("m: {error: {class: X, kwargs: [1]}}", "kwargs"),
            ("- m", "map"),
            ("m: [unclosed", ""),
            ("[1, 2]", "map"),
        ] {
            let Err(why) = Answers::parse(text) else {
                panic!("{text} is a mistake")
            };
            assert!(why.contains(word), "{text}: {why}");
        }
    }
}
