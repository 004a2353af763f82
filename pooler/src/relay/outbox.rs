//! What is to be written to one side: slices of what the other side sent, and bytes of our own between them.

use crate::stream::{Buffer, Stream};
use smallvec::SmallVec;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

/// Slices given to the kernel in one call.
const SLICES: usize = 16;

/// Above this many segments the outbox is written before more is planned.
pub(super) const FULL: usize = 256;

/// Above this many bytes of ours, too: a client's few bytes can call for the text of a long statement.
const HELD: usize = 64 * 1024;

/// Room for bytes of ours: most often it is the head of a Bind.
const OURS: usize = 64;

#[derive(Debug)]
enum Segment {
    /// `start..end` of the data of the buffer that the bytes came in.
    Range(usize, usize),
    Fixed(&'static [u8]),
    Ours(Vec<u8>),
}

/// Segments in order, partly written. Ranges count from the start of the buffer's data, and the buffer is
/// consumed only when all of them have been written.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    segments: SmallVec<[Segment; 4]>,
    /// Segments before this one are written.
    first: usize,
    /// Bytes of that one that are written.
    written: usize,
    /// Bytes of the buffer's data that need not be looked at again.
    planned: usize,
    /// Bytes of ours.
    held: usize,
    /// Something was written that the TLS session may still hold.
    unflushed: bool,
}

impl Outbox {
    /// Nothing is left to write.
    pub(super) fn is_empty(&self) -> bool {
        self.first == self.segments.len() && !self.unflushed
    }

    /// Some of it has been written, or is with the TLS session.
    pub(super) const fn is_under_way(&self) -> bool {
        self.first > 0 || self.written > 0 || self.unflushed
    }

    /// So much is planned that it should be written first.
    pub(super) fn is_full(&self) -> bool {
        self.segments.len() >= FULL || self.held >= HELD
    }

    /// Where planning goes on in the buffer's data.
    pub(super) const fn planned(&self) -> usize {
        self.planned
    }

    /// The next `count` bytes of the buffer are passed on.
    pub(super) fn pass(&mut self, count: usize) {
        let start = self.planned;
        self.planned += count;
        match self.segments.last_mut() {
            Some(Segment::Range(_, end)) if *end == start => *end = self.planned,
            _ if count == 0 => {}
            _ => self.segments.push(Segment::Range(start, self.planned)),
        }
    }

    /// The next `count` bytes of the buffer are left out.
    pub(super) const fn skip(&mut self, count: usize) {
        self.planned += count;
    }

    /// A fixed message of ours comes next.
    pub(super) fn fixed(&mut self, bytes: &'static [u8]) {
        self.segments.push(Segment::Fixed(bytes));
    }

    /// Bytes of ours come next, appended by `write`.
    pub(super) fn ours(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(Segment::Ours(bytes)) = self.segments.last_mut() {
            let before = bytes.len();
            write(bytes);
            self.held += bytes.len() - before;
            return;
        }
        let mut bytes = Vec::with_capacity(OURS);
        write(&mut bytes);
        self.held += bytes.len();
        if !bytes.is_empty() {
            self.segments.push(Segment::Ours(bytes));
        }
    }

    /// Writes everything, then consumes what was planned from `buffer`.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        buffer: Option<&mut Buffer>,
    ) -> Poll<io::Result<()>> {
        let data = buffer.as_deref().map_or(&[][..], Buffer::data);
        while self.first < self.segments.len() {
            let mut slices: SmallVec<[IoSlice<'_>; SLICES]> = SmallVec::new();
            let mut skip = self.written;
            for segment in self.segments.iter().skip(self.first).take(SLICES) {
                slices.push(IoSlice::new(segment.bytes(data).get(skip..).unwrap_or_default()));
                skip = 0;
            }
            let count = ready!(stream.poll_write(cx, &slices))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            drop(slices);
            self.unflushed = true;
            self.advance(count, data);
        }
        if self.unflushed {
            ready!(stream.poll_flush(cx))?;
            self.unflushed = false;
        }
        self.segments.clear();
        (self.first, self.held) = (0, 0);
        if let Some(buffer) = buffer {
            buffer.consume(self.planned);
        }
        self.planned = 0;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut count: usize, data: &[u8]) {
        while let Some(segment) = self.segments.get(self.first) {
            let left = segment.bytes(data).len() - self.written;
            if count < left {
                self.written += count;
                return;
            }
            count -= left;
            self.first += 1;
            self.written = 0;
        }
    }
}

impl Segment {
    fn bytes<'a>(&'a self, data: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Range(start, end) => data.get(*start..*end).unwrap_or_default(),
            Self::Fixed(bytes) => bytes,
            Self::Ours(bytes) => bytes,
        }
    }
}
