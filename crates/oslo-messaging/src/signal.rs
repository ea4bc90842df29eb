//! Waiting for the signals that end a service.

/// Resolves when the process is asked to end: SIGINT or SIGTERM, elsewhere Ctrl-C.
///
/// From its first poll on, these signals no longer kill the process. Made for
/// [`RpcServer::run_until`](crate::RpcServer::run_until), which then stops the server in good order, and for
/// [`RpcServer::run_until_or_abort`](crate::RpcServer::run_until_or_abort), where a second signal ends it at once:
///
/// ```no_run
/// use oslo_messaging::{RpcServer, shutdown_signal};
///
/// # async fn doc(server: RpcServer) -> oslo_messaging::Result<()> {
/// server.run_until_or_abort(shutdown_signal(), shutdown_signal()).await?;
/// # Ok(()) }
/// ```
///
/// Should the signals not be available, which the log then says, it never resolves.
///
/// # Cancellation
/// Safe. The signals stay caught for the rest of the process's life.
pub async fn shutdown_signal() {
    if let Err(error) = wait().await {
        tracing::error!(%error, "cannot catch the signals that end this service");
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn wait() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let name = tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    };
    tracing::info!(signal = name, "asked to end");
    Ok(())
}

#[cfg(not(unix))]
async fn wait() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
