use super::*;
use proptest::prelude::*;

const PRIMARY: HostId = HostId(0);
const STANDBY: HostId = HostId(1);

fn following() -> Freshness {
    let mut freshness = Freshness::default();
    freshness.follow(PRIMARY, 1);
    freshness
}

#[test]
fn a_moment_is_proven_when_its_position_is_replayed() {
    let mut freshness = following();
    freshness.read(PRIMARY, 1, Moment(10), Lsn(100), Lsn(100));
    freshness.read(PRIMARY, 1, Moment(20), Lsn(200), Lsn(200));
    freshness.read(PRIMARY, 1, Moment(30), Lsn(300), Lsn(300));
    assert_eq!(freshness.replay(STANDBY, 5, 1, Lsn(99)).proven, Moment::NEVER);
    assert_eq!(freshness.replay(STANDBY, 5, 1, Lsn(250)).proven, Moment(20));
    assert_eq!(freshness.replay(STANDBY, 5, 1, Lsn(300)).proven, Moment(30));
    assert_eq!(freshness.lag(Lsn(250)), 50);
}

#[test]
fn what_the_primary_does_not_write_out_is_withheld_until_it_does() {
    let mut freshness = following();
    let at = |milliseconds: u64| Moment(milliseconds * 1_000_000);
    assert_eq!(freshness.withheld(), None);
    freshness.read(PRIMARY, 1, at(1), Lsn(100), Lsn(100));
    assert_eq!((freshness.withheld(), freshness.is_unsent(at(0))), (None, false));
    freshness.read(PRIMARY, 1, at(2), Lsn(200), Lsn(100));
    // It may be on its way.
    assert_eq!(
        (freshness.withheld(), freshness.is_unsent(at(0)), freshness.is_unsent(at(1))),
        (None, false, true)
    );
    freshness.read(PRIMARY, 1, at(12), Lsn(300), Lsn(100));
    assert_eq!(freshness.withheld(), Some(at(1)));
    freshness.read(PRIMARY, 1, at(13), Lsn(300), Lsn(200));
    assert_eq!(
        (freshness.withheld(), freshness.is_unsent(at(1)), freshness.is_unsent(at(2))),
        (None, false, true)
    );
    freshness.read(PRIMARY, 1, at(30), Lsn(300), Lsn(200));
    assert_eq!(freshness.withheld(), Some(at(2)));
    freshness.read(PRIMARY, 1, at(31), Lsn(300), Lsn(300));
    assert_eq!((freshness.withheld(), freshness.is_unsent(at(12))), (None, false));
}

#[test]
fn an_idle_primary_proves_ever_later_moments() {
    let mut freshness = following();
    for moment in 1..10_000 {
        freshness.read(PRIMARY, 1, Moment(moment), Lsn(100), Lsn(100));
    }
    assert_eq!(freshness.readings.len(), 2);
    assert_eq!(freshness.replay(STANDBY, 5, 1, Lsn(100)).proven, Moment(9_999));
}

#[test]
fn a_standby_far_behind_is_still_proven_something() {
    let mut freshness = following();
    // A minute of readings, one a millisecond.
    let at = |millisecond: u64| Moment(millisecond * 1_000_000);
    for millisecond in 1..60_000 {
        freshness.read(PRIMARY, 1, at(millisecond), Lsn(millisecond), Lsn(millisecond));
    }
    assert!(freshness.readings.len() + freshness.older.len() <= KEPT + KEPT_OLD);
    let proven = freshness.replay(STANDBY, 5, 1, Lsn(20_000)).proven;
    assert!((at(19_900)..=at(20_000)).contains(&proven), "{proven:?}");
}

#[test]
fn who_is_not_known_to_follow_proves_nothing_new_and_loses_nothing() {
    let mut freshness = following();
    freshness.read(PRIMARY, 1, Moment(10), Lsn(100), Lsn(100));
    freshness.replay(STANDBY, 5, 1, Lsn(100));
    freshness.follow(HostId(2), 2);
    freshness.read(HostId(2), 2, Moment(20), Lsn(100), Lsn(100));
    assert_eq!(freshness.replay(STANDBY, 5, 1, Lsn(500)).proven, Moment(10));
    assert_eq!(freshness.replay(STANDBY, 5, 2, Lsn(500)).proven, Moment(20));
}

