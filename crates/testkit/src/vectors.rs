//! The scenarios recorded from oslo.messaging, as plain structs.
//!
//! One file of `vectors/` is one [`Vector`]: who was connected, every AMQP method with its arguments, every body, what
//! the applications saw and what the broker held. Numbers in [`serde_json::Value`]s beyond 64 bits are rounded; bodies
//! are as captured, byte for byte.
//!
//! ```
//! let vector = oslo_messaging_testkit::vectors::load("rpc_call_int");
//! let request = vector.publishes_of("client").next().expect("the client published its call");
//! assert_eq!((request.exchange.as_str(), request.routing_key.as_str()), ("openstack", "topic-a"));
//! assert!(request.body().starts_with(b"{\"oslo.version\": \"2.0\""));
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

/// One recorded scenario.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Vector {
    /// Its name, the same as its file's.
    pub scenario: String,
    /// What happens and what to look at.
    pub about: String,
    /// Options that differ from the defaults, by group.
    pub config: Map<String, Value>,
    /// The TCP connections by name.
    pub connections: BTreeMap<String, Party>,
    /// Every AMQP method in time order; order between connections is by chance.
    pub frames: Vec<Frame>,
    /// Every message that an application published, in time order.
    pub publishes: Vec<Publish>,
    /// What the applications saw: endpoint calls, results, exceptions.
    pub observed: Vec<Map<String, Value>>,
    /// What the broker held while the applications ran.
    pub topology: Topology,
    /// What it held at later moments.
    pub topology_later: Vec<Topology>,
}

/// Who is at the end of a connection.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Party {
    /// `client` (RPC client or notifier) or `server` (RPC server or listener).
    pub side: String,
    /// `oslo.messaging`, or `raw` for a plain AMQP peer whose properties and declarations prove nothing.
    pub peer: String,
    /// `listen` when it consumes, `send` when it publishes, empty when it got nowhere.
    #[serde(rename = "use", default)]
    pub purpose: String,
}

/// One AMQP method.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Frame {
    /// Running number in the vector.
    #[serde(rename = "n")]
    pub number: u64,
    /// Milliseconds since the start.
    #[serde(rename = "t_ms")]
    pub at: u64,
    /// Name of the connection.
    #[serde(rename = "conn")]
    pub connection: String,
    /// Channel number.
    pub channel: u16,
    /// `client`, `server` or `broker`.
    pub from: String,
    /// `client`, `server` or `broker`.
    pub to: String,
    /// Such as `queue.declare`.
    pub method: String,
    /// Its arguments; empty for `basic.publish`, `basic.deliver` and `basic.return`.
    #[serde(default)]
    pub args: Map<String, Value>,
}

/// One message on its way to the broker.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Publish {
    /// Running number in the vector.
    pub number: u64,
    /// Name of the connection.
    pub connection: String,
    /// `client` or `server`.
    pub side: String,
    /// Whether oslo.messaging published it, and not a plain AMQP peer.
    pub genuine: bool,
    /// Exchange; empty for the default one.
    pub exchange: String,
    /// Routing key.
    pub routing_key: String,
    /// Whether it comes back when no queue takes it.
    pub mandatory: bool,
    /// Its AMQP properties.
    pub properties: Map<String, Value>,
    /// Its body, or nothing where only a note of a large one was kept.
    pub captured_body: Option<Vec<u8>>,
    /// The inner JSON of the body as recorded for reading, if it was decoded.
    pub message: Option<Value>,
}

/// What the broker held at one moment.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Topology {
    /// The moment.
    pub label: String,
    /// Exchanges other than the broker's own.
    pub exchanges: Vec<Map<String, Value>>,
    /// Queues.
    pub queues: Vec<Map<String, Value>>,
    /// Bindings other than those to the default exchange.
    pub bindings: Vec<Map<String, Value>>,
}

impl Vector {
    /// The AMQP methods named `method`, from or to anyone.
    pub fn frames_of(&self, method: &str) -> impl Iterator<Item = &Frame> {
        self.frames
            .iter()
            .filter(move |frame| frame.method == method)
    }

