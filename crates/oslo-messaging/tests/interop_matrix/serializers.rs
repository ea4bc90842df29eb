//! Serializers, on each side.

use serde_json::{Value as Json, json};

use crate::pairs::{Ask, Peers, SERIALIZERS, brief};

fn table() -> Vec<Ask> {
    let contexts = [
        json!({"request_id": "req-1", "user": "u-1", "roles": ["admin"], "auth_token": "secret", "quota_class": {"a": [1]}}),
        json!({
            "request_id": "req-2", "project_id": "p-1", "user_name": "Zoë", "is_admin": true, "is_admin_project": false,
            "domain": null, "user_domain": "d", "global_request_id": "req-g", "system_scope": "all"
        }),
    ];
    let args = [
        json!({}),
        json!({"text": "é 😀", "number": 1.5, "list": [1, null, "x"], "map": {"k": true, "n": {"own": 1}}}),
        json!({"own": {"own": 2}, "empty": {}}),
    ];
    let mut table = Vec::new();
    for server in SERIALIZERS {
        for client in SERIALIZERS {
            for ctxt in &contexts {
                for args in &args {
                    table.push(Ask {
                        args: args.clone(),
                        ctxt: ctxt.clone(),
                        serializer: client,
                        ..Ask::new(server, "values")
                    });
                }
            }
        }
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_sees_the_same_values_and_contexts_through_every_pair_of_serializers() {
    let topics = SERIALIZERS.map(|serializer| (serializer.to_owned(), "default", serializer));
    let Some(peers) = Peers::start("matrix-serializers", &topics).await else {
        return;
    };
    let table = table();
    let right: Vec<Json> = peers
        .python_to("python", &table)
        .await
        .iter()
        .map(brief)
        .collect();
    assert!(
        right.iter().all(|outcome| outcome.get("ok").is_some()),
        "{right:?}"
    );
    let seen = |server: &str, client: &str| {
        let at = table
            .iter()
            .position(|ask| ask.topic == server && ask.serializer == client)
            .expect("in the table");
        right[at].to_string()
    };
    assert!(seen("none", "own").contains("stamp") && !seen("none", "none").contains("stamp"));
    assert!(seen("context", "none").contains("user_identity"));

    peers.assert_every_pair(&table, &right).await;
    peers.end().await;
}
