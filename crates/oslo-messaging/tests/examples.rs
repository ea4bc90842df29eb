//! Every example runs to its end, in this process.

#![cfg(feature = "macros")]
#![allow(clippy::unwrap_used)]

macro_rules! examples {
    ($($name:ident = $path:literal,)*) => {
        $(#[path = $path]
        #[allow(dead_code)]
        mod $name;)*
    };
}

examples! {
    server = "../../../examples/server.rs",
    client = "../../../examples/client.rs",
    typed_errors = "../../../examples/typed_errors.rs",
    fanout = "../../../examples/fanout.rs",
    notifications = "../../../examples/notifications.rs",
    call_monitor = "../../../examples/call_monitor.rs",
    serializer = "../../../examples/serializer.rs",
    typed_client = "../../../examples/typed_client.rs",
    blocking = "../../../examples/blocking.rs",
    resilient = "../../../examples/resilient.rs",
    neutron_l3_agent = "../../../examples/neutron_l3_agent.rs",
    cinder_volume = "../../../examples/cinder_volume.rs",
    old_peers = "../../../examples/old_peers.rs",
    plain_rpc = "../../../examples/plain_rpc.rs",
    request_context = "../../../examples/request_context.rs",
}

#[tokio::test]
async fn the_client_gets_its_answers_from_the_server() {
    let url = "memory://examples";
    let mut amount = None;
    server::serve(url, async { amount = Some(client::call(url).await) })
        .await
        .unwrap();
    assert_eq!(amount.unwrap().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_call_monitor_lets_a_slow_method_finish() {
    assert_eq!(call_monitor::run(30).await.unwrap(), "done");
}

#[test]
fn typed_errors_runs() {
    typed_errors::main().unwrap();
}

#[test]
fn fanout_runs() {
    fanout::main().unwrap();
}

#[test]
fn serializer_runs() {
    serializer::main().unwrap();
}

#[test]
fn neutron_l3_agent_runs() {
    neutron_l3_agent::main().unwrap();
}

#[test]
fn cinder_volume_runs() {
    cinder_volume::main().unwrap();
}

#[tokio::test]
async fn old_peers_get_their_reply_in_two_messages() {
    assert_eq!(old_peers::run("memory://old").await.unwrap(), 5);
}

#[tokio::test]
async fn the_plain_rpc_adds_two_numbers() {
    assert_eq!(plain_rpc::run("memory://plain").await.unwrap(), 5);
}

#[test]
fn request_context_runs() {
    request_context::main().unwrap();
}

#[test]
fn typed_client_runs() {
    typed_client::main().unwrap();
}

#[test]
fn blocking_runs() {
    blocking::main().unwrap();
}

#[test]
fn resilient_runs() {
    resilient::main().unwrap();
}

#[test]
fn notifications_runs() {
    notifications::main().unwrap();
}
