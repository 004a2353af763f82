//! What systemd is told, and what it passes on: `Type=notify`, `WatchdogSec=` and socket units, as in
//! `packaging/hawser.service`. The test plays systemd: a datagram socket is all that it takes.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use hawser::scratch::free_port;
use hawser_tests::raw::Client;
use hawser_tests::{Account, Config, Hawser, cluster, wait_for};
use rustix::process::Signal;

/// The socket on which systemd listens for one service.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn new(account: &Account) -> Self {
        let path = std::env::temp_dir().join(format!("hawser-notify-{}", account.user));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        Self { socket, name: path.display().to_string() }
    }

    /// Reads what the service says until this state is among it.
    #[track_caller]
    fn hears(&self, state: &str) {
        wait_for(&format!("systemd is told {state}"), || {
            let mut message = [0; 4096];
            let length = self.socket.recv(&mut message).ok()?;
            String::from_utf8_lossy(&message[..length]).lines().any(|line| line == state).then_some(())
        });
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.name);
    }
}

#[test]
fn systemd_learns_when_it_is_ready_alive_reloading_and_stopping() {
    let account = Account::new(cluster());
    let config = Config::new(cluster(), &account);
    let manager = Manager::new(&account);
    let mut hawser = Hawser::start_by(&config, free_port().unwrap(), |program| {
        let mut command = Command::new(program);
        command.env("NOTIFY_SOCKET", &manager.name).env("WATCHDOG_USEC", "100000");
        command
    });
    manager.hears("READY=1");
    manager.hears("WATCHDOG=1");
    hawser.reload(&config);
    manager.hears("RELOADING=1");
    manager.hears("READY=1");
    // It goes on to tell that it is alive.
    manager.hears("WATCHDOG=1");
    hawser.signal(Signal::TERM);
    manager.hears("STOPPING=1");
    assert!(hawser.wait().success());
}

#[test]
fn sockets_that_systemd_opened_are_served() {
    let account = Account::new(cluster());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let hawser = Hawser::start_by(&Config::new(cluster(), &account), port, |program| {
        // The number of the process is known to the process alone, and the socket has to be the first after stderr.
        let mut shell = Command::new("sh");
        shell.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 0</dev/null"]).arg(program);
        shell.stdin(std::os::fd::OwnedFd::from(socket));
        shell
    });
    assert_eq!(Client::login(hawser.port(), &account).value("SELECT 'served'"), "served");
}
