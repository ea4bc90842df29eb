//! From a host name to a TCP socket with its options, or TLS on it: addresses tried in turn, none at the expense of the others.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{timeout, timeout_at};

use crate::error::{Error, ErrorKind, Result};
use crate::options::ConnectOptions;
#[cfg(feature = "tls")]
use crate::tls;

/// Probes that a dead peer may leave unanswered, where the system can be told.
#[cfg(target_os = "linux")]
const KEEPALIVE_PROBES: u32 = 3;

/// A socket to one of the addresses of a host, by the deadline.
///
/// # Errors
/// [`ErrorKind::Io`] with the fault of the last address, [`ErrorKind::Timeout`].
pub(crate) async fn open(
    host: &str,
    port: u16,
    options: &ConnectOptions,
    deadline: Instant,
) -> Result<TcpStream> {
    let addresses: Vec<SocketAddr> =
        match timeout_at(deadline.into(), lookup_host((host, port))).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(Error::io("the host name has no address", error)),
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    "the host name was not looked up in time",
                ));
            }
        };
    let stream = connect_any(&addresses, deadline).await?;
    prepare(&stream, options)?;
    Ok(stream)
}

/// Puts TLS on a socket. The certificate must be valid for `host`, a name or an address. Also tells whether the peer asked for a
/// certificate of this side.
#[cfg(feature = "tls")]
pub(crate) async fn secure(
    stream: TcpStream,
    host: &str,
    options: &tls::TlsOptions,
    deadline: Instant,
) -> Result<(tokio_rustls::client::TlsStream<TcpStream>, bool)> {
    let name = tls::server_name(host)?;
    let options = options.clone();
    let work = async {
        // Reads files: not on a thread that others wait for.
        let (config, asked) = tokio::task::spawn_blocking(move || tls::client_config(&options))
            .await
            .map_err(|_| Error::new(ErrorKind::Closed, "the runtime is shutting down"))??;
        let connected = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| Error::io("no TLS connection to the broker", error));
        match (connected, asked.load(std::sync::atomic::Ordering::Relaxed)) {
            (Ok(stream), asked) => Ok((stream, asked)),
            (Err(error), true) => Err(error.after_certificate_request()),
            (Err(error), false) => Err(error),
        }
    };
    timeout_at(deadline.into(), work).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Timeout,
            "the broker did not finish the TLS handshake in time",
        ))
    })
}

/// The first address that answers. Each may take its share of the time left, so that a silent one leaves time for the next.
async fn connect_any(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream> {
    let mut fault = None;
    for (at, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let others = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        match timeout(left / others, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => fault = Some(Error::io("no TCP connection to the broker", error)),
            Err(_) => {
                let late = "no TCP connection to the broker in time";
                fault = Some(Error::new(ErrorKind::Timeout, late));
            }
        }
    }
    Err(fault.unwrap_or_else(|| {
        Error::io(
            "the host name has no address",
            io::Error::from(io::ErrorKind::AddrNotAvailable),
        )
    }))
}

fn prepare(stream: &TcpStream, options: &ConnectOptions) -> Result<()> {
    let failed = |error| Error::io("the socket takes no options", error);
    stream.set_nodelay(true).map_err(failed)?;
    let socket = socket2::SockRef::from(stream);
    if let Some(idle) = options.tcp_keepalive {
        let keepalive = socket2::TcpKeepalive::new().with_time(idle);
        #[cfg(target_os = "linux")]
        let keepalive = keepalive
            .with_interval((idle / KEEPALIVE_PROBES).max(std::time::Duration::from_secs(1)))
            .with_retries(KEEPALIVE_PROBES);
        socket.set_tcp_keepalive(&keepalive).map_err(failed)?;
    }
    #[cfg(target_os = "linux")]
    if options.tcp_user_timeout.is_some() {
        socket
            .set_tcp_user_timeout(options.tcp_user_timeout)
            .map_err(failed)?;
    }
    Ok(())
}

#[cfg(all(test, feature = "tls"))]
mod tls_tests;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpSocket;

    use super::*;

    /// A listener that takes no more connections: packets to it are dropped, as by a firewall.
    async fn silent() -> (SocketAddr, Vec<TcpStream>, tokio::net::TcpListener) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) =
            timeout(Duration::from_millis(50), TcpStream::connect(address)).await
        {
            waiting.push(stream);
        }
        (address, waiting, listener)
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_leaves_time_for_the_next() {
        let (dead, _waiting, _listener) = silent().await;
        let alive = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alive = alive.local_addr().unwrap();
        let start = Instant::now();
        let limit = Duration::from_secs(2);
        let stream = connect_any(&[dead, alive], start + limit).await;
        assert_eq!(stream.unwrap().peer_addr().unwrap(), alive);
        assert!(start.elapsed() < limit);
        let error = connect_any(&[dead], Instant::now() + Duration::from_millis(100)).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Timeout);
    }

    #[tokio::test]
    async fn a_host_without_an_address_is_told_as_such() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let error = open(
            "no-such-host.invalid",
            1,
            &ConnectOptions::default(),
            deadline,
        )
        .await
        .unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Timeout));
        let error = connect_any(&[], deadline).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_socket_probes_an_idle_peer_and_gives_up_on_one_that_acknowledges_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut options = ConnectOptions::default();
        options.tcp_keepalive = Some(Duration::from_secs(30));
        options.tcp_user_timeout = Some(Duration::from_secs(7));
        let deadline = Instant::now() + Duration::from_secs(5);
        let stream = open("127.0.0.1", port, &options, deadline).await.unwrap();
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(30)
        );
        assert_eq!(
            (
                socket.tcp_keepalive_interval().unwrap(),
                socket.tcp_keepalive_retries().unwrap()
            ),
            (Duration::from_secs(10), 3)
        );
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(7))
        );
    }
}
