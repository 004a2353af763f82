//! A [`Stream`] for libraries that read and write by tokio's traits. Not for the data path: it copies.

use super::{Buffer, Stream};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module.
#[derive(Debug)]
pub struct Adapted {
    stream: Stream,
    input: Buffer,
}

impl Adapted {
    /// Nothing is read before it is asked for.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self { stream, input: Buffer::default() }
    }
}

impl AsyncRead for Adapted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.input.is_empty() {
            this.input.grow();
            if ready!(this.stream.poll_read(cx, &mut this.input))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        let data = this.input.data();
        let count = data.len().min(buf.remaining());
        buf.put_slice(data.get(..count).unwrap_or_default());
        this.input.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Adapted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().stream.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.poll_flush(cx)
    }
}
