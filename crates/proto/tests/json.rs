//! JSON as Python reads and writes it: forms, numbers, tolerance, the serde surface, limits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use oslo_messaging_proto::json::de::from_str;
use oslo_messaging_proto::json::ser::{MAX_DEPTH, to_string};
use oslo_messaging_proto::wire::envelope;
use oslo_messaging_proto::{
    Args, DecodeError, EncodeError, JsonErrorKind, Kind, Message, Number, RawJson, Request, Value,
};
use serde::{Deserialize, Serialize};

fn fails<'a, T: Deserialize<'a> + std::fmt::Debug>(text: &'a str) -> String {
    from_str::<T>(text).unwrap_err().to_string()
}

#[test]
fn floats_are_written_as_python_shows_them() {
    // From `repr` of Python 3.11.
    let cases: [(f64, &str); 22] = [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (-1.5, "-1.5"),
        (0.1, "0.1"),
        (0.0001, "0.0001"),
        (0.00012345, "0.00012345"),
        (0.00001, "1e-05"),
        (1e-7, "1e-07"),
        (1.5e-10, "1.5e-10"),
        (1e15, "1000000000000000.0"),
        (1234567890123456.0, "1234567890123456.0"),
        (1e16, "1e+16"),
        (12345678901234567.0, "1.2345678901234568e+16"),
        (1e22, "1e+22"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (-2.2250738585072014e-308, "-2.2250738585072014e-308"),
        (123.456, "123.456"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
    ];
    for (number, text) in cases {
        assert_eq!(to_string(&number).unwrap(), text);
        let again: f64 = from_str(text).unwrap();
        assert!(
            again.to_bits() == number.to_bits() || number.is_nan() && again.is_nan(),
            "{text}"
        );
        assert_eq!(Value::from(number).to_string(), text);
    }
    assert_eq!(to_string(&0.1f32).unwrap(), "0.1");
    assert_eq!(to_string(&16777216f32).unwrap(), "16777216.0");
}

#[test]
fn strings_are_written_in_pure_ascii() {
    let text = "\"\\/\n\r\t\u{8}\u{c}\u{0}\u{1f} ~\u{7f}\u{80}é日😀";
    let plain = r#""\"\\/\n\r\t\b\f\u0000\u001f ~\u007f\u0080\u00e9\u65e5\ud83d\ude00""#;
    assert_eq!(to_string(text).unwrap(), plain);
    assert_eq!(from_str::<String>(plain).unwrap(), text);
    // The envelope escapes it once more, as a JSON library does that knows nothing of the first layer.
    let sealed = envelope::seal(&BTreeMap::from([(text, text)])).unwrap();
    let inner = format!("{{{plain}: {plain}}}");
    let outer = format!(
        r#"{{"oslo.version": "2.0", "oslo.message": {}}}"#,
        serde_json::to_string(&inner).unwrap()
    );
    assert_eq!(sealed, outer);
}

#[test]
fn every_byte_is_escaped_right_at_every_place_of_a_word() {
    for place in 0..140 {
        for character in [
            '"', '\\', '\n', '\u{1f}', '\u{7f}', 'é', '\u{ffff}', '😀', ' ', '~',
        ] {
            let text = format!("{}{character}{}", "x".repeat(place), "y".repeat(70));
            let written = to_string(&text).unwrap();
            assert!(written.is_ascii());
            assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
            assert_eq!(from_str::<String>(&written).unwrap(), text);
            let sealed = envelope::seal(&Value::from_iter([("k", text.clone())])).unwrap();
            assert_eq!(
                Message::open(&sealed).unwrap().get("k").unwrap().as_str(),
                written
            );
            let foreign = serde_json::to_string(&text).unwrap();
            assert_eq!(
                to_string(&RawJson::from_text(foreign).unwrap()).unwrap(),
                written
            );
        }
    }
}

#[test]
fn numbers_of_any_size_are_kept_exactly() {
    let text = "[123456789012345678901234567890123456789012345678901234567890, -0, 18446744073709551615, 1E400, -1e400, 1.50]";
    let value: Value = from_str(text).unwrap();
    assert_eq!(
        value.to_string(),
        "[123456789012345678901234567890123456789012345678901234567890, 0, 18446744073709551615, Infinity, -Infinity, 1.5]"
    );
    assert_eq!(RawJson::from_text(text).unwrap().as_str(), text);
    assert_eq!(
        value.as_array().unwrap()[0].as_number().unwrap().as_f64(),
        1.2345678901234568e59
    );
    assert_eq!(
        value.as_array().unwrap()[2].as_number().unwrap().as_u64(),
        Some(u64::MAX)
    );
    assert_ne!(
        from_str::<Value>("1").unwrap(),
        from_str::<Value>("1.0").unwrap()
    );
    assert_eq!(
        from_str::<Value>("NaN").unwrap(),
        from_str::<Value>("NaN").unwrap()
    );
    assert_eq!(Number::from(u128::MAX).to_string(), u128::MAX.to_string());
}

#[test]
fn integers_beyond_64_bits_fit_where_they_can() {
    let big = "170141183460469231731687303715884105727";
    assert_eq!(from_str::<i128>(big).unwrap(), i128::MAX);
    assert_eq!(
        from_str::<u128>("340282366920938463463374607431768211455").unwrap(),
        u128::MAX
    );
    assert_eq!(
        from_str::<i128>("-170141183460469231731687303715884105728").unwrap(),
        i128::MIN
    );
    assert_eq!(from_str::<i128>("7").unwrap(), 7);
    assert_eq!(from_str::<f64>(big).unwrap(), 1.7014118346046923e38);
    assert_eq!(from_str::<f64>(&"9".repeat(400)).unwrap(), f64::INFINITY);
    assert_eq!(from_str::<Option<f32>>("3").unwrap(), Some(3.0));
    for text in [
        big,
        "18446744073709551616",
        "-1",
        "1.0",
        "NaN",
        &"9".repeat(60),
    ] {
        assert!(fails::<u64>(text).contains("expected u64"), "{text}");
    }
    assert!(fails::<u128>(&"9".repeat(60)).contains("expected u128"));
    assert!(fails::<String>("7").contains("expected a string"));
    assert_eq!(
        to_string(&(i128::MIN, u128::MAX)).unwrap(),
        format!("[{}, {}]", i128::MIN, u128::MAX)
    );
}

#[test]
fn keys_that_are_no_strings_become_text_and_are_read_back() {
    let numbers = BTreeMap::from([(-2, "negative"), (1, "int")]);
    assert_eq!(
        to_string(&numbers).unwrap(),
        r#"{"-2": "negative", "1": "int"}"#
    );
    assert_eq!(
        from_str::<BTreeMap<i32, &str>>(r#"{"-2": "negative", "1": "int"}"#).unwrap(),
        numbers
    );
    let truths = BTreeMap::from([(false, 0), (true, 1)]);
    assert_eq!(to_string(&truths).unwrap(), r#"{"false": 0, "true": 1}"#);
    assert_eq!(
        from_str::<BTreeMap<bool, u8>>(r#"{"false": 0, "true": 1}"#).unwrap(),
        truths
    );
    assert_eq!(
        to_string(&BTreeMap::from([(None::<i8>, 1)])).unwrap(),
        r#"{"null": 1}"#
    );
    assert_eq!(
        from_str::<BTreeMap<Option<i8>, u8>>(r#"{"null": 1}"#).unwrap(),
        BTreeMap::from([(None, 1)])
    );
    assert_eq!(
        to_string(&BTreeMap::from([('x', u128::MAX)])).unwrap(),
        format!(r#"{{"x": {}}}"#, u128::MAX)
    );
    assert_eq!(
        from_str::<BTreeMap<u128, ()>>(&format!(r#"{{"{}": null}}"#, u128::MAX))
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        to_string(&BTreeMap::from([([1], 1)])),
        Err(EncodeError::KeyNotText)
    );
    assert!(from_str::<BTreeMap<u8, ()>>(r#"{"x": null}"#).is_err());
    assert!(from_str::<BTreeMap<u8, ()>>(r#"{"300": null}"#).is_err());
    // Nested, the quotes of such keys are escaped like all others.
    let sealed = envelope::seal(&numbers).unwrap();
    assert_eq!(
        Message::open(&sealed).unwrap().get("-2").unwrap().as_str(),
        "\"negative\""
    );
}

#[test]
fn any_order_white_space_and_escaping_is_read() {
    let text = " \t\r\n{ \"b\" : [ 1 , 2.5e+1 , { } , [ ] ] ,\n\"a\\u0062\" : \"caf\u{e9} \\u00E9\\/\\ud83D\\uDe00\" } \n";
    let value: Value = from_str(text).unwrap();
    assert_eq!(
        value.to_string(),
        r#"{"b": [1, 25.0, {}, []], "ab": "caf\u00e9 \u00e9/\ud83d\ude00"}"#
    );
    assert_eq!(
        RawJson::from_text(text).unwrap().as_str(),
        text.trim_matches([' ', '\t', '\r', '\n'])
    );
}

#[test]
fn of_duplicate_keys_the_last_wins_everywhere() {
    #[derive(Deserialize, Debug, PartialEq)]
    struct Point {
        x: i64,
        #[serde(default)]
        inner: Option<Box<Point>>,
    }

    let text = r#"{"x": "wrong type", "y": 0, "inner": {"x": 1, "\u0078": 2}, "x": 3}"#;
    let point: Point = from_str(text).unwrap();
    assert_eq!(
        point,
        Point {
            x: 3,
            inner: Some(Box::new(Point { x: 2, inner: None }))
        }
    );
    assert_eq!(
        from_str::<Value>(text).unwrap().to_string(),
        r#"{"x": 3, "y": 0, "inner": {"x": 2}}"#
    );
    let args = Args::from_raw(RawJson::from_text(text).unwrap()).unwrap();
    assert_eq!(args.parse::<Point>().unwrap(), point);
    assert_eq!(args.names(), ["x", "y", "inner"]);
    assert_eq!(args.get("x").unwrap().as_str(), "3");
    let entries: Args = args.into_entries().into_iter().collect();
    assert_eq!(entries.parse::<Point>().unwrap(), point);
    let many: String = (0..40).fold("{".to_owned(), |mut text, n| {
        write!(text, "\"k{}\": {n},", n % 20).unwrap();
        text
    }) + "\"z\": 1}";
    let message = Message::open(many.as_bytes()).unwrap();
    assert_eq!(message.iter().count(), 21);
    assert_eq!(message.get("k3").unwrap().as_str(), "23");
    assert_eq!(message.iter().next().unwrap().0, "k0");
}

#[test]
fn lone_surrogates_stay_in_raw_text_and_become_replacement_characters_in_strings() {
    for body in [
        r#"{"oslo.version": "2.0", "oslo.message": "{\"method\": \"m\", \"args\": {\"v\": \"a\\ud800b\\udc00\"}}"}"#,
        r#"{"oslo.version": "2.0", "oslo.message": "{\"method\": \"m\", \"args\": {\"v\": \"a\ud800b\udc00\"}}"}"#,
        r#"{"method": "m", "args": {"v": "a\ud800b\udc00"}}"#,
    ] {
        let request = Request::decode(body.as_bytes()).unwrap();
        let raw = request.args().unwrap().get("v").unwrap();
        assert_eq!(raw.as_str(), r#""a\ud800b\udc00""#);
        assert_eq!(raw.parse::<String>().unwrap(), "a\u{fffd}b\u{fffd}");
        assert_eq!(to_string(&raw).unwrap(), r#""a\ud800b\udc00""#);
    }
    assert_eq!(
        from_str::<String>(r#""\ud83d\ud83d\ude00""#).unwrap(),
        "\u{fffd}😀"
    );
    // A backslash before the surrogate of the outer layer would escape it in the inner one, which is no JSON.
    let body = r#"{"oslo.version": "2.0", "oslo.message": "{\"k\": \"\\\ud800\"}"}"#;
    assert!(matches!(
        Message::open(body.as_bytes()),
        Err(DecodeError::Body(_))
    ));
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    let cases = [
        ("", JsonErrorKind::UnexpectedEnd, 0),
        ("nul", JsonErrorKind::UnexpectedCharacter, 0),
        ("nulll", JsonErrorKind::TrailingText, 4),
        ("01", JsonErrorKind::InvalidNumber, 1),
        ("1.", JsonErrorKind::InvalidNumber, 2),
        ("1e", JsonErrorKind::InvalidNumber, 2),
        ("-", JsonErrorKind::InvalidNumber, 1),
        ("-x", JsonErrorKind::InvalidNumber, 1),
        ("+1", JsonErrorKind::UnexpectedCharacter, 0),
        (".5", JsonErrorKind::UnexpectedCharacter, 0),
        ("-NaN", JsonErrorKind::InvalidNumber, 1),
        ("Inf", JsonErrorKind::UnexpectedCharacter, 0),
        ("\"a", JsonErrorKind::UnexpectedEnd, 2),
        ("\"\\", JsonErrorKind::UnexpectedEnd, 1),
        ("\"\\x\"", JsonErrorKind::InvalidEscape, 1),
        ("\"\\u12", JsonErrorKind::UnexpectedEnd, 3),
        ("\"\\u12g4\"", JsonErrorKind::InvalidEscape, 3),
        ("\"\n\"", JsonErrorKind::ControlCharacter, 1),
        ("[1 2]", JsonErrorKind::UnexpectedCharacter, 3),
        ("[1,]", JsonErrorKind::UnexpectedCharacter, 3),
        ("[1}", JsonErrorKind::UnexpectedCharacter, 2),
        ("{1: 2}", JsonErrorKind::UnexpectedCharacter, 1),
        ("{\"a\" 1}", JsonErrorKind::UnexpectedCharacter, 5),
        ("{\"a\": 1,}", JsonErrorKind::UnexpectedCharacter, 8),
        ("{\"a\": 1]", JsonErrorKind::UnexpectedCharacter, 7),
        ("[[]", JsonErrorKind::UnexpectedEnd, 3),
        ("\u{feff}1", JsonErrorKind::UnexpectedCharacter, 0),
        ("'a'", JsonErrorKind::UnexpectedCharacter, 0),
    ];
    for (text, kind, offset) in cases {
        let error = from_str::<Value>(text).unwrap_err();
        assert_eq!(
            (error.kind(), error.offset()),
            (&kind, Some(offset)),
            "{text:?} by value"
        );
        let error = RawJson::from_text(text).unwrap_err();
        assert_eq!(
            (error.kind(), error.offset()),
            (&kind, Some(offset)),
            "{text:?} raw"
        );
    }
}

#[test]
fn nesting_is_limited_and_never_exhausts_the_stack() {
    let million = "[".repeat(1_000_000);
    assert_eq!(
        from_str::<Value>(&million).unwrap_err().kind(),
        &JsonErrorKind::TooDeep
    );
    assert_eq!(
        RawJson::from_text(&*million).unwrap_err().kind(),
        &JsonErrorKind::TooDeep
    );
    assert_eq!(
        from_str::<serde::de::IgnoredAny>(&million)
            .unwrap_err()
            .kind(),
        &JsonErrorKind::TooDeep
    );
    for body in [
        format!("{{\"args\": {million}"),
        "{\"a\":".repeat(1_000_000),
        format!(
            r#"{{"oslo.version": "2.0", "oslo.message": "{}"}}"#,
            "{\\\"a\\\":".repeat(1_000_000)
        ),
        format!(r#"{{"__type__": {million}"#),
        million,
    ] {
        assert!(Request::decode(body.as_bytes()).is_err());
    }

    #[derive(Deserialize, Debug)]
    struct Wrapped(#[allow(dead_code)] Box<Wrapped>);
    assert_eq!(
        from_str::<Wrapped>("1").unwrap_err().kind(),
        &JsonErrorKind::TooDeep
    );

    // The deepest value that is read can be compared, copied, written and dropped.
    let deepest = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    let value: Value = from_str(&deepest).unwrap();
    assert_eq!(value, value.clone());
    assert_eq!(to_string(&value).unwrap(), deepest);
    assert_eq!(format!("{value:?}").len(), deepest.len());
    assert_eq!(to_string(&[value]), Err(EncodeError::TooDeep));
    assert!(from_str::<Value>(&format!("[{deepest}]")).is_err());
    // Deeper text, as Python takes it, can be passed on unread.
    let deeper = format!("{}{}", "[".repeat(900), "]".repeat(900));
    let raw = RawJson::from_text(&*deeper).unwrap();
    assert_eq!(to_string(&[&raw]).unwrap(), format!("[{deeper}]"));
    assert_eq!(raw.parse::<Vec<RawJson>>().unwrap().len(), 1);
}

#[test]
fn a_type_that_wraps_itself_without_end_is_an_error_when_written() {
    struct Endless;

    impl Serialize for Endless {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_newtype_struct("Endless", self)
        }
    }

    assert_eq!(to_string(&Endless), Err(EncodeError::TooDeep));
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
enum Shape {
    Unit,
    Newtype(u8),
    Tuple(u8, String),
    Struct { x: i32, y: Option<f64> },
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Meters(f64);

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Marker;

#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Tagged {
    One { value: u64 },
    Two { value: String },
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(untagged)]
enum Either {
    Number(i64),
    Text(String),
    Many(Vec<Either>),
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Wide<'a> {
    borrowed: &'a str,
    cow: Cow<'a, str>,
    shapes: Vec<Shape>,
    length: Meters,
    marker: Marker,
    pair: (i8, char),
    array: [u16; 3],
    nothing: (),
    option: Option<Option<u8>>,
    tagged: Vec<Tagged>,
    either: Either,
    map: HashMap<String, bool>,
    raw: RawJson,
    value: Value,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[test]
fn the_types_of_handlers_are_read_and_written() {
    let wide = Wide {
        borrowed: "plain",
        cow: "caf\u{e9}".into(),
        shapes: vec![
            Shape::Unit,
            Shape::Newtype(7),
            Shape::Tuple(1, "x".into()),
            Shape::Struct { x: -1, y: None },
        ],
        length: Meters(2.0),
        marker: Marker,
        pair: (-1, '😀'),
        array: [1, 2, 3],
        nothing: (),
        option: Some(Some(1)),
        tagged: vec![Tagged::One { value: 5 }, Tagged::Two { value: "v".into() }],
        either: Either::Many(vec![Either::Number(-5), Either::Text("t".into())]),
        map: HashMap::from([("k".to_owned(), true)]),
        raw: RawJson::from_text("{\"a\":  1e3}").unwrap(),
        value: Value::from_iter([("n", Value::from(1u8)), ("l", vec![(), ()].into())]),
        rest: BTreeMap::from([("extra".to_owned(), Value::from(1.5))]),
    };
    let text = to_string(&wide).unwrap();
    let expected = concat!(
        r#"{"borrowed": "plain", "cow": "caf\u00e9", "shapes": ["Unit", {"Newtype": 7}, {"Tuple": [1, "x"]}, "#,
        r#"{"Struct": {"x": -1, "y": null}}], "length": 2.0, "marker": null, "pair": [-1, "\ud83d\ude00"], "#,
        r#""array": [1, 2, 3], "nothing": null, "option": 1, "tagged": [{"kind": "one", "value": 5}, "#,
        r#"{"kind": "two", "value": "v"}], "either": [-5, "t"], "map": {"k": true}, "raw": {"a":  1e3}, "#,
        r#""value": {"n": 1, "l": [null, null]}, "extra": 1.5}"#
    );
    assert_eq!(text, expected);
    // Flattened structs are read into a buffer of serde's own first, which copies strings.
    let owned = text.replace("\"plain\"", "\"pl\\u0061in\"");
    assert!(fails::<Wide<'_>>(&owned).contains("expected a borrowed string"));
    assert_eq!(from_str::<Wide<'_>>(&text).unwrap(), wide);
    // The same inside the envelope, with every quote escaped once more.
    let sealed = envelope::seal(&wide).unwrap();
    let outer: serde_json::Value = serde_json::from_slice(&sealed).unwrap();
    assert_eq!(outer["oslo.message"], expected);
    // Another format gets the raw parts as what they are.
    let foreign: serde_json::Value = serde_json::to_value(&wide).unwrap();
    assert_eq!(foreign["raw"], serde_json::json!({"a": 1000.0}));
    assert_eq!(
        serde_json::from_str::<Wide<'_>>(&text)
            .unwrap()
            .raw
            .as_str(),
        r#"{"a": 1000.0}"#
    );
}

#[test]
fn strings_are_borrowed_where_they_can_be() {
    let text = r#"["plain", "esc\u0061ped", {"key": "value"}]"#;
    let (plain, escaped, map): (&str, Cow<'_, str>, HashMap<&str, &str>) = from_str(text).unwrap();
    assert_eq!(
        (plain, &*escaped, map["key"]),
        ("plain", "escaped", "value")
    );
    assert!(text.as_bytes().as_ptr_range().contains(&plain.as_ptr()));
}

#[test]
fn bytes_are_sent_as_text_or_not_at_all() {
    struct Bytes<'a>(&'a [u8]);

    impl Serialize for Bytes<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }

    assert_eq!(to_string(&Bytes(b"raw bytes")).unwrap(), "\"raw bytes\"");
    assert_eq!(to_string(&Bytes(&[0xff])), Err(EncodeError::BytesNotText));
    assert_eq!(from_str::<&[u8]>("\"raw bytes\"").unwrap(), b"raw bytes");
}

#[test]
fn errors_never_show_the_text_of_a_string() {
    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Login {
        user: u32,
        shape: Option<Shape>,
    }

    for text in [
        r#"{"user": "hunter2"}"#,
        r#"{"user": 1, "shape": "hunter2"}"#,
        r#"{"user": 1, "shape": {"hunter2": 1}}"#,
        r#"{"user": 1, "shape": {"Newtype": "hunter2"}}"#,
        r#""hunter2"#,
        r#"{"user": hunter2}"#,
    ] {
        let error = from_str::<Login>(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    let raw = RawJson::from_text("\"hunter2\"").unwrap();
    assert_eq!(format!("{raw:?}"), "RawJson(String, 9 bytes)");
}

#[test]
fn raw_json_knows_its_kind_and_what_python_takes_for_true() {
    let cases = [
        ("null", Kind::Null, false),
        ("true", Kind::Bool, true),
        ("false", Kind::Bool, false),
        ("0", Kind::Integer, false),
        ("-0", Kind::Integer, false),
        ("10", Kind::Integer, true),
        ("0.0", Kind::Float, false),
        ("-0e9", Kind::Float, false),
        ("NaN", Kind::Float, true),
        ("-Infinity", Kind::Float, true),
        ("\"\"", Kind::String, false),
        ("\"0\"", Kind::String, true),
        ("[ ]", Kind::Array, false),
        ("[0]", Kind::Array, true),
        ("{\n}", Kind::Object, false),
        ("{\"a\":0}", Kind::Object, true),
    ];
    for (text, kind, truthy) in cases {
        let raw: RawJson = text.parse().unwrap();
        assert_eq!((raw.kind(), raw.is_truthy()), (kind, truthy), "{text}");
    }
}
