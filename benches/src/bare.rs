//! A relay that knows no protocol: what it costs to pass bytes on, whoever does it. A pooler that reads and writes every
//! message once cannot be cheaper; what it needs beyond this is its own.
//!
//! One thread, one server connection for each client. Whatever has arrived is read once and written once, and where the
//! other side does not take it, nothing more is read. Edge-triggered epoll: `epoll(7)`.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;

/// What one read takes at most.
const PIECE: usize = 64 * 1024;

/// Events of one wait.
const MOST_EVENTS: usize = 256;

/// Marks the listener; the ends of a pair have twice the pair's place, and one more.
const LISTENER: u64 = u64::MAX;

/// Nothing more will arrive than what is there.
const LAST: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);

/// One of the two connections that are joined.
#[derive(Debug)]
struct End {
    stream: TcpStream,
    /// What it did not take yet.
    unsent: Vec<u8>,
    /// It sends nothing more.
    is_last: bool,
}

/// The relay.
#[derive(Debug)]
pub struct Relay {
    epoll: OwnedFd,
    listener: TcpListener,
    server_port: u16,
    pairs: Vec<Option<[End; 2]>>,
    piece: Vec<u8>,
}

impl Relay {
    /// Listens on 127.0.0.1; clients are joined to `server_port` there.
    pub fn bind(port: u16, server_port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self { epoll, listener, server_port, pairs: Vec::new(), piece: vec![0; PIECE] })
    }

    /// Where it listens.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Relays until something of its own fails; a connection that fails ends its pair alone.
    pub fn run(mut self) -> io::Result<Infallible> {
        let mut events: Vec<Event> = Vec::with_capacity(MOST_EVENTS);
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => _ = other?,
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    mark => self.serve(mark, event.flags),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let client = match self.listener.accept() {
            Ok((client, _)) => client,
            // Gone again.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.server_port))?;
        let place = self.pairs.iter().position(Option::is_none).unwrap_or(self.pairs.len());
        for (stream, mark) in [(&client, 2 * place as u64), (&server, 2 * place as u64 + 1)] {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let wanted = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, stream, EventData::new_u64(mark), wanted)?;
        }
        let end = |stream| End { stream, unsent: Vec::new(), is_last: false };
        if place == self.pairs.len() {
            self.pairs.push(None);
        }
        if let Some(free) = self.pairs.get_mut(place) {
            *free = Some([end(client), end(server)]);
        }
        Ok(())
    }

    fn serve(&mut self, mark: u64, flags: EventFlags) {
        let Some(place) = self.pairs.get_mut((mark / 2) as usize) else { return };
        // Its other end may have ended it a moment ago.
        let Some([client, server]) = place else { return };
        let (this, other) = if mark.is_multiple_of(2) { (client, server) } else { (server, client) };
        this.is_last |= flags.intersects(LAST);
        if relay(this, other, &mut self.piece).is_err() {
            *place = None;
        }
    }
}

impl End {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let taken = match self.stream.write(bytes) {
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.unsent.extend_from_slice(bytes.get(taken..).unwrap_or_default());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let unsent = std::mem::take(&mut self.unsent);
        self.send(&unsent)
    }
}

/// Something happened on `this`. An error ends the pair.
fn relay(this: &mut End, other: &mut End, piece: &mut [u8]) -> io::Result<()> {
    if !this.unsent.is_empty() {
        this.flush()?;
        // What waited for that was not read.
        pass(other, this, piece)?;
    }
    pass(this, other, piece)
}

/// Passes on what has arrived. An error ends the pair; so does the end of a stream.
fn pass(from: &mut End, to: &mut End, piece: &mut [u8]) -> io::Result<()> {
    while to.unsent.is_empty() {
        let length = match from.stream.read(piece) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        to.send(piece.get(..length).unwrap_or_default())?;
        // What comes later says so itself, but for an end that has come already.
        if length < piece.len() && !from.is_last {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Where a server listens, and a port whose clients are relayed to it.
    fn server_behind_a_relay() -> (TcpListener, u16) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay::bind(0, server.local_addr().unwrap().port()).unwrap();
        let port = relay.port().unwrap();
        thread::spawn(move || relay.run());
        (server, port)
    }

    /// The same, of a server that sends back what it gets.
    fn echo_behind_a_relay() -> u16 {
        let (server, port) = server_behind_a_relay();
        thread::spawn(move || {
            for stream in server.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        port
    }

    #[test]
    fn bytes_come_back_whole_however_many() {
        let port = echo_behind_a_relay();
        let clients: Vec<_> = (0..4_u8)
            .map(|own| {
                thread::spawn(move || {
                    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                    let sent: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8 ^ own).collect();
                    let mut writer = client.try_clone().unwrap();
                    let whole = sent.clone();
                    let writing = thread::spawn(move || writer.write_all(&whole));
                    let mut heard = vec![0; sent.len()];
                    client.read_exact(&mut heard).unwrap();
                    writing.join().unwrap().unwrap();
                    assert!(heard == sent, "client {own} got something else");
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
    }

    #[test]
    fn an_end_is_passed_on() {
        let (server, port) = server_behind_a_relay();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        client.write_all(b"farewell").unwrap();
        drop(client);
        let mut heard = Vec::new();
        server.accept().unwrap().0.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"farewell");
    }
}