    /// Declarations and bindings that the applications of `side` made: exchange, queue and bind methods.
    pub fn declares_of(&self, side: &str) -> impl Iterator<Item = &Frame> {
        const METHODS: [&str; 3] = ["exchange.declare", "queue.declare", "queue.bind"];
        self.frames
            .iter()
            .filter(move |frame| frame.from == side && METHODS.contains(&frame.method.as_str()))
    }

    /// Messages that oslo.messaging itself published on `side`, those without a kept body left out.
    pub fn publishes_of(&self, side: &str) -> impl Iterator<Item = &Publish> {
        let kept = |publish: &&Publish| publish.genuine && publish.captured_body.is_some();
        self.publishes
            .iter()
            .filter(kept)
            .filter(move |publish| publish.side == side)
    }

    /// What the applications of `side` saw.
    pub fn observed_by(&self, side: &str) -> impl Iterator<Item = &Map<String, Value>> {
        self.observed
            .iter()
            .filter(move |seen| seen.get("side").and_then(Value::as_str) == Some(side))
    }

    /// Reads a vector from the text of its file.
    ///
    /// # Errors
    ///
    /// When the text is not a vector, a body cannot be decoded, or a reference leads nowhere.
    pub fn parse(text: &str) -> io::Result<Self> {
        let recorded: Recorded = serde_json::from_str(text)?;
        let mut bodies = HashMap::new();
        let (mut frames, mut publishes) = (Vec::new(), Vec::new());
        for event in recorded.direction {
            if event.get("method").is_none() {
                continue;
            }
            let frame: Frame = serde_json::from_value(event.clone())?;
            if frame.method == "basic.publish" {
                let content: Content = serde_json::from_value(event)?;
                let body = content.body(&bodies)?;
                bodies.insert(frame.number, body.clone());
                let party = recorded.connections.get(&frame.connection);
                let party =
                    party.ok_or_else(|| invalid(format!("no connection {}", frame.connection)))?;
                publishes.push(content.publish(&frame, party, body));
            }
            frames.push(frame);
        }
        Ok(Self {
            scenario: recorded.scenario,
            about: recorded.about,
            config: recorded.config,
            connections: recorded.connections,
            frames,
            publishes,
            observed: recorded.observed,
            topology: recorded.topology,
            topology_later: recorded.topology_later,
        })
    }
}

impl Publish {
    /// The body.
    ///
    /// # Panics
    ///
    /// When only a note of it was kept; [`Vector::publishes_of`] leaves these out.
    pub fn body(&self) -> &[u8] {
        self.captured_body.as_deref().expect("a body that was kept")
    }
}

/// The folder with the vectors.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors")
}

/// The vector `scenario`.
///
/// # Panics
///
/// When there is no such file or it cannot be read.
pub fn load(scenario: &str) -> Vector {
    read(&folder().join(format!("{scenario}.json")))
}

