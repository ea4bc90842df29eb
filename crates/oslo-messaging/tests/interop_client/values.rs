//! What Rust sends arrives whole, and comes back as it was.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use oslo_messaging::{Context, ErrorKind, RawJson, Value as Json};
use serde_json::{Value, json};

use crate::ServedByPython;
use crate::common::{LONG, TOPIC, ctx, largest, no_args};

#[tokio::test(flavor = "multi_thread")]
async fn rust_gets_every_kind_of_value_back_as_it_sent_it() {
    let Some(scene) = ServedByPython::start("rust_gets_every_kind_of_value_back").await else {
        return;
    };
    let texts = [
        r#"null"#,
        r#"true"#,
        r#"false"#,
        r#"0"#,
        r#"-1"#,
        r#"18446744073709551615"#,
        r#"18446744073709551616"#,
        r#"-1234567890123456789012345678901234567890"#,
        r#"0.1"#,
        r#"-0.0"#,
        r#"1e+22"#,
        r#"1e-07"#,
        r#"5e-324"#,
        r#"NaN"#,
        r#"Infinity"#,
        r#"-Infinity"#,
        r#""""#,
        r#""\u00e9\u4e2d\u6587\u0416""#,
        r#""\ud83d\ude00 \ud834\udd1e""#,
        r#""\ud800 alone""#,
        r#""\"\\/\b\f\n\r\t\u0000\u001f\u007f""#,
        r#"[]"#,
        r#"{}"#,
        r#"[[], {}, [null, [1, [2.5, ["x"]]]]]"#,
        r#"{"1": "a", "": 3, "\u00e9.\ud83d\ude00": {"k": {"k": {}}}}"#,
    ];
    for text in texts {
        let raw = RawJson::from_text(text).expect("a value");
        let sent = BTreeMap::from([("value", raw)]);
        let result = scene
            .client
            .call_raw(&ctx(), "value", &sent)
            .await
            .expect("an answer");
        assert_eq!(result.as_str(), text);
    }
    let received = scene
        .python
        .wait_for_received("value", texts.len(), LONG)
        .await
        .expect("received");
    for (text, received) in texts.iter().zip(&received) {
        assert_eq!(received.args_json, format!("{{\"value\": {text}}}"));
    }
    scene.end().await;
}

#[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug, Clone)]
struct Everything {
    none: Option<u8>,
    flag: bool,
    least: i128,
    most: u128,
    float: f64,
    letter: char,
    text: String,
    tuple: (u8, String),
    by_number: BTreeMap<i64, String>,
    by_flag: HashMap<bool, u8>,
    state: State,
    states: Vec<State>,
}

#[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug, Clone)]
#[serde(rename_all = "snake_case")]
enum State {
    Idle,
    Busy { with: String },
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_types_cross_python_and_come_back_equal() {
    let Some(scene) = ServedByPython::start("rust_types_cross_python").await else {
        return;
    };
    let everything = Everything {
        none: None,
        flag: true,
        least: i128::MIN,
        most: u128::MAX,
        float: std::f64::consts::PI,
        letter: '😀',
        text: "naïve \u{0} \u{7f} \u{2028} 中".to_owned(),
        tuple: (7, "x".to_owned()),
        by_number: BTreeMap::from([(-1, "a".to_owned()), (i64::MAX, "b".to_owned())]),
        by_flag: HashMap::from([(true, 1), (false, 0)]),
        state: State::Idle,
        states: vec![
            State::Busy {
                with: "é".to_owned(),
            },
            State::Idle,
        ],
    };
    let back: Everything = scene
        .client
        .call(&ctx(), "echo", &everything)
        .await
        .expect("an answer");
    assert_eq!(back, everything);
    let sum: i64 = scene
        .client
        .call(
            &ctx(),
            "add",
            [("a", 40), ("b", 2)].into_iter().collect::<HashMap<_, _>>(),
        )
        .await
        .expect("a sum");
    assert_eq!(sum, 42);
    // A result that is not of the type asked for is an error of its own, not a panic and not a remote error.
    let wrong = scene
        .client
        .call::<_, Vec<u8>>(&ctx(), "echo", &everything)
        .await
        .expect_err("an object is no list");
    assert_eq!(wrong.kind(), ErrorKind::Decode);
    assert!(wrong.to_string().contains(TOPIC), "{wrong}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_sends_and_receives_1_and_20_mebibytes() {
    let Some(scene) = ServedByPython::start("rust_sends_and_receives_20_mebibytes").await else {
        return;
    };
    for size in [1 << 20, largest(&scene.vhost).await] {
        let value = "x".repeat(size);
        assert_eq!(
            scene
                .value("length", BTreeMap::from([("value", &value)]))
                .await,
            Json::from(size)
        );
        let big: String = scene
            .client
            .call(&ctx(), "big", BTreeMap::from([("size", size)]))
            .await
            .expect("an answer");
        assert!(big == value, "the whole of {size} bytes came back");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_contexts_arrive_whole_with_nested_values_and_unusual_keys() {
    let Some(scene) = ServedByPython::start("rust_contexts_arrive_whole").await else {
        return;
    };
    let entries = json!({
        "user": "alice", "roles": ["admin", {"scope": {"deep": [null, true, 1.5, "😀"]}}], "a.b.c": 2, "": "empty key",
        "1st": 3, "mit Leerzeichen": "é", "ключ": {"": {}}, "_context_x": "twice", "args": [], "null": null,
        "method": "echo", "auth_token": "tok", "\"quoted\\\"": 4, "big": 123456789012345678_u64
    });
    let context = Context::from_value(&entries).expect("a context");
    let back: Value = scene
        .client
        .call(&context, "context", ())
        .await
        .expect("an answer");
    let mut expected = entries.clone();
    expected["client_timeout"] = Value::Null;
    assert_eq!(back, expected);
    let monitored = scene
        .client
        .prepare()
        .call_monitor_timeout(Duration::from_secs(20));
    let back: Value = monitored
        .call(&context, "context", ())
        .await
        .expect("an answer");
    assert_eq!(back["client_timeout"], json!(20));
    scene
        .client
        .cast(&context, "note", no_args())
        .await
        .expect("sent");
    let received = scene
        .python
        .wait_for_received("note", 1, LONG)
        .await
        .expect("received");
    assert_eq!(Value::Object(received[0].ctxt.clone()), expected);
    let back: Value = scene
        .client
        .call(&ctx(), "context", ())
        .await
        .expect("an answer");
    assert_eq!(back, json!({"client_timeout": null}));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rust_calls_at_once_each_get_their_own_answer() {
    let Some(scene) = ServedByPython::start("many_rust_calls_at_once").await else {
        return;
    };
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..300 {
        let client = scene.client.clone();
        calls.spawn(async move {
            let answer: u64 = client
                .call(&ctx(), "value", BTreeMap::from([("value", n)]))
                .await
                .expect("an answer");
            assert_eq!(answer, n);
        });
    }
    calls.join_all().await;
    scene.end().await;
}
