//! Services as Mitaka ran them, with Python's oslo.messaging as their callers: neutron-l3-agent and cinder-volume.

use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_testkit::python::{Call, Peer, Raised};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::common::{LONG, eventually, vhost_and_python};

#[path = "../../../../examples/cinder_volume.rs"]
#[allow(dead_code)]
mod cinder_volume;
#[path = "../../../../examples/neutron_l3_agent.rs"]
#[allow(dead_code)]
mod neutron_l3_agent;

async fn returned(python: &Peer, call: &Call) -> Value {
    let answer = python.call(call).await.expect("the Python peer works");
    answer
        .unwrap_or_else(|raised| panic!("{call:?}: {raised:?}"))
        .value
}

async fn raised(python: &Peer, call: &Call) -> Raised {
    let answer = python.call(call).await.expect("the Python peer works");
    answer.expect_err("a call that fails")
}

fn agent(method: &str) -> Call {
    Call::new("l3_agent", method).timeout(LONG)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_l3_agent_answers_by_namespace_and_version_and_drains_when_it_stops() {
    let Some((vhost, python)) = vhost_and_python("an_l3_agent_answers", |setup| setup).await else {
        return;
    };
    let agents = [
        Arc::new(neutron_l3_agent::L3Agent::default()),
        Arc::default(),
    ];
    let [one, two] = [("node-1", &agents[0]), ("node-2", &agents[1])];
    let one_server = neutron_l3_agent::serve(&vhost.url(), one.0, Arc::clone(one.1)).await;
    let two_server = neutron_l3_agent::serve(&vhost.url(), two.0, Arc::clone(two.1)).await;
    let (one_server, two_server) = (
        one_server.expect("it starts"),
        two_server.expect("it starts"),
    );

    // The null namespace: versions up to its own; one agent by name, then all.
    let update = |routers: Value| agent("routers_updated").args(json!({"routers": routers}));
    let first = update(json!(["r-1"])).server("node-1");
    assert_eq!(
        returned(&python, &first.clone().version("1.0")).await,
        json!(1)
    );
    assert_eq!(
        returned(&python, &first.clone().version("1.4")).await,
        json!(1)
    );
    let all = update(json!(["r-1", "r-2"])).fanout().version("1.1");
    python.cast(&all).await.expect("works").expect("sent");
    let known =
        |agent: &Arc<neutron_l3_agent::L3Agent>| agent.0.try_lock().map_or(0, |known| known.len());
    eventually("both agents know two routers", || {
        agents.iter().all(|agent| known(agent) == 2)
    })
    .await;
    for version in ["1.5", "2.0"] {
        let error = raised(&python, &first.clone().version(version)).await;
        assert_eq!(
            error.exc_type.as_deref(),
            Some("UnsupportedVersion"),
            "{version}"
        );
    }

    // The other endpoint, under its namespace and the one it had before; methods do not leak from one to the other.
    let push = agent("push").args(json!({"resource_type": "QosPolicy"}));
    for namespace in ["callbacks.resources", "callbacks"] {
        let call = push.clone().namespace(namespace).version("1.1");
        assert_eq!(returned(&python, &call).await, json!("took QosPolicy"));
    }
    assert_eq!(
        raised(&python, &push).await.exc_type.as_deref(),
        Some("NoSuchMethod")
    );
    let lost = first
        .clone()
        .namespace("callbacks.resources")
        .version("1.0");
    assert_eq!(
        raised(&python, &lost).await.exc_type.as_deref(),
        Some("NoSuchMethod")
    );
    let unknown = first.clone().namespace("elsewhere");
    assert_eq!(
        raised(&python, &unknown).await.exc_type.as_deref(),
        Some("UnsupportedVersion")
    );
    let deleted = agent("router_deleted").args(json!({"router_id": "r-9"}));
    let error = raised(&python, &deleted).await;
    assert_eq!(error.exc_type.as_deref(), Some("RouterNotFound"));
    assert_eq!(error.value, Some(json!("Router r-9 could not be found")));

    // What runs was acknowledged before, and is waited for: its caller gets the reply of an agent that stops meanwhile.
    two_server.stop().await;
    let held = agents[0].0.lock().await;
    let python = Arc::new(python);
    let waiting = tokio::spawn({
        let (python, call) = (Arc::clone(&python), first.clone());
        async move { returned(&python, &call).await }
    });
    eventually("the request runs", || one_server.stats().running == 1).await;
    vhost
        .wait_for_queue("l3_agent.node-1", |queue| queue.unacknowledged == 0)
        .await
        .expect("acknowledged");
    let stopping = tokio::spawn(one_server.stop());
    vhost
        .wait_for_queue("l3_agent.node-1", |queue| queue.consumers == 0)
        .await
        .expect("takes nothing more");
    // What comes now stays with the broker.
    python.cast(&first).await.expect("works").expect("sent");
    assert!(!stopping.is_finished(), "a method runs");
    drop(held);
    assert_eq!(waiting.await.expect("no panic"), json!(2));
    let stopped = stopping.await.expect("no panic");
    assert_eq!((stopped.aborted, stopped.replies_dropped), (0, 0));
    vhost
        .wait_for_queue("l3_agent.node-1", |queue| queue.messages == 1)
        .await
        .expect("the last cast waits for the next agent");
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_service_runs_many_requests_at_once_by_topic_and_by_host() {
    const AT_ONCE: usize = 40;
    let Some((vhost, python)) = vhost_and_python("a_volume_service_runs_many", |setup| setup).await
    else {
        return;
    };
    let manager = Arc::new(cinder_volume::VolumeManager {
        host: "node-1@lvm".to_owned(),
        backend: Barrier::new(AT_ONCE),
    });
    let service = cinder_volume::serve(&vhost.url(), manager)
        .await
        .expect("it starts");
    // None of them ends before all have begun, whether they came by the topic or by the host.
    let python = Arc::new(python);
    let calls = (0..AT_ONCE).map(|number| {
        let (python, id) = (Arc::clone(&python), format!("v-{number}"));
        let call = Call::new("cinder-volume", "create_volume").timeout(LONG);
        let call = call.args(json!({"volume_id": id})).version("2.1");
        let call = if number % 2 == 0 {
            call
        } else {
            call.server("node-1@lvm")
        };
        tokio::spawn(async move { (id, returned(&python, &call).await) })
    });
    for call in calls.collect::<Vec<_>>() {
        let (id, created) = call.await.expect("no panic");
        assert_eq!(created, json!(format!("{id} is on node-1@lvm")));
    }
    let delete = Call::new("cinder-volume", "delete_volume")
        .timeout(LONG)
        .version("2.1");
    let error = raised(&python, &delete.args(json!({"volume_id": "v-x"}))).await;
    assert_eq!(error.exc_type.as_deref(), Some("VolumeNotFound"));
    assert_eq!(error.value, Some(json!("Volume v-x could not be found.")));
    assert_eq!(service.stats().served, AT_ONCE as u64);
    let stopped = service.stop_within(Duration::from_secs(10)).await;
    assert_eq!((stopped.aborted, stopped.replies_dropped), (0, 0));
    vhost.delete().await.expect("deleted");
}