/// All vectors, by name.
///
/// # Panics
///
/// When the folder or one of its files cannot be read.
pub fn load_all() -> Vec<Vector> {
    let entries = fs::read_dir(folder()).expect("the project holds the vectors");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Vector {
    let vector = fs::read_to_string(path).and_then(|text| Vector::parse(&text));
    vector.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[derive(Deserialize)]
struct Recorded {
    scenario: String,
    about: String,
    config: Map<String, Value>,
    connections: BTreeMap<String, Party>,
    direction: Vec<Value>,
    observed: Vec<Map<String, Value>>,
    topology: Topology,
    #[serde(default)]
    topology_later: Vec<Topology>,
}

#[derive(Deserialize)]
struct Content {
    exchange: String,
    routing_key: String,
    mandatory: bool,
    properties: Map<String, Value>,
    body_utf8: Option<String>,
    body_base64: Option<String>,
    body_of: Option<u64>,
    decoded: Option<Map<String, Value>>,
}

impl Content {
    fn body(&self, earlier: &HashMap<u64, Option<Vec<u8>>>) -> io::Result<Option<Vec<u8>>> {
        if let Some(text) = &self.body_utf8 {
            return Ok(Some(text.clone().into_bytes()));
        }
        if let Some(text) = &self.body_base64 {
            return unbase64(text)
                .map(Some)
                .ok_or_else(|| invalid(format!("not base64: {text}")));
        }
        let Some(number) = self.body_of else {
            return Ok(None);
        };
        earlier
            .get(&number)
            .cloned()
            .ok_or_else(|| invalid(format!("no publish {number} before")))
    }

    fn publish(self, frame: &Frame, party: &Party, captured_body: Option<Vec<u8>>) -> Publish {
        Publish {
            number: frame.number,
            connection: frame.connection.clone(),
            side: party.side.clone(),
            genuine: party.peer == "oslo.messaging",
            exchange: self.exchange,
            routing_key: self.routing_key,
            mandatory: self.mandatory,
            properties: self.properties,
            captured_body,
            message: self
                .decoded
                .and_then(|mut decoded| decoded.remove("message")),
        }
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Base64 with the usual alphabet, padded.
fn unbase64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=').bytes();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in digits {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        bits = (bits << 6 | u32::try_from(value).ok()?) & 0xfff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vector_is_read_with_all_its_messages() {
        let vectors = load_all();
        assert_eq!(vectors.len(), 137);
        for vector in &vectors {
            let methods = vector.frames_of("basic.publish").count();
            assert_eq!(vector.publishes.len(), methods, "{}", vector.scenario);
            assert!(!vector.about.is_empty(), "{}", vector.scenario);
        }
        let messages: usize = vectors.iter().map(|vector| vector.publishes.len()).sum();
        assert_eq!(messages, 606);
        let noted = vectors
            .iter()
            .flat_map(|vector| &vector.publishes)
            .filter(|p| p.captured_body.is_none())
            .count();
        assert_eq!(
            noted, 2,
            "only the two of a mebibyte were shortened to notes"
        );
    }

    #[test]
    fn bodies_are_kept_byte_for_byte() {
        let vector = load("rpc_call_dict");
        let request = vector.publishes_of("client").next().expect("a request");
        assert_eq!(request.body().len(), 384);
        let outer: Value = serde_json::from_slice(request.body()).expect("JSON");
        let inner: Value =
            serde_json::from_str(outer["oslo.message"].as_str().expect("text")).expect("JSON");
        assert_eq!(Some(&inner), request.message.as_ref());
        let reply = vector.publishes_of("server").next().expect("a reply");
        assert!(
            reply.mandatory && reply.exchange.is_empty() && reply.routing_key.starts_with("reply_")
        );
        assert_eq!(
            vector.observed_by("client").next().expect("a result")["what"],
            "call echo"
        );
        let queues: Vec<_> = vector
            .declares_of("server")
            .filter(|frame| frame.method == "queue.declare")
            .collect();
        assert_eq!(queues[0].args["queue"], "topic-a");
    }

    #[test]
    fn compressed_bodies_are_decoded_from_base64() {
        let vector = load("topo_compression_gzip");
        let request = vector.publishes_of("client").next().expect("a request");
        assert!(
            request.body().starts_with(&[0x78, 0x9c]) || request.body().starts_with(&[0x1f, 0x8b])
        );
        assert_eq!(
            unbase64("AP/+gA==").as_deref(),
            Some([0, 255, 254, 128].as_slice())
        );
        assert_eq!(unbase64("A*"), None);
    }

    #[test]
    fn broken_vectors_are_refused() {
        let whole = fs::read_to_string(folder().join("rpc_cast.json")).expect("the file");
        assert!(Vector::parse(&whole).is_ok());
        for (from, to) in [
            ("\"topology\"", "\"topologie\""),
            ("\"body_utf8\": \"", "\"body_of\": 9999, \"left\": \""),
            ("\"body_utf8\": \"", "\"body_base64\": \"*"),
            ("\"conn\": \"client-1\"", "\"conn\": \"client-99\""),
        ] {
            assert!(
                Vector::parse(&whole.replace(from, to)).is_err(),
                "{from} → {to}"
            );
        }
    }
}
