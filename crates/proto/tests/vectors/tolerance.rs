//! What receivers take and refuse, and what becomes of it, against what Python's oslo.messaging was seen to do.

use std::time::{Duration, Instant};

use crate::support::{Scenario, scenario};
use oslo_messaging_proto::json::ser;
use oslo_messaging_proto::{
    Calls, Failure, Handled, Message, MsgId, Outcome, Reply, Request, TimedOut, Value, acceptable,
};

/// The entry about `what`, and the endpoint call recorded just before it if its endpoint ran.
fn observation<'a>(
    scenario: &'a Scenario,
    what: &str,
) -> (&'a serde_json::Value, Option<&'a serde_json::Value>) {
    let observed = scenario.observed();
    let place = observed
        .iter()
        .position(|entry| entry["what"] == what)
        .unwrap_or_else(|| panic!("{what}"));
    let ran = observed[place]["endpoint_runs"] == 1;
    (&observed[place], ran.then(|| &observed[place - 1]))
}

fn same(ours: &str, theirs: &serde_json::Value, place: &str) {
    let ours: serde_json::Value = serde_json::from_str(ours).unwrap();
    assert_eq!(&ours, theirs, "{place}");
}

/// What a server with an endpoint of version 1.0 in the null namespace answers without running it.
fn refusal(request: &Request) -> Option<Failure> {
    let asked = match request.version() {
        Ok(asked) => asked,
        Err(fault) => return Some(fault.to_failure()),
    };
    match acceptable(Some("1.0"), asked) {
        Err(error) => return Some(error.to_failure()),
        Ok(false) => {
            let (asked, method) = (asked.unwrap_or("None"), request.method().unwrap());
            let text = format!(
                "Endpoint does not support RPC version {asked}. Attempted method: {method}"
            );
            return Some(Failure::new(
                "UnsupportedVersion",
                "oslo_messaging.rpc.dispatcher",
                text,
            ));
        }
        Ok(true) => {}
    }
    request
        .method()
        .err()
        .or_else(|| request.args().err())
        .map(|fault| fault.to_failure())
}

