//! The way out of a connection: the bytes being written, and the socket's writing half.
//!
//! The task of the connection owns the writing. Whoever publishes a lone message borrows the outlet for one attempt that does not wait.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;

/// The writing half of a stream.
pub(crate) enum Writer {
    /// A TCP socket, which takes bytes from any thread.
    Tcp(OwnedWriteHalf),
    /// Anything else (TLS, a pipe): only its task writes.
    Other(Box<dyn AsyncWrite + Send + Unpin>),
}

impl Writer {
    fn pinned(&mut self) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        match self {
            Self::Tcp(half) => Pin::new(half),
            Self::Other(stream) => Pin::new(&mut **stream),
        }
    }
}

/// Bytes on their way into the stream.
pub(crate) struct Outlet {
    writer: Writer,
    output: Vec<u8>,
    /// Bytes of `output` that are written.
    written: usize,
    unflushed: bool,
}

impl Outlet {
    pub(crate) fn new(writer: Writer) -> Self {
        Self {
            writer,
            output: Vec::new(),
            written: 0,
            unflushed: false,
        }
    }

    /// Whether bytes are left that were taken.
    pub(crate) fn is_busy(&self) -> bool {
        self.written < self.output.len()
    }

    /// Bytes of memory it holds.
    pub(crate) fn capacity(&self) -> usize {
        self.output.capacity()
    }

    /// Gives back memory that a burst made it take.
    pub(crate) fn shrink(&mut self, to: usize) {
        if !self.is_busy() {
            self.output.clear();
            self.written = 0;
            self.output.shrink_to(to);
        }
    }

    /// What cannot be written is not tried again.
    pub(crate) fn give_up(&mut self) {
        self.output.clear();
        self.written = 0;
    }

    /// Writes until `take` has nothing more or the stream takes no more.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        mut take: impl FnMut(&mut Vec<u8>),
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.is_busy() {
                self.output.clear();
                self.written = 0;
                take(&mut self.output);
                if self.output.is_empty() {
                    return self.poll_flush(context);
                }
                self.unflushed = true;
            }
            let writer = self.writer.pinned();
            match writer.poll_write(context, &self.output[self.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Streams with a buffer of their own (TLS) send only now.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            match self.writer.pinned().poll_flush(context) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                pending_or_failed => return pending_or_failed,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what `take` gives, without waiting. True when all of it is written; the rest, or the fault, is for the task to find.
    pub(crate) fn write_now(&mut self, take: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Writer::Tcp(half) = &self.writer else {
            return false;
        };
        if self.written < self.output.len() {
            return false;
        }
        self.output.clear();
        self.written = 0;
        take(&mut self.output);
        while self.written < self.output.len() {
            match half.try_write(&self.output[self.written..]) {
                Ok(count) if count > 0 => self.written += count,
                _ => return false,
            }
        }
        true
    }

    /// Writes the rest, and what `take` gives, and ends the stream.
    pub(crate) async fn end(mut self, mut take: impl FnMut(&mut Vec<u8>)) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_write(context, &mut take)).await?;
        self.writer.pinned().shutdown().await
    }
}

#[cfg(test)]
mod tests;
