//! Words in, settings or wrong usage out.

use super::*;
use crate::args::{Args, Command};
use crate::exit::Exit;
use crate::settings::environment::log_filter;

fn environment(url: Option<&str>) -> Environment {
    Environment {
        url: url.map(str::to_owned),
        ..Environment::default()
    }
}

fn parse(words: &[&str]) -> Args {
    Args::of(std::iter::once(&"omsg").chain(words)).unwrap_or_else(|fault| panic!("{fault}"))
}

fn message(words: &[&str]) -> Result<Message, Problem> {
    let args = parse(words);
    let environment = environment(Some("rabbit://env:secret@broker/"));
    let resolver = Resolver::new(&args.global, &environment)?;
    match args.command {
        Command::Call(typed) => resolver.call(typed).map(|call| call.message),
        Command::Cast(typed) => resolver.cast(typed).map(|cast| cast.message),
        _ => panic!("not a call or cast: {words:?}"),
    }
}

fn ping(words: &[&str]) -> Result<Ping, Problem> {
    let args = parse(words);
    let environment = environment(Some("memory://"));
    match args.command {
        Command::Ping(typed) => Resolver::new(&args.global, &environment)?.ping(typed),
        _ => panic!("not a ping: {words:?}"),
    }
}

fn usage(words: &[&str]) -> String {
    let Err(problem) = message(words) else {
        panic!("{words:?} should be wrong usage")
    };
    assert_eq!(problem.exit, Exit::Usage, "{words:?}");
    problem.message
}

#[test]
fn the_flag_wins_over_the_environment() {
    let host = |words| {
        message(words).expect("good words").url.hosts()[0]
            .hostname()
            .map(str::to_owned)
    };
    assert_eq!(host(&["call", "t", "m"]).as_deref(), Some("broker"));
    assert_eq!(
        host(&["call", "t", "m", "--url", "rabbit://flag/"]).as_deref(),
        Some("flag")
    );
}

#[test]
fn without_a_url_only_the_demo_runs() {
    let nothing = environment(None);
    let args = parse(&["call", "t", "m"]);
    let Command::Call(typed) = args.command else {
        panic!("a call")
    };
    let Err(problem) =
        Resolver::new(&args.global, &nothing).and_then(|resolver| resolver.call(typed))
    else {
        panic!("no URL")
    };
    assert_eq!(problem.exit, Exit::Usage);
    assert!(
        problem.message.contains("--url") && problem.message.contains(URL_VARIABLE),
        "{}",
        problem.message
    );

    let args = parse(&["demo"]);
    let Command::Demo(typed) = args.command else {
        panic!("a demo")
    };
    let demo = Resolver::new(&args.global, &nothing)
        .and_then(|resolver| resolver.demo(typed))
        .expect("the demo needs no URL");
    assert_eq!(demo.url.scheme(), "memory");
}

