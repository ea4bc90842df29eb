//! Three nodes as one broker, tested against themselves.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use oslo_messaging_testkit::process::wait_until;
use oslo_messaging_testkit::rabbit::cluster::Cluster;
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(60);

async fn sees(cluster: &Cluster, number: usize, running: usize) {
    wait_until("nodes seen", LIMIT, async || {
        Ok(cluster.running_seen_by(number).await.unwrap_or(0) == running)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_cluster_shares_what_is_declared_and_goes_on_without_a_node() {
    let test = "a_cluster_shares_what_is_declared_and_goes_on_without_a_node";
    let Some(mut cluster) = Cluster::boot_or_skip(test).await else {
        return;
    };
    for number in cluster.numbers() {
        sees(&cluster, number, 3).await;
    }
    let vhost = cluster.create_vhost(test).await.unwrap();
    let url = cluster.url(vhost.name());
    assert_eq!(url.matches("guest:guest@127.0.0.1:").count(), 3, "{url}");
    let known: Vec<String> = cluster
        .broker(2)
        .eval("rabbit_vhost:list_names()")
        .await
        .unwrap();
    assert!(known.iter().any(|name| name == vhost.name()), "{known:?}");

    let own = std::process::id();
    let stream = TcpStream::connect(("127.0.0.1", cluster.broker(1).port()))
        .await
        .unwrap();
    assert_eq!(cluster.nodes_of(own).unwrap(), [1]);

    cluster.kill(1).await.unwrap();
    drop(stream);
    sees(&cluster, 0, 2).await;
    cluster.create_vhost("while_one_is_away").await.unwrap();
    cluster.start(1).await.unwrap();
    sees(&cluster, 1, 3).await;

    cluster.stop(0).await.unwrap();
    sees(&cluster, 1, 2).await;
    // The first node is down: another one is asked.
    cluster.create_vhost("without_the_first").await.unwrap();
}
