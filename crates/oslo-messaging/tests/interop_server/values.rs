//! What Python sends arrives whole, and comes back as it was.

use oslo_messaging::Value as Json;
use serde_json::json;

use crate::common::{ServedByRust, largest};
use crate::{raised, returned, to};

#[tokio::test(flavor = "multi_thread")]
async fn python_gets_every_kind_of_value_back_as_it_sent_it() {
    let Some(scene) = ServedByRust::start("python_gets_every_kind_of_value_back").await else {
        return;
    };
    // In Python's own spelling, so that what comes back can be compared by text.
    let values = [
        r#"null"#,
        r#"true"#,
        r#"false"#,
        r#"0"#,
        r#"-1"#,
        r#"9223372036854775808"#,
        r#"18446744073709551616"#,
        r#"-1234567890123456789012345678901234567890"#,
        r#"0.1"#,
        r#"-0.0"#,
        r#"1e+22"#,
        r#"1e-07"#,
        r#"1.7976931348623157e+308"#,
        r#"5e-324"#,
        r#"NaN"#,
        r#"Infinity"#,
        r#"-Infinity"#,
        r#""""#,
        r#""plain""#,
        r#""\u00e9\u4e2d\u6587\u0416""#,
        r#""\ud83d\ude00 \ud834\udd1e""#,
        r#""\ud800 alone""#,
        r#""\"\\/\b\f\n\r\t\u0000\u001f\u007f""#,
        r#"[]"#,
        r#"{}"#,
        r#"[[], {}, [null, [1, [2.5, ["x"]]]]]"#,
        r#"{"1": "a key that was an int", "true": 1, "null": 2, "": 3, "\u00e9.\ud83d\ude00": {"k": {"k": {}}}}"#,
    ];
    let arguments: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(n, value)| format!("\"v{n}\": {value}"))
        .collect();
    let text = format!("{{{}}}", arguments.join(", "));
    let answer = scene
        .python
        .call(&to("echo").args_json(&text))
        .await
        .expect("Python works")
        .expect("an answer");
    assert_eq!(answer.json, text);
    for value in values {
        let request = to("value").args_json(&format!("{{\"value\": {value}}}"));
        let answer = scene
            .python
            .call(&request)
            .await
            .expect("Python works")
            .expect("an answer");
        assert_eq!(answer.json, value);
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_values_arrive_as_rust_types_and_wrong_ones_are_type_errors() {
    let Some(scene) = ServedByRust::start("python_values_arrive_as_rust_types").await else {
        return;
    };
    let python = &scene.python;
    let nested = json!({"list": [true, null, false], "table": {"7": 7, "0": 0}});
    let all = json!({
        "small": -128, "big": 9_223_372_036_854_775_807_i64, "float": 1, "text": "naïve 😀", "nested": nested, "none": null
    });
    let result = returned(python, &to("types").args(all.clone())).await;
    let mut expected = all.clone();
    expected["float"] = json!(1.0);
    assert_eq!(result, expected);
    let beyond = r#"{"small": 127, "big": -170141183460469231731687303715884105728, "float": -0.0, "text": "", "nested": {"list": [], "table": {}}}"#;
    let answer = python.call(&to("types").args_json(beyond)).await;
    let answer = answer.expect("Python works").expect("an answer");
    assert_eq!(answer.json, beyond.replace("}}}", "}}, \"none\": null}"));
    assert_eq!(
        returned(python, &to("add").args(json!({"a": 1}))).await,
        json!(2)
    );
    assert_eq!(
        returned(python, &to("add").args(json!({"a": 1, "b": -5}))).await,
        json!(-4)
    );

    let wrong = [
        (json!({}), "missing 1 required positional argument: 'a'"),
        (
            json!({"a": 1, "c": 2}),
            "got an unexpected keyword argument 'c'",
        ),
        (json!({"a": "one"}), "'a'"),
        (json!({"a": 1.5}), "'a'"),
        (json!({"a": null}), "'a'"),
        (json!({"a": [1]}), "'a'"),
    ];
    for (args, text) in wrong {
        let error = raised(python, &to("add").args(args.clone())).await;
        assert_eq!(
            (error.class.as_str(), error.module.as_str()),
            ("TypeError", "builtins"),
            "{args}"
        );
        assert!(error.text.contains(text), "{args}: {}", error.text);
    }
    let too_small = json!({"small": 128, "big": 0, "float": 0, "text": "", "nested": {"list": [], "table": {}}});
    let error = raised(python, &to("types").args(too_small)).await;
    assert_eq!(error.class, "TypeError");
    assert!(error.text.contains("'small'"), "{}", error.text);
    assert_eq!(
        scene.journal.of("add").len(),
        2,
        "a method with wrong arguments never runs"
    );
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sends_and_receives_1_and_20_mebibytes() {
    let Some(scene) = ServedByRust::start("python_sends_and_receives_20_mebibytes").await else {
        return;
    };
    for size in [1 << 20, largest(&scene.vhost).await] {
        let value = "x".repeat(size);
        assert_eq!(
            returned(&scene.python, &to("length").args(json!({"value": value}))).await,
            json!(size)
        );
        let result = returned(&scene.python, &to("big").args(json!({"size": size}))).await;
        assert!(
            result.as_str() == Some(value.as_str()),
            "the whole of {size} bytes came back"
        );
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_contexts_arrive_whole_with_nested_values_and_unusual_keys() {
    let Some(scene) = ServedByRust::start("python_contexts_arrive_whole").await else {
        return;
    };
    let context = json!({
        "user": "alice", "roles": ["admin", {"scope": {"deep": [null, true, 1.5, "😀"]}}], "self": 1, "a.b.c": 2,
        "": "empty key", "1st": 3, "mit Leerzeichen": "é", "ключ": {"": {}}, "_context_x": "twice", "args": [], "null": null,
        "method": "echo", "\"quoted\\\"": 4
    });
    assert_eq!(
        returned(&scene.python, &to("context").context(context.clone())).await,
        context
    );
    // Reserved names: the server's own word counts, as with the reference.
    let reserved = json!({"user": "bob", "msg_id": "m", "reply_q": "r", "client_timeout": 7});
    assert_eq!(
        returned(&scene.python, &to("context").context(reserved)).await,
        json!({"user": "bob"})
    );
    assert_eq!(returned(&scene.python, &to("context")).await, json!({}));
    scene
        .python
        .cast(&to("context").context(context.clone()))
        .await
        .expect("Python works")
        .expect("sent");
    let noted = scene.journal.wait_for("context", 4).await;
    let expected: Json = serde_json::from_value(context).expect("the same value");
    assert_eq!(noted[3].detail, expected);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_python_calls_at_once_each_get_their_own_answer() {
    let Some(scene) = ServedByRust::start("many_python_calls_at_once").await else {
        return;
    };
    let calls = (0..100).map(|n| {
        let request = to("value").args(json!({"value": n}));
        let python = &scene.python;
        async move { assert_eq!(returned(python, &request).await, json!(n)) }
    });
    join_all(calls).await;
    assert_eq!(scene.journal.of("value").len(), 100);
    scene.end().await;
}

async fn join_all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut pinned: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        pinned.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if pinned.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}
