//! Values that JSON has no type for, and request contexts, against the libraries of the reference that write them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oslo_messaging::primitive::{Date, DateTime, to_primitive};
use oslo_messaging::{Context, RawJson, RequestContext};
use oslo_messaging_testkit::python::Peer;
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::common::{LONG, vhost_and_python};

#[derive(Serialize)]
struct Instance {
    name: &'static str,
    #[serde(with = "oslo_messaging::primitive::datetime")]
    at: SystemTime,
}

#[derive(Serialize)]
struct Bytes(#[serde(with = "oslo_messaging::primitive::bytes")] &'static [u8]);

fn text<T: Serialize + ?Sized>(value: &T) -> String {
    let primitive = to_primitive(value).expect("it has a plain form");
    let written = RawJson::from_value(value).expect("it is written");
    assert_eq!(written.to_value().expect("it is read"), primitive);
    primitive.to_string()
}

fn at(text: &str) -> DateTime {
    text.parse().expect("a date and time")
}

/// The values of `primitives` in `interop/peer_matrix.py`.
fn ours() -> BTreeMap<&'static str, String> {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let instance = Instance {
        name: "vm-1",
        at: UNIX_EPOCH + Duration::from_secs(1_704_164_645),
    };
    let day = |year, month, day| Date::new(year, month, day).expect("a day");
    // The order of the reference's mapping, which is no matter of the wire but shows that keys stay in order.
    let mut mapping = oslo_messaging::proto::Object::new();
    mapping.insert("b".to_owned(), 1.into());
    mapping.insert("a".to_owned(), vec![oslo_messaging::Value::from(2)].into());
    let keys: [(RawKey, &str); 4] = [
        (RawKey::Integer(1), "a"),
        (RawKey::Float(2.5), "b"),
        (RawKey::Bool(false), "c"),
        (RawKey::Null, "d"),
    ];
    BTreeMap::from([
        ("datetime", text(&at("2024-01-02T03:04:05.678901"))),
        ("datetime whole", text(&at("1969-12-31 23:59:59"))),
        (
            "datetime utc",
            text(&at("2024-02-29T00:00:00.000001+00:00")),
        ),
        // A time in Rust is a point in UTC, so the zone cannot be dropped unconverted: the local time is given.
        ("datetime zone", text(&at("2024-01-02T03:04:05"))),
        ("date", text(&day(2024, 2, 29))),
        ("uuid", text("12345678-1234-5678-1234-567812345678")),
        ("bytes", text(&Bytes("naïve".as_bytes()))),
        ("set", text(&BTreeSet::from(["admin"]))),
        ("frozenset", text(&BTreeSet::from([1]))),
        ("tuple", text(&(1, "a", ()))),
        ("range", text(&(0..3).collect::<Vec<_>>())),
        ("ipv4", text(&ip("10.0.0.1"))),
        ("ipv6", text(&ip("fe80::1"))),
        ("decimal", text("1.50")),
        ("mapping", text(&oslo_messaging::Value::Object(mapping))),
        ("instance", text(&instance)),
        ("keys", text(&Keys(&keys))),
        ("nested", text(&BTreeMap::from([("at", [day(2024, 1, 1)])]))),
    ])
}

/// Keys that are no text.
enum RawKey {
    Integer(i64),
    Float(f64),
    Bool(bool),
    Null,
}

impl Serialize for RawKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(key) => serializer.serialize_i64(*key),
            Self::Float(key) => serializer.serialize_f64(*key),
            Self::Bool(key) => serializer.serialize_bool(*key),
            Self::Null => serializer.serialize_unit(),
        }
    }
}