#[test]
fn a_server_takes_what_the_reference_takes() {
    let scenario = scenario("rpc_server_accepts");
    let (mut ran, mut refused) = (0, 0);
    for body in scenario.bodies().iter().filter(|body| !body.from_python) {
        let what = body.step.strip_prefix("raw client: ").unwrap();
        let request =
            Request::decode(body.text.as_bytes()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let (entry, call) = observation(&scenario, what);
        assert!(request.msg_id().is_some(), "{what}");
        match (refusal(&request), call) {
            (None, Some(call)) => {
                let args: Value = request.args().unwrap().parse().unwrap();
                same(&args.to_string(), &call["args"], what);
                assert_eq!(
                    request.context().len() + 1,
                    call["ctxt"].as_object().unwrap().len(),
                    "{what}"
                );
                assert_eq!(
                    request.context().client_timeout(),
                    call["ctxt"]["client_timeout"].as_f64(),
                    "{what}"
                );
                assert_eq!(request.heartbeat_interval(), None, "{what}");
                ran += 1;
            }
            (Some(failure), None) => {
                let expected = &entry["reply"]["failure"];
                assert_eq!(failure.class(), expected["class"], "{what}");
                assert_eq!(failure.module(), expected["module"], "{what}");
                assert_eq!(failure.message(), expected["message"], "{what}");
                refused += 1;
            }
            (ours, theirs) => panic!("{what}: we say {ours:?}, the reference {theirs:?}"),
        }
    }
    assert_eq!((ran, refused), (19, 8));
}

#[test]
fn a_server_rejects_what_the_reference_rejects_and_two_things_more() {
    let scenario = scenario("rpc_server_rejects");
    let (mut taken, mut rejected) = (0, 0);
    for body in scenario.bodies().iter().filter(|body| !body.from_python) {
        let what = body.step.strip_prefix("raw client: ").unwrap();
        if body.content_type.as_deref() != Some("application/json") {
            continue; // The driver's matter: it never gets as far as the body.
        }
        let ours = Request::decode(body.text.as_bytes());
        let (_, call) = observation(&scenario, what);
        // Wire: quirk 21, taken by the reference and better refused. It has no call for the empty body either.
        let quirk = what == "body is a JSON list of pairs (taken as a mapping!)";
        assert_eq!(ours.is_ok(), call.is_some() && !quirk, "{what}: {ours:?}");
        match (ours, call) {
            (Ok(request), Some(call)) => {
                let args: Value = request.args().unwrap().parse().unwrap();
                if call["args"].get("repr").is_some() {
                    // The tag became what the same value is inside an envelope.
                    assert_eq!(
                        args.to_string(),
                        r#"{"n": "12345678-1234-5678-1234-567812345678"}"#
                    );
                } else {
                    same(&args.to_string(), &call["args"], what);
                }
                let mut context = request.context().clone();
                context.insert("client_timeout", &()).unwrap();
                same(&ser::to_string(&context).unwrap(), &call["ctxt"], what);
                taken += 1;
            }
            _ => rejected += 1,
        }
    }
    assert_eq!((taken, rejected), (3, 13));
}

#[test]
fn a_notification_listener_rejects_what_the_reference_rejects() {
    let scenario = scenario("notify_bad_messages");
    let bodies: Vec<_> = scenario
        .bodies()
        .into_iter()
        .filter(|body| !body.from_python)
        .collect();
    assert_eq!(bodies.len(), 3);
    for body in bodies {
        assert!(
            Message::open(body.text.as_bytes()).is_err(),
            "{}",
            body.step
        );
    }
}

/// What a caller of the fake server in `rpc_client_accepts` got from us.
enum Got {
    Outcome(Outcome),
    Timeout(TimedOut),
}

/// Feeds the replies of one step to a call with the id of the step's request.
#[allow(
    clippy::disallowed_methods,
    reason = "a test needs some instant to start from"
)]
fn fold(request: &str, replies: &[&str], monitor: bool, tally: &mut [usize; 2]) -> Got {
    let start = Instant::now();
    let request = Request::decode(request.as_bytes()).unwrap();
    let id = MsgId::parse(request.msg_id().unwrap()).unwrap();
    let mut calls = Calls::new();
    let monitor = monitor.then_some(Duration::from_secs(2));
    assert_eq!(
        calls.insert(id, start + Duration::from_secs(3), monitor, start, "caller"),
        None
    );
    for (index, body) in replies.iter().enumerate() {
        let now = start + Duration::from_millis(1500 * index as u64);
        match calls.handle_reply(now, &Reply::decode(body.as_bytes()).unwrap()) {
            Handled::Finished("caller", outcome) => {
                assert_eq!(index + 1, replies.len());
                assert!(calls.is_empty() && calls.next_timeout().is_none());
                return Got::Outcome(outcome);
            }
            Handled::Finished(other, _) => panic!("{other}"),
            Handled::Progress => tally[0] += 1,
            Handled::Unknown => tally[1] += 1,
        }
    }
    assert_eq!(calls.next_timeout(), Some(start + Duration::from_secs(3)));
    let late = calls.handle_timeout(start + Duration::from_secs(3));
    assert_eq!(late.len(), 1);
    Got::Timeout(late[0].2)
}

