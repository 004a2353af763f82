use super::*;
use crate::topology::lsn::Lsn;

const RULES: Rules = Rules { failures: 2, successes: 2 };
const PATIENCE: Duration = Duration::from_secs(30);

fn answer(standby: bool, timeline: u32, instance: u64) -> Answer {
    Answer {
        standby,
        system_id: 7,
        instance,
        timeline,
        read_only: false,
        version: 170_000,
        position: Lsn(1000),
        flushed: Lsn(0),
        page: 8192,
        segment: 16 << 20,
    }
}

/// A judge and a clock.
struct Court {
    judge: Judge,
    now: Moment,
}

impl Court {
    fn new(hosts: usize) -> Self {
        Self { judge: Judge::new(RULES, hosts, Moment(1)), now: Moment(1) }
    }

    /// A primary on host 0 and standbys on the others, timeline 1.
    fn healthy(hosts: usize) -> Self {
        let mut court = Self::new(hosts);
        court.primary(0, 1);
        (1..hosts).for_each(|host| court.standby(host, 1));
        court
    }

    fn see(&mut self, host: usize, outcome: Outcome) -> Vec<Change> {
        let asked = self.now.plus(Duration::from_millis(1));
        self.now = asked.plus(Duration::from_millis(1));
        let host = HostId(u16::try_from(host).unwrap());
        self.judge.observe(&Observation { host, asked, heard: self.now, outcome })
    }

    fn answer(&mut self, host: usize, answer: Answer) {
        self.see(host, Outcome::Answered(answer));
    }

    fn primary(&mut self, host: usize, timeline: u32) {
        self.answer(host, answer(false, timeline, host as u64));
    }

    fn standby(&mut self, host: usize, timeline: u32) {
        self.answer(host, answer(true, timeline, host as u64));
    }

    fn fail(&mut self, host: usize, times: usize) {
        for _ in 0..times {
            self.see(host, Outcome::Failed(DownReason::Unreachable));
        }
    }

    fn state(&self, host: u16) -> HostState {
        self.judge.state(HostId(host)).0
    }

    fn writable(&self) -> Option<u16> {
        match self.judge.primary() {
            PrimaryView::Known { host, .. } | PrimaryView::Leaving { host, .. } => Some(host.0),
            PrimaryView::Lost { .. } | PrimaryView::NeverSeen => None,
        }
    }

    fn why(&self) -> Option<LostReason> {
        match self.judge.primary() {
            PrimaryView::Lost { why, .. } => Some(why),
            _ => None,
        }
    }
}

#[test]
fn the_first_primary_is_believed_when_every_host_was_asked() {
    let mut court = Court::new(3);
    court.primary(0, 1);
    court.fail(2, 1);
    assert_eq!(court.judge.primary(), PrimaryView::NeverSeen);
    // What was left behind answered first.
    court.primary(1, 2);
    assert_eq!(court.writable(), Some(1));
    assert_eq!(court.state(0), HostState::Fenced(FenceReason::LowerTimeline { has: 1, highest: 2 }));
}

#[test]
fn one_failure_makes_a_host_suspect_and_the_next_one_down() {
    let mut court = Court::healthy(2);
    court.fail(0, 1);
    assert_eq!((court.writable(), court.state(0)), (Some(0), HostState::Suspect));
    court.fail(0, 1);
    assert_eq!(court.state(0), HostState::Down(DownReason::Unreachable));
    assert_eq!(court.why(), Some(LostReason::Down(HostId(0), DownReason::Unreachable)));
    assert!(!court.judge.is_calm(court.now, PATIENCE));
    // It was only a restart: two answers in a row and it is back.
    court.primary(0, 1);
    assert_eq!(court.writable(), None);
    court.primary(0, 1);
    assert_eq!(court.writable(), Some(0));
    assert!(court.judge.is_calm(court.now, PATIENCE));
}

