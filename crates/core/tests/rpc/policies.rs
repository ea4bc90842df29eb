//! Endpoints that may not, or cannot, run a method hand it on; an application's own access policy decides.

use oslo_messaging_core::rpc::access::RpcAccessPolicy;
use oslo_messaging_core::rpc::endpoint::{Endpoint, MethodInfo};
use oslo_messaging_core::rpc::{DefaultRpcAccessPolicy, Interface};

use crate::endpoints::{Desk, Methods};
use crate::scripted::Scripted;
use crate::serving::{builder, call, class_and_message};

/// Forbids one method on endpoints of one version.
struct Guarded {
    version: &'static str,
    method: &'static str,
}

impl RpcAccessPolicy for Guarded {
    fn is_allowed(&self, endpoint: &dyn Endpoint, method: &str, info: MethodInfo) -> bool {
        let guarded = endpoint.interface().version_text() == self.version && method == self.method;
        !guarded && DefaultRpcAccessPolicy.is_allowed(endpoint, method, info)
    }
}

#[tokio::test(start_paused = true)]
async fn a_compatible_endpoint_that_lacks_or_forbids_the_method_hands_it_to_the_next() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let with = |version: &str, names| {
        Methods::new(&desk)
            .interface(Interface::new().version(version))
            .names(names)
    };
    let _server = builder(&driver)
        .endpoint(with("1.1", &["add"]))
        .endpoint(with("1.2", &["who"]))
        .endpoint(with("1.3", &["who"]))
        .access_policy(Guarded {
            version: "1.2",
            method: "who",
        })
        .start()
        .await
        .unwrap();
    driver.deliver(call("who", "m1", ""));
    let reply = driver.next_sent().await;
    assert_eq!(
        reply.message().get("result").unwrap().to_string(),
        "\"1.3\"",
        "the first has no such method, the second must not"
    );
    // Nobody is left behind the one that must not: the method counts as not there.
    let driver = Scripted::new();
    driver.confirm_all();
    let _server = builder(&driver)
        .endpoint(with("1.2", &["who"]))
        .access_policy(Guarded {
            version: "1.2",
            method: "who",
        })
        .start()
        .await
        .unwrap();
    driver.deliver(call("who", "m2", ""));
    let (_, class, message) = class_and_message(&driver.next_sent().await);
    assert_eq!(
        (class.as_str(), message.as_str()),
        ("NoSuchMethod", "Endpoint does not support RPC method who")
    );
}
