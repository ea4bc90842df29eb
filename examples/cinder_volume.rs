//! cinder-volume as a service: a manager as the endpoint, reached by topic or by host, many requests at once.

use std::collections::HashMap;
use std::sync::Arc;

use oslo_messaging::{Context, Error, RemoteError, Result, RpcClient, RpcServer, Target, endpoint};
use tokio::sync::Barrier;

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "cinder.exception")]
pub(crate) enum VolumeError {
    // Expected: the caller gets the class, the log one line for who looks closely.
    #[error("Volume {volume_id} could not be found.")]
    VolumeNotFound { volume_id: String },
    #[error(transparent)]
    #[remote(other)]
    Other(Error),
}

/// Each request is a task, as each was a green thread: one that waits holds up nobody.
pub(crate) struct VolumeManager {
    pub(crate) host: String,
    pub(crate) backend: Barrier,
}

#[endpoint(version = "2.4")]
impl VolumeManager {
    async fn create_volume(&self, volume_id: String) -> String {
        self.backend.wait().await;
        format!("{volume_id} is on {}", self.host)
    }

    fn delete_volume(&self, volume_id: String) -> Result<(), VolumeError> {
        Err(VolumeError::VolumeNotFound { volume_id })
    }
}

pub(crate) async fn serve(url: &str, manager: Arc<VolumeManager>) -> Result<RpcServer> {
    let transport = oslo_messaging::connect(url).await?;
    let target = Target::topic("cinder-volume").server(&*manager.host);
    RpcServer::builder(transport, target)
        .endpoint(manager)
        .start()
        .await
}

pub(crate) async fn ask(client: &RpcClient, method: &str, id: &str) -> Result<String, VolumeError> {
    let args = HashMap::from([("volume_id", id)]);
    Ok(client.call(&Context::new(), method, args).await?)
}

#[tokio::main]
pub(crate) async fn main() -> Result<()> {
    let (host, backend) = ("node-1@lvm".to_owned(), Barrier::new(2));
    let service = serve("memory://cinder", Arc::new(VolumeManager { host, backend })).await?;
    let transport = oslo_messaging::connect("memory://cinder").await?;
    let any = RpcClient::new(transport, Target::topic("cinder-volume")).version("2.0");
    let host = any.prepare().server("node-1@lvm");

    // Neither ends before the other has begun.
    let both = tokio::join!(
        ask(&any, "create_volume", "v-1"),
        ask(&host, "create_volume", "v-2")
    );
    println!("{both:?}");
    if let Err(VolumeError::VolumeNotFound { volume_id }) = ask(&host, "delete_volume", "v-3").await
    {
        println!("there was no {volume_id}");
    }
    service.stop().await;
    Ok(())
}