#[test]
fn when_every_host_is_down_the_first_that_answers_is_up() {
    let mut court = Court::healthy(3);
    for host in 0..3 {
        court.fail(host, 2);
    }
    court.standby(1, 1);
    assert_eq!(court.state(1), HostState::Up);
    court.standby(2, 1);
    assert_eq!(court.state(2), HostState::Down(DownReason::Unreachable));
    court.standby(2, 1);
    assert_eq!(court.state(2), HostState::Up);
}

#[test]
fn a_promotion_is_believed_at_its_first_sign_and_the_old_primary_never_comes_back() {
    let mut court = Court::healthy(3);
    court.fail(0, 2);
    court.primary(1, 2);
    assert_eq!(court.writable(), Some(1));
    for _ in 0..5 {
        court.primary(0, 1);
        assert_eq!(court.writable(), Some(1));
    }
    assert_eq!(court.state(0), HostState::Fenced(FenceReason::LowerTimeline { has: 1, highest: 2 }));
    // Not even when the new one is gone.
    court.fail(1, 2);
    court.primary(0, 1);
    assert_eq!(court.why(), Some(LostReason::Down(HostId(1), DownReason::Unreachable)));
    // As a standby it is welcome.
    court.standby(0, 2);
    assert_eq!(court.state(0), HostState::Up);
}

#[test]
fn a_standby_that_follows_a_new_timeline_fences_the_old_primary() {
    let mut court = Court::healthy(3);
    court.standby(2, 2);
    assert_eq!(court.state(0), HostState::Fenced(FenceReason::LowerTimeline { has: 1, highest: 2 }));
    assert_eq!(court.why(), Some(LostReason::Superseded { timeline: 2 }));
    court.primary(1, 2);
    assert_eq!(court.writable(), Some(1));
}

#[test]
fn a_promoted_host_is_no_primary_before_it_takes_writes() {
    let mut court = Court::healthy(2);
    court.fail(0, 2);
    let since = court.judge.primary();
    let promoted = Answer { read_only: true, ..answer(false, 2, 1) };
    court.answer(1, promoted);
    assert_eq!(court.why(), Some(LostReason::ReadOnly(HostId(1))));
    let PrimaryView::Lost { since: lost, .. } = since else { panic!("{since:?}") };
    assert!(matches!(court.judge.primary(), PrimaryView::Lost { since, .. } if since == lost));
    // The old one is out of it all the same.
    court.primary(0, 1);
    court.primary(0, 1);
    assert!(matches!(court.state(0), HostState::Fenced(_)));
    court.primary(1, 2);
    assert_eq!(court.writable(), Some(1));
}

#[test]
fn of_two_on_one_timeline_the_incumbent_stays_and_without_one_neither_is_believed() {
    let mut court = Court::healthy(2);
    court.primary(1, 1);
    assert_eq!(court.writable(), Some(0));
    assert_eq!(court.state(1), HostState::Fenced(FenceReason::Rival { primary: HostId(0) }));
    let mut court = Court::new(2);
    court.primary(0, 1);
    court.primary(1, 1);
    assert_eq!(court.why(), Some(LostReason::Rivals));
    assert_eq!(court.state(0), HostState::Fenced(FenceReason::Rivals));
    assert_eq!(court.state(1), HostState::Fenced(FenceReason::Rivals));
    court.standby(1, 1);
    assert_eq!(court.writable(), Some(0));
}

#[test]
fn two_addresses_of_one_server_are_one_primary() {
    let mut court = Court::new(2);
    court.answer(0, answer(false, 1, 5));
    court.answer(1, answer(false, 1, 5));
    assert_eq!(court.writable(), Some(0));
    assert_eq!(court.state(1), HostState::Up);
    assert_eq!(court.judge.same_as(HostId(1)), Some(HostId(0)));
}

#[test]
fn a_host_of_another_cluster_is_foreign_and_two_clusters_are_a_conflict() {
    let mut court = Court::healthy(2);
    court.answer(1, Answer { system_id: 8, ..answer(false, 9, 1) });
    assert_eq!((court.writable(), court.state(1)), (Some(0), HostState::Foreign));
    let mut court = Court::new(2);
    court.primary(0, 1);
    court.answer(1, Answer { system_id: 8, ..answer(false, 1, 1) });
    assert_eq!(court.why(), Some(LostReason::Rivals));
}

