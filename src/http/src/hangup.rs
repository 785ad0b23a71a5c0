//! A client that hangs up, noticed whatever hyper reads.
//!
//! While an answer is made, hyper looks for the end of the connection only as long as its read
//! buffer is empty. One byte behind the request, a line feed or the next request, and it does not
//! look any more: the handler of a client that left runs to its end. So the socket's own end is
//! watched beside hyper.
//!
//! hyper comes first all the same: what a client sent before it hung up may be answered as far as
//! hyper does so by itself. The connection is dropped once hyper, asked after the hang-up, does
//! not even try to read.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// A socket whose end can be watched while somebody else reads and writes it.
pub(crate) struct WatchedSocket {
    reader: Arc<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    has_tried_to_read: Arc<AtomicBool>,
    /// Whether the end has been read once already.
    has_seen_end: bool,
}

/// Tells when the other side of a [`WatchedSocket`] has closed.
pub(crate) struct Hangup {
    reader: Arc<OwnedReadHalf>,
    has_tried_to_read: Arc<AtomicBool>,
}

/// The socket, and what tells of its end.
pub(crate) fn watched(stream: TcpStream) -> (WatchedSocket, Hangup) {
    let (reader, writer) = stream.into_split();
    let reader = Arc::new(reader);
    let has_tried_to_read = Arc::<AtomicBool>::default();
    let hangup =
        Hangup { reader: Arc::clone(&reader), has_tried_to_read: Arc::clone(&has_tried_to_read) };
    (WatchedSocket { reader, writer, has_tried_to_read, has_seen_end: false }, hangup)
}

impl Hangup {
    /// Runs `connection`, which owns the socket, to its end, or to the point after a hang-up
    /// where it does not read any more: then it is dropped and there is no output.
    pub(crate) async fn cuts<F: Future>(self, connection: F) -> Option<F::Output> {
        let mut connection = pin!(connection);
        let mut closed = pin!(self.closed());
        let mut is_closed = false;
        poll_fn(|cx| {
            loop {
                self.has_tried_to_read.store(false, Ordering::Relaxed);
                if let Poll::Ready(output) = connection.as_mut().poll(cx) {
                    return Poll::Ready(Some(output));
                }
                if is_closed {
                    break;
                }
                ready!(closed.as_mut().poll(cx));
                // Once more: what came before the end may still lie in the socket.
                is_closed = true;
            }
            if !self.has_tried_to_read.load(Ordering::Relaxed) {
                return Poll::Ready(None);
            }
            // It comes to an end: each try takes what is left, or finds nothing.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    /// Resolves when the other side has closed, in whichever way, with unread bytes or without.
    async fn closed(&self) {
        // Interest in priority data alone: bytes that lie there unread would make readiness to
        // read true for ever, and nobody registers for such data, so that only the end is left.
        // An error means that the runtime goes down; then this ends too.
        let _ = self.reader.ready(Interest::PRIORITY).await;
    }
}

impl AsyncRead for WatchedSocket {
    /// The end is told one turn late. hyper reads on before it calls the handler for what it has
    /// read, and gives up at the end: a request that came in one piece with its client's FIN would
    /// be lost though its answer may be there at once.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.has_tried_to_read.store(true, Ordering::Relaxed);
        let reader = Arc::clone(&self.reader);
        let stream: &TcpStream = (*reader).as_ref();
        loop {
            ready!(stream.poll_read_ready(cx))?;
            match stream.try_read_buf(buf) {
                Ok(0) if !self.has_seen_end => {
                    self.has_seen_end = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for WatchedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.writer.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, time::Duration};

    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// Unread bytes do not keep the thread busy, and do not hide the end either.
    #[tokio::test]
    async fn a_connection_that_reads_nothing_is_polled_for_the_end_only() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, hangup) = watched(listener.accept().await.unwrap().0);
        let polls = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&polls);
        let connection = poll_fn(move |_| {
            let _owned = &socket;
            counter.fetch_add(1, Ordering::Relaxed);
            Poll::<()>::Pending
        });
        let cut = tokio::spawn(hangup.cuts(connection));
        client.write_all(b"unread").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        client.write_all(b"more").await.unwrap();
        drop(client);
        let cut = tokio::time::timeout(Duration::from_secs(20), cut).await;
        assert_eq!(cut.expect("it notices").unwrap(), None);
        assert!(polls.load(Ordering::Relaxed) <= 3, "{polls:?} polls");
    }
}
