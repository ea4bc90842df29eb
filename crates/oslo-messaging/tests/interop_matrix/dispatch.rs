//! Access policies, namespaces and versions.

use serde_json::Value as Json;

use crate::pairs::{Ask, POLICIES, Peers, brief};

fn table() -> Vec<Ask> {
    let mut table = Vec::new();
    for policy in POLICIES {
        for namespace in [
            None,
            Some("base"),
            Some("compute"),
            Some("old"),
            Some("elsewhere"),
        ] {
            for version in [
                None,
                Some("1.0"),
                Some("1.3"),
                Some("1.4"),
                Some("2.0"),
                Some("2.1"),
                Some("3.0"),
            ] {
                for method in ["plain", "exposed", "_private", "delete_it", "missing"] {
                    table.push(Ask {
                        namespace,
                        version,
                        ..Ask::new(policy, method)
                    });
                }
            }
        }
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_reaches_the_same_methods_under_every_policy_namespace_and_version() {
    let topics = POLICIES.map(|policy| (policy.to_owned(), policy, "none"));
    let Some(peers) = Peers::start("matrix-dispatch", &topics).await else {
        return;
    };
    let table = table();
    let right: Vec<Json> = peers
        .python_to("python", &table)
        .await
        .iter()
        .map(brief)
        .collect();
    // The table says something: each policy lets through what the others do not, and nothing is alike throughout.
    let reached = |policy: &str| {
        let of = table
            .iter()
            .zip(&right)
            .filter(|(ask, _)| ask.topic == policy);
        of.filter(|(_, outcome)| outcome.get("ok").is_some())
            .count()
    };
    let counts = POLICIES.map(reached);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    let [default, legacy, explicit, own] = counts;
    assert!(
        legacy > default && default > own && own > explicit,
        "{counts:?}"
    );
    for class in ["NoSuchMethod", "UnsupportedVersion"] {
        assert!(
            right.iter().any(|outcome| outcome["class"] == class),
            "{class}"
        );
    }

    peers.assert_every_pair(&table, &right).await;
    peers.end().await;
}
