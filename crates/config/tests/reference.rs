//! The same files, read by this crate and by Python's oslo.config, mean the same.
//!
//! Every rule of the file language is a case here; a few thousand random files follow. Where this crate means something
//! else on purpose, the last tests show both.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use oslo_messaging_config::options;
use oslo_messaging_config::resolve::{Report, Resolver};
use oslo_messaging_config::sources::Sources;
use oslo_messaging_config::table::{Options, Table};
use oslo_messaging_config::value::{Multi, OptionValue};
use oslo_messaging_testkit::python::script_or_skip;
use serde_json::{Value, json};

options! {
    /// The group of options that belong to no other.
    #[derive(Debug, Clone)]
    struct MainConfig in "DEFAULT" {
        /// Text.
        my_ip: String = "127.0.0.1".to_owned();
        /// Text.
        text: String = "main".to_owned();
        /// Number.
        count: i64 = 7;
    }
}

options! {
    /// A group.
    #[derive(Debug, Clone)]
    struct GroupConfig in "grp" {
        /// Text.
        text: String = String::new(), was(&[("", "old_text"), ("DEFAULT", "grp_text")]);
        /// Text.
        other: String = "o".to_owned();
        /// Boolean.
        flag: bool = true;
        /// Integer.
        count: i64 = 5, min(-10.0), max(100.0), was(&[("", "number")]);
        /// Float.
        ratio: f64 = 0.5, min(0.0), max(4.5);
        /// List.
        items: Vec<String> = vec!["a".to_owned(), "b".to_owned()];
        /// Dict.
        pairs: BTreeMap<String, String> = BTreeMap::new();
        /// Multi.
        many: Multi = Multi::default(), was(&[("", "some")]);
        /// Not set.
        unset: Option<String> = None;
    }
}

const TABLES: &[Table] = &[MainConfig::TABLE, GroupConfig::TABLE];

/// Files and variables of one case.
#[derive(Debug, Clone, Default)]
struct Case {
    files: Vec<String>,
    variables: Vec<(&'static str, &'static str)>,
}

fn case(text: &str) -> Case {
    Case {
        files: vec![text.to_owned()],
        ..Case::default()
    }
}

/// What an option came to: Python's `str` of it, or none for an error.
type Values = BTreeMap<String, Option<String>>;