#[test]
fn a_url_that_cannot_be_read_is_wrong_usage_and_not_repeated() {
    for url in ["rabbit://joe:secret@host:port/", "joe:secret@host", ""] {
        let text = usage(&["call", "t", "m", "--url", url]);
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn names_must_not_be_empty() {
    assert!(usage(&["call", "", "m"]).contains("TOPIC"));
    assert!(usage(&["cast", "t", ""]).contains("METHOD"));
    assert!(usage(&["cast", "t", "m", "--server", ""]).contains("--server"));
    assert!(usage(&["cast", "t", "m", "--exchange", ""]).contains("--exchange"));
}

#[test]
fn a_call_cannot_fan_out_and_a_fanout_has_no_server() {
    assert!(usage(&["call", "t", "m", "--fanout"]).contains("fanout"));
    assert!(usage(&["cast", "t", "m", "--fanout", "--server", "s"]).contains("--server"));
    assert!(
        message(&["cast", "t", "m", "--fanout"])
            .expect("good words")
            .target
            .is_fanout()
    );
}

#[test]
fn a_context_is_an_object_and_never_repeated_in_a_fault() {
    for bad in [
        "{secret",
        "[\"secret\"]",
        "\"secret\"",
        "",
        "@/no/such/file",
    ] {
        let text = usage(&["call", "t", "m", "--context", bad]);
        assert!(
            text.contains("--context") && !text.contains("secret"),
            "{text}"
        );
    }
    let context = message(&[
        "call",
        "t",
        "m",
        "--context",
        r#"{"user": "joe", "n": 1.10}"#,
    ])
    .expect("an object")
    .context;
    assert_eq!(context.raw("n").map(RawJson::as_str), Some("1.10"));
}

#[test]
fn versions_are_checked_before_anything_is_sent() {
    assert!(usage(&["call", "t", "m", "--version", "new"]).contains("new"));
    assert_eq!(
        message(&["call", "t", "m", "--version", "1.3"])
            .expect("good")
            .target
            .version_text(),
        Some("1.3")
    );
}

#[test]
fn retry_counts_as_in_the_reference() {
    let retry = |n| {
        message(&["call", "t", "m", "--retry", n])
            .expect("good words")
            .retry
    };
    assert_eq!(retry("-1"), Retry::Forever);
    assert_eq!(retry("0"), Retry::Never);
    assert_eq!(retry("3"), Retry::Times(3));
}

#[test]
fn a_ping_splits_topic_and_server_at_the_first_dot() {
    let names = |words: &[&str]| {
        let target = ping(words).expect("good words").target;
        (
            target.topic_name().map(str::to_owned),
            target.server_name().map(str::to_owned),
        )
    };
    let pair =
        |topic: &str, server: Option<&str>| (Some(topic.to_owned()), server.map(str::to_owned));
    assert_eq!(names(&["ping", "compute"]), pair("compute", None));
    assert_eq!(
        names(&["ping", "compute.n1.example.org"]),
        pair("compute", Some("n1.example.org"))
    );
    assert_eq!(
        names(&["ping", "q.agent", "--server", "n1"]),
        pair("q.agent", Some("n1"))
    );
    assert_eq!(
        names(&["ping", "q.agent", "--server", ""]),
        pair("q.agent", None)
    );
    assert!(ping(&["ping", "compute."]).is_err());
    assert!(ping(&["ping", ".n1"]).is_err());
}

#[test]
fn logs_follow_the_flags_unless_the_environment_says_otherwise() {
    let filter = |words: &[&str], environment: &Environment| {
        log_filter(&parse(words).global, environment, false)
    };
    let mut environment = environment(None);
    assert_eq!(filter(&["demo"], &environment), "error");
    assert_eq!(filter(&["demo", "-v"], &environment), "info");
    assert_eq!(filter(&["demo", "-q"], &environment), "off");
    environment.log = Some("oslo_messaging=trace".to_owned());
    assert_eq!(
        filter(&["demo", "-q"], &environment),
        "oslo_messaging=trace"
    );
}

#[test]
fn options_of_the_environment_reach_a_call_and_flags_win_over_them() {
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let environment = Environment {
        options: vec![
            variable("OS_DEFAULT__TRANSPORT_URL", "rabbit://option/"),
            variable("OS_DEFAULT__RPC_RESPONSE_TIMEOUT", "7"),
            variable(
                "OS_OSLO_MESSAGING_RABBIT__RABBIT_TRANSIENT_QUEUES_TTL",
                "90",
            ),
        ],
        ..Environment::default()
    };
    let message = |words: &[&str]| {
        let args = parse(words);
        let Command::Call(typed) = args.command else {
            panic!("a call")
        };
        let resolver = Resolver::new(&args.global, &environment);
        match resolver.and_then(|resolver| resolver.call(typed)) {
            Ok(call) => call.message,
            Err(problem) => panic!("{problem:?}"),
        }
    };
    let configured = message(&["call", "t", "m"]);
    assert_eq!(configured.url.hosts()[0].hostname(), Some("option"));
    assert_eq!(configured.timeout, Duration::from_secs(7));
    assert_eq!(configured.options.rabbit.rabbit_transient_queues_ttl, 90);
    let typed = message(&["call", "t", "m", "--timeout", "2", "--url", "memory://"]);
    assert_eq!(
        (typed.timeout, typed.url.scheme()),
        (Duration::from_secs(2), "memory")
    );
}

#[test]
fn a_caller_leaves_its_reply_queue_for_a_minute_unless_told_otherwise() {
    let message = message(&["call", "t", "m"]).expect("good words");
    assert_eq!(message.options.rabbit.rabbit_transient_queues_ttl, 60);
    assert_eq!(message.timeout, Duration::from_secs(60));
}

#[test]
fn a_bad_option_of_the_environment_is_wrong_usage_that_names_it() {
    let environment = Environment {
        options: vec![("OS_DEFAULT__RPC_PING_ENABLED".to_owned(), "2".to_owned())],
        ..Environment::default()
    };
    let args = parse(&["demo"]);
    let Err(problem) = Resolver::new(&args.global, &environment).map(|_| ()) else {
        panic!("2 is no boolean")
    };
    assert_eq!(problem.exit, Exit::Usage);
    assert!(
        problem.message.contains("OS_DEFAULT__RPC_PING_ENABLED"),
        "{}",
        problem.message
    );
}