/// Compares with what the Python caller got; two cases differ on purpose.
fn compare(what: &str, got: Got, entry: &serde_json::Value) {
    let raised = &entry["raised"];
    match got {
        Got::Timeout(clock) => {
            assert_eq!(raised["class"], "MessagingTimeout", "{what}");
            assert_eq!(clock, TimedOut::Total, "{what}");
        }
        // Wire: quirk 12, errors of the Python client; to be tolerated.
        Got::Outcome(Outcome::Result(result)) if raised["class"] == "KeyError" => {
            assert_eq!(result.as_str(), "6")
        }
        Got::Outcome(Outcome::Result(result)) if raised["class"] == "AttributeError" => {
            assert_eq!(result.as_str(), "10")
        }
        Got::Outcome(Outcome::Result(result)) => {
            assert!(raised.is_null(), "{what}");
            same(result.as_str(), &entry["returned"], what);
        }
        Got::Outcome(Outcome::Malformed(_)) => {
            assert_eq!(raised["class"], "JSONDecodeError", "{what}")
        }
        Got::Outcome(Outcome::Failure(failure)) if raised["class"] == "RemoteError" => {
            assert_eq!(failure.to_string(), raised["str"], "{what}");
            assert_eq!(
                failure.class(),
                raised["exc_type"].as_str().unwrap_or(""),
                "{what}"
            );
            assert_eq!(failure.message(), raised["value"], "{what}");
            same(
                &serde_json::to_string(failure.traceback()).unwrap(),
                &raised["traceback"],
                what,
            );
        }
        Got::Outcome(Outcome::Failure(failure)) => {
            assert_eq!(failure.remote_text(), raised["str"], "{what}");
            let class = raised["class"].as_str().unwrap();
            assert_eq!(
                failure.class(),
                class.strip_suffix("_Remote").unwrap_or(class),
                "{what}"
            );
            let module = raised["module"].as_str().unwrap();
            assert_eq!(
                failure.module(),
                module.strip_suffix("_Remote").unwrap_or(module),
                "{what}"
            );
            if module != "builtins" {
                same(failure.args().as_str(), &raised["args"], what);
                same(failure.kwargs().as_str(), &raised["kwargs"], what);
            }
        }
        Got::Outcome(other) => panic!("{what}: {other:?}"),
    }
}

#[test]
fn a_caller_makes_of_every_reply_what_the_reference_makes_of_it() {
    let scenario = scenario("rpc_client_accepts");
    let bodies = scenario.bodies();
    let mut tally = [0, 0];
    let mut steps = 0;
    for entry in scenario.observed() {
        let what = entry["what"].as_str().unwrap();
        let step: Vec<_> = bodies
            .iter()
            .filter(|body| body.step.strip_prefix("fake server: ") == Some(what))
            .collect();
        let requests: Vec<_> = step.iter().filter(|body| body.from_python).collect();
        let replies: Vec<&str> = step
            .iter()
            .filter(|body| !body.from_python)
            .map(|body| &*body.text)
            .collect();
        assert_eq!(requests.len(), 1, "{what}");
        assert!(!replies.is_empty(), "{what}");
        let monitor = Request::decode(requests[0].text.as_bytes())
            .unwrap()
            .context()
            .client_timeout()
            .is_some();
        compare(
            what,
            fold(&requests[0].text, &replies, monitor, &mut tally),
            entry,
        );
        steps += 1;
    }
    // Parts and heartbeats that let the call go on; strays that nobody waited for.
    assert_eq!((steps, tally), (29, [7, 2]));
}

#[test]
fn remote_errors_read_like_the_references_in_every_scenario() {
    let (mut whole, mut cut) = (0, 0);
    for scenario in crate::support::scenarios() {
        let replies = scenario
            .bodies()
            .into_iter()
            .filter_map(|body| Reply::decode(body.text.as_bytes()).ok());
        let ours: Vec<String> = replies
            .filter_map(|reply| Some(reply.failure()?.ok()?.to_string()))
            .collect();
        let raised = scenario.observed().iter().map(|entry| &entry["raised"]);
        for theirs in raised.filter(|raised| raised["class"] == "RemoteError") {
            let theirs = theirs["str"].as_str().unwrap();
            // Long texts were cut and marked by the recording.
            if let Some((start, _)) = theirs.split_once(" <... ") {
                assert!(
                    ours.iter().any(|text| text.starts_with(start)),
                    "{}: {theirs}",
                    scenario.name
                );
                cut += 1;
            } else {
                assert!(
                    ours.iter().any(|text| text == theirs),
                    "{}: {theirs}",
                    scenario.name
                );
                whole += 1;
            }
        }
    }
    assert_eq!((whole, cut), (16, 1));
}