/// What this crate makes of a case; none if a file cannot be read.
fn ours(case: &Case) -> Option<Values> {
    let mut sources = Sources::new();
    for (index, text) in case.files.iter().enumerate() {
        sources.text(format!("{index}.conf"), text).ok()?;
    }
    let variables = case.variables.iter();
    sources.environment(variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let mut values = Values::new();
    for table in TABLES {
        for option in table.options {
            // One option at a time: its errors are those of this option and of what it refers to.
            let mut resolver = Resolver::new(&sources, TABLES);
            let text = match table.group {
                "DEFAULT" => value::<MainConfig>(&mut resolver, option.name),
                _ => value::<GroupConfig>(&mut resolver, option.name),
            };
            values.insert(format!("{}.{}", table.group, option.name), text);
        }
    }
    Some(values)
}

/// The value of one option; none if reading it gave an error.
fn value<T: Options + Shown>(resolver: &mut Resolver<'_>, name: &str) -> Option<String> {
    let loaded: T = resolver.load_only(name);
    let failed = !resolver.report().errors().is_empty();
    (!failed).then(|| loaded.shown(name))
}

/// Python's `str` of an option.
trait Shown {
    fn shown(&self, name: &str) -> String;
}

impl Shown for MainConfig {
    fn shown(&self, name: &str) -> String {
        match name {
            "my_ip" => self.my_ip.python(),
            "text" => self.text.python(),
            _ => self.count.python(),
        }
    }
}

impl Shown for GroupConfig {
    fn shown(&self, name: &str) -> String {
        match name {
            "text" => self.text.python(),
            "other" => self.other.python(),
            "flag" => self.flag.python(),
            "count" => self.count.python(),
            "ratio" => self.ratio.python(),
            "items" => self.items.python(),
            "pairs" => self.pairs.python(),
            "many" => self.many.python(),
            _ => self.unset.python(),
        }
    }
}

fn declared() -> Value {
    let mut found = Vec::new();
    for table in TABLES {
        for option in table.options {
            let texts = option.default_texts();
            let default = match option.kind {
                "boolean" => json!(texts[0] == "true"),
                "integer" => json!(texts[0].parse::<i64>().unwrap()),
                "floating point" => json!(texts[0].parse::<f64>().unwrap()),
                "list" => json!(texts[0].split(',').collect::<Vec<_>>()),
                "dict" => json!({}),
                "multi valued" => json!(texts),
                _ => json!(texts.first()),
            };
            found.push(json!({
                "group": table.group, "name": option.name, "kind": option.kind, "default": default,
                "min": option.min, "max": option.max, "former": option.former,
            }));
        }
    }
    Value::Array(found)
}

/// What oslo.config makes of the cases.
fn theirs(test: &str, cases: &[Case]) -> Option<Vec<Option<Values>>> {
    let orders: Vec<Value> = cases
        .iter()
        .map(|case| {
            let names = (0..).map(|index| format!("{index}.conf"));
            let files: Vec<_> = names.zip(&case.files).collect();
            let variables: BTreeMap<_, _> = case.variables.iter().copied().collect();
            json!({"files": files, "environment": variables})
        })
        .collect();
    let order = json!({"cases": orders, "options": declared()});
    let answer = script_or_skip(test, "config_reader.py", &order)?;
    let read = |answer: &Value| {
        let values = answer.as_object().unwrap();
        if values.contains_key("fault") {
            return None;
        }
        let value = |(name, value): (&String, &Value)| {
            (name.clone(), value["value"].as_str().map(str::to_owned))
        };
        Some(values.iter().map(value).collect())
    };
    Some(answer.as_array().unwrap().iter().map(read).collect())
}

fn compare(test: &str, cases: &[Case]) {
    let Some(theirs) = theirs(test, cases) else {
        return;
    };
    assert_eq!(theirs.len(), cases.len());
    for (case, theirs) in cases.iter().zip(theirs) {
        assert_eq!(ours(case), theirs, "{case:?}");
    }
}

#[test]
fn lines_are_read_as_oslo_config_reads_them() {
    let values = [
        "a = b:c",
        "a : b=c",
        "text=x=y:z",
        "text : x=y",
        "text",
        "= x",
        " text = x",
        "text = 'x' # y",
        "text = 'x\" ",
        "text = ''x''",
        "text = \"",
        "text = \"\"",
        "text = x\n y\n\tz\n# c\n",
        "text =\n  x\n  y",
        "text = x\n\n  y",
        "text = x\n# c\n  y",
        "; text = x",
        "#text = x",
        "text = x ; y",
        "text = x\r\nother = y\r\n",
        "text = x\rother = y",
        "text = 1\ntext = 2",
        "text = 'a\n b'",
        "text = x\u{a0}\u{2003}",
        "text = x\u{1c}\u{1f}",
        "text = \u{feff}x",
        "text = é\u{2028}ü",
        "text = x\u{85}y",
        "text = x\u{c}",
        "text =",
        "Text = x",
        "text\t=\tx",
        "text = x\n ",
        "[x",
        "[x]y",
        "[]",
        "[ grp ]\ntext = x",
        "[GRP]\ntext = x",
        "[Grp]\ntext = x\n[grp]\nother = y",
        "[default]\nmy_ip = x",
        "[]]\nq = 1",
        "[x] ",
    ];
    let mut cases: Vec<Case> = values
        .iter()
        .map(|value| case(&format!("[grp]\n{value}")))
        .collect();
    cases.extend(
        [
            "",
            "\n\n",
            "text = x",
            "# only\n",
            "\u{feff}[grp]\ntext = x",
            "[grp]",
        ]
        .map(case),
    );
    compare("lines", &cases);
}

#[test]
fn values_of_every_type_are_read_as_oslo_config_reads_them() {
    let values = [
        (
            "flag",
            &[
                "true", "YES", "oN", "1", "0", "off", "No", "FALSE", "", "2", "t", "' true'",
                "yes,",
            ][..],
        ),
        (
            "count",
            &[
                "7",
                "+7",
                "-7",
                "007",
                "1_0",
                "_1",
                "1_",
                "1__0",
                "' 7 '",
                "7.0",
                "0x7",
                "1e1",
                "101",
                "-11",
                "100",
                "-10",
                "seven",
                "7 7",
                "99999999999999999999",
            ],
        ),
        (
            "ratio",
            &[
                "1", "1.", ".5", "1e-3", "4.5", "4.6", "-0.1", "-0", "1_0.5", "0.1_0", "1e-7",
                "0.00001", "x", "1,5", "' 1 '", "1e", "0x1",
            ],
        ),
        (
            "items",
            &[
                "",
                ",",
                "a",
                "a,b",
                " a , b ,",
                "a,,b",
                "a,,",
                ",a",
                "a\n b",
                "'a, b'",
                "it's, b",
                "a\\b, \"q\"",
                "'x', 'y'",
                "é,ü",
            ],
        ),
        (
            "pairs",
            &[
                "",
                "a:1",
                "a:1,b:2",
                " a : 1 , b : x:y ",
                "a:1,",
                "a",
                "a:1,b",
                ":1",
                "a:1,a:2",
                "a:,b:",
                "a,b:1",
                "a:x,y,b:2",
            ],
        ),
        (
            "many",
            &["", "a", "a,b", "a\nmany = b", "b\nsome = a\nmany = c"],
        ),
        ("unset", &["", "x", "''"]),
    ];
    let cases: Vec<Case> = values
        .iter()
        .flat_map(|(name, texts)| {
            texts
                .iter()
                .map(move |text| case(&format!("[grp]\n{name} = {text}")))
        })
        .collect();
    compare("values", &cases);
}

#[test]
fn references_are_put_in_as_oslo_config_puts_them_in() {
    let more = "other = O\nratio = 1e-3\nflag = off\nitems = x, it's\nmany = 1\nmany = 2\n[DEFAULT]\nmy_ip = 10.0.0.1\ncount = 042\ntext = T\n";
    let values = [
        "$my_ip",
        "${my_ip}",
        "<$my_ip>",
        "$my_ip:5672",
        "${my_ip}.x",
        "$my_ip.x",
        "$grp.other",
        "${grp.other}!",
        "$count",
        "$grp.count",
        "$flag",
        "$ratio",
        "$items",
        "$many",
        "$unset",
        "$$",
        "$$my_ip",
        "\\$my_ip",
        "$\\$my_ip",
        "\\$$my_ip",
        "$$$my_ip",
        "$",
        "$5",
        "${",
        "${}",
        "${a b}",
        "${my_ip",
        "$-",
        "a$",
        "$nobody",
        "${no.body}",
        "$grp",
        "$grp.nobody",
        "$grp.my_ip",
        "$My_Ip",
        "$_x",
        "$text",
        "é$my_ip",
        "$my_ipé",
    ];
    let mut cases: Vec<Case> = values
        .iter()
        .map(|value| case(&format!("[grp]\ntext = {value}\n{more}")))
        .collect();
    cases.extend(
        [
            "[grp]\ntext = $other\nother = $my_ip\n[DEFAULT]\nmy_ip = x",
            "[grp]\ntext = $other\nother = $text",
            "[grp]\ntext = $text",
            "[grp]\ncount = $grp.ratio\nratio = 3",
            "[grp]\ntext = $count\ncount = x",
            "[grp]\nitems = $text,z\ntext = x,y",
            "[grp]\nmany = $other\nmany = $$\nother = x",
            "[DEFAULT]\nmy_ip = $text\ntext = $grp.text\n[grp]\ntext = $other",
        ]
        .map(case),
    );
    compare("references", &cases);
}

#[test]
fn files_former_names_and_variables_win_as_in_oslo_config() {
    let files = |texts: &[&str]| Case {
        files: texts.iter().map(|text| (*text).to_owned()).collect(),
        ..Case::default()
    };
    let with = |text: &str, variables: &[(&'static str, &'static str)]| Case {
        variables: variables.to_vec(),
        ..case(text)
    };
    compare(
        "winners",
        &[
            files(&["[grp]\ntext = 1\nother = 1", "[grp]\ntext = 2"]),
            files(&[
                "[grp]\nmany = 1\nmany = 2",
                "[GRP]\nmany = 3\nsome = 4",
                "[grp]\nsome = 5",
            ]),
            files(&["[grp]\nold_text = 1", "[grp]\ntext = 2"]),
            files(&["[grp]\ntext = 1", "[grp]\nold_text = 2"]),
            files(&["[grp]\ntext = 1\nold_text = 2"]),
            files(&["[grp]\nold_text = 2\ntext = 1"]),
            files(&["[DEFAULT]\ngrp_text = 1\n[grp]\nold_text = 2"]),
            files(&["[DEFAULT]\ngrp_text = 1"]),
            files(&["[grp]\ntext = $other\nother = 1", "[grp]\nother = 2"]),
            files(&["[grp]\ntext = 1", "nonsense"]),
            with("[grp]\ntext = 1\ncount = 1", &[("OS_GRP__TEXT", "2")]),
            with(
                "",
                &[("OS_GRP__COUNT", "9"), ("OS_DEFAULT__MY_IP", "10.0.0.9")],
            ),
            with("[grp]\ntext = $my_ip", &[("OS_DEFAULT__MY_IP", "$count")]),
            with("[grp]\ncount = 1", &[("OS_GRP__COUNT", "x")]),
            with(
                "[grp]\ncount = 1",
                &[
                    ("OS_GRP__NUMBER", "2"),
                    ("os_grp__count", "3"),
                    ("OS_grp__count", "4"),
                ],
            ),
            with("[grp]\ntext = 1", &[("OS_GRP__TEXT", "")]),
            with("[grp]\nitems = 1", &[("OS_GRP__ITEMS", "2, 3,")]),
        ],
    );
}

#[test]
fn random_files_mean_the_same() {
    const PARTS: [&str; 36] = [
        "[grp]\n",
        "[grp]\n",
        "[DEFAULT]\n",
        "[GRP]\n",
        "[grp",
        "]",
        "\n",
        "\n",
        "\n",
        " ",
        "\t",
        "\n\n",
        "\n ",
        "=",
        " = ",
        ":",
        "text",
        "text = ",
        "other = ",
        "count = ",
        "flag=",
        "items : ",
        "\nmany = ",
        "old_text = ",
        "my_ip = ",
        "$my_ip",
        "${other}",
        "$$",
        "$",
        "\\",
        "'",
        "\"",
        "# ",
        ";",
        "yes",
        "12",
    ];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut draw = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut cases = Vec::new();
    for _ in 0..1200 {
        let mut text = String::from("[grp]\n");
        for _ in 0..draw(14) {
            text.push_str(PARTS[draw(PARTS.len())]);
        }
        // A number that is set to nothing is read differently on purpose, and so is a reference to an undeclared option.
        let empty = ours(&case(&text)).is_some_and(|values| {
            values["grp.count"] == Some("5".to_owned()) && text.contains("count")
        });
        if !empty {
            cases.push(case(&text));
        }
    }
    assert!(cases.len() > 900);
    let read = cases.iter().filter(|case| ours(case).is_some()).count();
    assert!(read > 200, "{read} files could be read");
    compare("random", &cases);
}

#[test]
fn where_we_differ_on_purpose_both_are_shown() {
    let cases = [
        // A number set to nothing.
        case("[grp]\ncount ="),
        // A variable for an option of several values.
        Case {
            variables: vec![("OS_GRP__MANY", "ab")],
            ..Case::default()
        },
        // A reference to what no library declared, and to the default group by its name.
        case("[grp]\ntext = $undeclared\n[DEFAULT]\nundeclared = u"),
        case("[grp]\ntext = ${DEFAULT.my_ip}\n[DEFAULT]\nmy_ip = 10.0.0.1"),
        // A reference to a former name.
        case("[grp]\ntext = $number\ncount = 3\n[DEFAULT]\ncount = 4"),
        // Numbers that are none.
        case("[grp]\nratio = nan"),
    ];
    let name = [
        "grp.count",
        "grp.many",
        "grp.text",
        "grp.text",
        "grp.text",
        "grp.ratio",
    ];
    let expected = [
        (Some("5"), Some("")),
        (Some("['ab']"), Some("['a', 'b']")),
        (Some("u"), None),
        (Some("10.0.0.1"), None),
        (Some("3"), Some("4")),
        (None, Some("nan")),
    ];
    let Some(theirs) = theirs("differences", &cases) else {
        return;
    };
    for (index, (own, other)) in expected.into_iter().enumerate() {
        let case = &cases[index];
        assert_eq!(ours(case).unwrap()[name[index]].as_deref(), own, "{case:?}");
        assert_eq!(
            theirs[index].as_ref().unwrap()[name[index]].as_deref(),
            other,
            "{case:?}"
        );
    }
}

/// The report of a resolver is what its options met so far.
#[test]
fn one_option_can_be_read_alone() {
    let mut sources = Sources::new();
    sources
        .text("a.conf", "[grp]\ncount = x\ntext = y\n")
        .unwrap();
    let mut resolver = Resolver::new(&sources, TABLES);
    assert_eq!(resolver.load_only::<GroupConfig>("text").text, "y");
    let report: &Report = resolver.report();
    assert!(report.errors().is_empty());
    resolver.load_only::<GroupConfig>("count");
    assert_eq!(resolver.report().errors().len(), 1);
}