struct Keys<'a>(&'a [(RawKey, &'a str)]);

impl Serialize for Keys<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_written_as_the_reference_makes_them_plain() {
    let Some((vhost, python)) = vhost_and_python("values_are_written", |setup| setup).await else {
        return;
    };
    let right: BTreeMap<String, String> = python
        .ask("primitives", json!({}), LONG)
        .await
        .expect("Python answers");
    let ours = ours();
    assert_eq!(right.len(), ours.len());
    for (name, text) in &right {
        assert_eq!(Some(text), ours.get(name.as_str()), "{name}");
    }
    // What the reference wrote is read into the types it came from.
    for name in ["datetime", "datetime whole", "datetime utc"] {
        let raw = RawJson::from_text(right[name].clone()).expect("JSON");
        let read: DateTime = raw.parse().expect("a date and time");
        assert_eq!(text(&read), right[name]);
    }
    python.close().await.expect("Python closes");
    vhost.delete().await.expect("deleted");
}

fn as_json(context: &Context) -> Json {
    serde_json::from_str(&context_text(context)).expect("JSON")
}

fn context_text(context: &Context) -> String {
    RawJson::from_value(context)
        .expect("JSON")
        .as_str()
        .to_owned()
}

fn request(attributes: &Json) -> RequestContext {
    let text = |name: &str| attributes[name].as_str().map(str::to_owned);
    let mut request = RequestContext::new();
    request.request_id = text("request_id").expect("given");
    request.global_request_id = text("global_request_id");
    request.auth_token = text("auth_token");
    request.user_id = text("user_id");
    request.user_name = text("user_name");
    request.user_domain_id = text("user_domain_id");
    request.user_domain_name = text("user_domain_name");
    request.project_id = text("project_id");
    request.project_name = text("project_name");
    request.project_domain_id = text("project_domain_id");
    request.project_domain_name = text("project_domain_name");
    request.domain_id = text("domain_id");
    request.domain_name = text("domain_name");
    request.system_scope = text("system_scope");
    request.resource_uuid = text("resource_uuid");
    let roles = attributes["roles"].as_array().cloned().unwrap_or_default();
    request.roles = roles
        .iter()
        .filter_map(|role| role.as_str().map(str::to_owned))
        .collect();
    let flag = |name: &str| attributes.get(name).and_then(Json::as_bool);
    request.is_admin = flag("is_admin").or(request.is_admin);
    request.is_admin_project = flag("is_admin_project").unwrap_or(true);
    request.read_only = flag("read_only").unwrap_or(false);
    request.show_deleted = flag("show_deleted").unwrap_or(false);
    request
}

/// The dictionary without the keys that oslo.context reads and does not write.
fn without_names(context: &Context) -> Json {
    let mut json = as_json(context);
    if let Some(members) = json.as_object_mut() {
        members.retain(|key, _| !key.ends_with("_name"));
    }
    json
}

async fn check_attributes(python: &Peer, attributes: &Json) {
    let right: Json = python
        .ask("contexts", json!({"attributes": attributes}), LONG)
        .await
        .expect("Python answers");
    let request = request(attributes);
    let context = request.to_context();
    assert_eq!(without_names(&context), right["dict"], "{attributes}");
    let redacted = request.redacted();
    assert_eq!(
        without_names(&redacted.to_context()),
        right["redacted"],
        "{attributes}"
    );
    assert_eq!(
        RequestContext::from_context(&context).expect("read"),
        request
    );

    // Read back there, everything is what it was; so is what was written there and read here.
    let values = json!({"values": as_json(&context)});
    let back: Json = python
        .ask("read_context", values, LONG)
        .await
        .expect("Python answers");
    assert_eq!(back["dict"], right["dict"], "{attributes}");
    for (name, value) in back["names"].as_object().expect("names") {
        assert_eq!(
            value,
            &attributes.get(name).cloned().unwrap_or_default(),
            "{name}"
        );
    }
    let theirs = Context::from_value(&right["dict"]).expect("an object");
    let read = RequestContext::from_context(&theirs).expect("read");
    assert_eq!(
        without_names(&read.to_context()),
        right["dict"],
        "{attributes}"
    );

    let shown = format!("{request:?} {request:#?}");
    if let Some(token) = attributes["auth_token"].as_str() {
        assert!(!shown.contains(token), "{shown}");
        assert!(!context_text(&redacted.to_context()).contains(token));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_contexts_are_those_of_oslo_context_in_both_directions() {
    let Some((vhost, python)) = vhost_and_python("request_contexts_are_those", |setup| setup).await
    else {
        return;
    };
    for attributes in [
        json!({"request_id": "req-1"}),
        json!({
            "request_id": "req-2", "global_request_id": "req-g", "auth_token": "gAAAAABhunter2", "user_id": "u-1",
            "user_name": "Zoë", "user_domain_id": "ud", "user_domain_name": "Users", "project_id": "p-1",
            "project_name": "P", "project_domain_id": "pd", "project_domain_name": "Projects", "domain_id": "d-1",
            "domain_name": "D", "system_scope": "all", "roles": ["admin", "reader"], "is_admin": true,
            "is_admin_project": false, "read_only": true, "show_deleted": true, "resource_uuid": "r-1"
        }),
        json!({"request_id": "req-3", "user_id": "", "roles": [], "is_admin": false}),
    ] {
        check_attributes(&python, &attributes).await;
    }
    // What is missing has the same default on both sides, and what is unknown stays on ours.
    for values in [
        json!({"request_id": "req-4"}),
        json!({"request_id": "req-5", "user": "u-1", "roles": null, "is_admin": null, "timestamp": "now", "tenant": "t"}),
    ] {
        let ask = json!({"values": values});
        let right: Json = python
            .ask("read_context", ask, LONG)
            .await
            .expect("Python answers");
        let context = Context::from_value(&values).expect("an object");
        let mut ours = as_json(
            &RequestContext::from_context(&context)
                .expect("read")
                .to_context(),
        );
        let members = ours.as_object_mut().expect("an object");
        for kept in ["timestamp", "tenant"] {
            assert_eq!(members.remove(kept), values.get(kept).cloned(), "{kept}");
        }
        if values.get("tenant").is_some() {
            // Mitaka's name of the project, which today's oslo.context does not know.
            assert_eq!(members["project_id"], "t");
            (members["project_id"], members["project"]) = (json!(null), json!(null));
            members["user_identity"] = right["dict"]["user_identity"].clone();
        }
        assert_eq!(ours, right["dict"], "{values}");
    }
    python.close().await.expect("Python closes");
    vhost.delete().await.expect("deleted");
}