#[test]
fn a_server_that_was_started_anew_or_set_back_begins_anew() {
    let mut freshness = following();
    freshness.read(PRIMARY, 1, Moment(10), Lsn(100), Lsn(100));
    freshness.read(PRIMARY, 1, Moment(20), Lsn(200), Lsn(200));
    freshness.replay(STANDBY, 5, 1, Lsn(200));
    assert_eq!(freshness.replay(STANDBY, 6, 1, Lsn(150)).proven, Moment(10));
    freshness.replay(STANDBY, 6, 1, Lsn(200));
    assert_eq!(freshness.replay(STANDBY, 6, 1, Lsn(50)).proven, Moment::NEVER);
    freshness.forget(STANDBY);
    assert_eq!(freshness.proof(STANDBY), Proof::default());
}

/// What happens in a world with a log.
#[derive(Debug, Clone)]
enum Happening {
    /// A write is acknowledged.
    Write,
    /// The primary is asked; the question takes until some writes later.
    Read(u8),
    /// The standby replays some records.
    Replay(u8),
    /// The standby is asked; its answer arrives after some other things.
    Look,
    /// The standby is promoted instead of the primary, and the old primary follows it.
    Fail,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => Just(Happening::Write),
        4 => (0..4_u8).prop_map(Happening::Read),
        5 => (0..6_u8).prop_map(Happening::Replay),
        5 => Just(Happening::Look),
        1 => Just(Happening::Fail),
    ]
}

/// One server's log: which writes it has, in order. A record is ten bytes long.
#[derive(Debug, Clone, Default)]
struct Log {
    writes: Vec<u64>,
    timeline: u32,
}

impl Log {
    fn position(&self) -> Lsn {
        Lsn(self.writes.len() as u64 * 10)
    }
}

proptest! {
    /// Two servers, one the primary and the other its standby. Each write carries the moment of its acknowledgement;
    /// whatever is proven for the standby, it has every surviving write that was acknowledged before.
    #[test]
    fn a_standby_has_what_is_proven_for_it(happenings in proptest::collection::vec(happening(), 1..400)) {
        let mut freshness = Freshness::default();
        let mut logs = [Log { timeline: 1, ..Log::default() }, Log { timeline: 1, ..Log::default() }];
        let mut instances = [1, 2];
        let (mut primary, mut highest, mut now) = (0, 1, 1_u64);
        freshness.follow(HostId(0), 1);
        for happening in happenings {
            now += 1;
            let standby = 1 - primary;
            let host = |place: usize| HostId(u16::try_from(place).unwrap());
            match happening {
                Happening::Write => logs[primary].writes.push(now),
                Happening::Read(later) => {
                    let asked = now;
                    for _ in 0..later {
                        now += 1;
                        logs[primary].writes.push(now);
                    }
                    let timeline = logs[primary].timeline;
                    let position = logs[primary].position();
                    freshness.read(host(primary), timeline, Moment(asked), position, position);
                }
                Happening::Replay(count) => {
                    // One that has replayed what its primary never had stays where it is.
                    let source = logs[primary].clone();
                    let log = &mut logs[standby];
                    if source.writes.starts_with(&log.writes) {
                        let end = (log.writes.len() + usize::from(count)).min(source.writes.len());
                        log.writes = source.writes[..end].to_vec();
                        log.timeline = source.timeline;
                    }
                }
                Happening::Look => {
                    let log = &logs[standby];
                    let proof = freshness.replay(host(standby), instances[standby], log.timeline, log.position());
                    let expected = logs[primary].writes.iter().filter(|write| **write < proof.proven.0);
                    for write in expected {
                        prop_assert!(log.writes.contains(write), "{write} is missing, {:?} is proven", proof.proven);
                    }
                }
                Happening::Fail => {
                    highest += 1;
                    primary = standby;
                    logs[primary].timeline = highest;
                    // The old primary is started anew as a standby, with what it has; sometimes that is too much.
                    instances[1 - primary] += 10;
                    freshness.follow(host(primary), highest);
                }
            }
        }
    }
}