#[test]
fn a_host_that_lets_no_probe_in_stays_what_it_was() {
    let mut court = Court::healthy(2);
    court.see(0, Outcome::Mute);
    assert_eq!((court.writable(), court.state(0)), (Some(0), HostState::Up));
    (0..5).for_each(|_| drop(court.see(0, Outcome::Mute)));
    assert_eq!((court.writable(), court.state(0)), (Some(0), HostState::Unknown));
    let mut court = Court::new(2);
    (0..2).for_each(|host| drop(court.see(host, Outcome::Mute)));
    assert_eq!(court.judge.primary(), PrimaryView::NeverSeen);
}

#[test]
fn an_old_observation_changes_nothing() {
    let mut court = Court::healthy(2);
    let early = Observation {
        host: HostId(0),
        asked: Moment(2),
        heard: court.now,
        outcome: Outcome::Failed(DownReason::Lost),
    };
    assert_eq!(court.judge.observe(&early), []);
    assert_eq!(court.state(0), HostState::Up);
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn an_announced_switchover_is_leaving_until_another_host_is_the_primary() {
    let mut court = Court::healthy(2);
    court.judge.announce(HostId(0), Sign::Monitor, court.now, MINUTE);
    assert!(matches!(court.judge.primary(), PrimaryView::Leaving { host: HostId(0), .. }));
    court.judge.take_back(Sign::Patroni, court.now);
    assert!(
        matches!(court.judge.primary(), PrimaryView::Leaving { .. }),
        "only who announced it takes it back"
    );
    court.standby(0, 1);
    assert_eq!(court.why(), Some(LostReason::Demoted(HostId(0))));
    court.primary(1, 2);
    assert!(matches!(court.judge.primary(), PrimaryView::Known { host: HostId(1), .. }));
}

#[test]
fn an_announced_switchover_that_does_not_come_is_forgotten() {
    let mut court = Court::healthy(2);
    court.judge.announce(HostId(0), Sign::Operator, court.now, MINUTE);
    court.now = court.now.plus(MINUTE / 2);
    court.primary(0, 1);
    assert!(matches!(court.judge.primary(), PrimaryView::Leaving { .. }));
    court.now = court.now.plus(MINUTE);
    court.primary(0, 1);
    assert!(matches!(court.judge.primary(), PrimaryView::Known { .. }));
}

#[test]
fn a_primary_that_was_away_and_comes_back_has_had_its_switchover() {
    let mut court = Court::healthy(2);
    court.judge.announce(HostId(0), Sign::Operator, court.now, MINUTE);
    court.fail(0, 2);
    assert!(matches!(court.judge.primary(), PrimaryView::Lost { .. }));
    court.primary(0, 1);
    court.primary(0, 1);
    assert!(matches!(court.judge.primary(), PrimaryView::Known { host: HostId(0), .. }));
}

#[test]
fn standbys_alone_are_no_primary() {
    let mut court = Court::new(2);
    (0..2).for_each(|host| court.standby(host, 1));
    assert_eq!(court.why(), Some(LostReason::NobodyClaims));
}

#[test]
fn a_host_that_was_removed_counts_no_longer_and_may_come_back() {
    let mut court = Court::healthy(2);
    court.judge.remove(HostId(0), court.now);
    assert_eq!(court.why(), Some(LostReason::Down(HostId(0), DownReason::Removed)));
    court.primary(0, 1);
    assert_eq!(court.writable(), None);
    court.judge.restore(HostId(0), court.now);
    court.primary(0, 1);
    assert_eq!(court.writable(), Some(0));
}

#[test]
fn the_operator_can_make_the_judge_forget() {
    let mut court = Court::healthy(2);
    court.standby(1, 5);
    assert_eq!(court.writable(), None);
    court.answer(1, Answer { system_id: 8, ..answer(true, 5, 1) });
    court.judge.forget(court.now);
    court.primary(0, 1);
    assert_eq!(court.writable(), Some(0));
}
