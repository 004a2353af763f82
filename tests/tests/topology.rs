//! What Hawser knows of a cluster: who is the primary, who is down, who is fenced, and when.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use hawser::scratch::Cluster;
use hawser_tests::{Account, Config, Hawser, own_cluster};

/// A primary with standbys of its own, and a Hawser that watches them.
struct Scene {
    hawser: Hawser,
    hosts: Vec<Cluster>,
}

impl Scene {
    fn new(standbys: usize) -> Self {
        let primary = own_cluster(&[]);
        let account = Account::new(&primary);
        let mut hosts = vec![primary];
        for _ in 0..standbys {
            let standby = hosts[0].standby().expect("a standby");
            hosts.push(standby);
        }
        let names: Vec<String> = hosts.iter().map(|host| format!("127.0.0.1:{}", host.port())).collect();
        let config = Config::new(&hosts[0], &account).hosts(&names);
        let scene = Self { hawser: Hawser::start(&config), hosts };
        scene.wait_for_primary(0, 1);
        scene
    }

    #[track_caller]
    fn wait_for_primary(&self, host: usize, timeline: u32) {
        let port = self.hosts[host].port();
        self.hawser.wait_for_log(&format!("host=\"127.0.0.1:{port}\" timeline={timeline}"));
    }

    /// Waits until the log says this of a host.
    #[track_caller]
    fn wait_for(&self, host: usize, words: &str) {
        let port = self.hosts[host].port();
        let address = format!("host=\"127.0.0.1:{port}\"");
        hawser_tests::wait_until(&format!("the log says {words:?} of {address}"), || {
            self.hawser.log().lines().any(|line| line.contains(words) && line.contains(&address))
        });
    }
}

#[test]
fn the_end_of_a_primary_and_the_promotion_of_a_standby_are_seen() {
    let mut scene = Scene::new(2);
    scene.hosts[0].kill9().expect("it is killed");
    scene.hawser.wait_for_log("no primary: host 0 is down");
    scene.hosts[2].promote().expect("it is promoted");
    scene.wait_for_primary(2, 2);
    scene.hawser.wait_for_log("failover: suspect 0 ms, down");
}

#[test]
fn a_primary_that_wakes_up_after_a_promotion_is_fenced() {
    let scene = Scene::new(1);
    scene.hosts[0].sigstop();
    scene.wait_for(0, "host is down: it does not answer in time");
    scene.hosts[1].promote().expect("it is promoted");
    scene.wait_for_primary(1, 2);
    scene.hosts[0].sigcont();
    scene.wait_for(0, "host is fenced: it is a primary on timeline 1, and the cluster is on 2");
}
