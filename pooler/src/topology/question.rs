//! What a host is asked, and how its answer is read. Pure.
//!
//! One statement for every host, primary or standby, PostgreSQL 13 to 18, and any user that may log in. Its names are
//! qualified, and the probe sets `search_path` besides, so that nobody's functions stand in for PostgreSQL's.

use super::lsn::Lsn;

/// Everything. Whether the host is in recovery is asked once, so that a promotion in the middle makes no error.
///
/// The timeline of a primary is the live one: `pg_control_checkpoint()` shows the old one until the checkpoint after a
/// promotion has ended. For a standby it is the newest one that is known to be replayed or received; the receiver's is
/// hidden from users without `pg_read_all_stats`.
pub const EVERYTHING: &str = "\
SELECT h.standby::text, \
(SELECT c.system_identifier FROM pg_catalog.pg_control_system() c)::text, \
CASE WHEN h.standby THEN GREATEST(\
(SELECT c.timeline_id FROM pg_catalog.pg_control_checkpoint() c), \
(SELECT c.min_recovery_end_timeline FROM pg_catalog.pg_control_recovery() c), \
(SELECT w.received_tli FROM pg_catalog.pg_stat_wal_receiver w))::text \
ELSE 'x' OPERATOR(pg_catalog.||) pg_catalog.\"left\"(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) END, \
CASE WHEN h.standby THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END::text, \
CASE WHEN NOT h.standby THEN pg_catalog.pg_current_wal_flush_lsn() END::text, \
pg_catalog.current_setting('transaction_read_only'), \
CASE WHEN NOT h.standby AND pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'on' THEN \
(SELECT s.source FROM pg_catalog.pg_settings s WHERE s.name OPERATOR(pg_catalog.=) 'default_transaction_read_only') END, \
pg_catalog.current_setting('server_version_num'), \
(pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.*) 1000000)::bigint::text, \
pg_catalog.current_setting('wal_block_size'), \
pg_catalog.current_setting('wal_segment_size') \
FROM (SELECT pg_catalog.pg_is_in_recovery() AS standby OFFSET 0) h";

/// Only how far the log is: for the chase after a proof, in which a host is asked every few milliseconds. It costs the
/// host a fraction of [`EVERYTHING`].
pub const POSITION: &str = "\
SELECT h.standby::text, \
CASE WHEN h.standby THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END::text, \
CASE WHEN NOT h.standby THEN pg_catalog.pg_current_wal_flush_lsn() END::text \
FROM (SELECT pg_catalog.pg_is_in_recovery() AS standby OFFSET 0) h";

/// What a host said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// It is in recovery: a standby.
    pub standby: bool,
    /// `system_identifier`: which cluster its data belong to.
    pub system_id: u64,
    /// When its server was started, in microseconds since 1970 by its own clock. Two addresses that show the same
    /// lead to the same server; another one means that it was started anew.
    pub instance: u64,
    /// Timeline: of a primary the live one, of a standby the newest one that it is known to follow.
    pub timeline: u32,
    /// It is a primary, and the whole server takes no writes yet.
    pub read_only: bool,
    /// `server_version_num`.
    pub version: u32,
    /// End of the last record that was inserted (primary) or replayed (standby).
    pub position: Lsn,
    /// End of what a primary has written out, and so sends to standbys; zero for a standby.
    pub flushed: Lsn,
    /// `wal_block_size`, in bytes.
    pub page: u64,
    /// `wal_segment_size`, in bytes.
    pub segment: u64,
}

/// Reads the one row of [`EVERYTHING`]; `None` if it is not what was asked for.
#[must_use]
pub fn read(rows: &[Vec<Option<String>>]) -> Option<Answer> {
    let [row] = rows else { return None };
    let [standby, system, timeline, position, flushed, read_only, source, version, instance, page, segment] =
        row.as_slice()
    else {
        return None;
    };
    let standby = match standby.as_deref()? {
        "true" => true,
        "false" => false,
        _ => return None,
    };
    let timeline = timeline.as_deref()?;
    let timeline = match timeline.strip_prefix('x') {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => timeline.parse().ok()?,
    };
    let (page, segment) = (page.as_deref()?.parse().ok()?, size(segment.as_deref()?)?);
    let position = lsn(position)?;
    // What holds for the probing user only says nothing of others.
    let of_server = matches!(
        source.as_deref(),
        Some("default" | "configuration file" | "command line" | "environment variable" | "global")
    );
    Some(Answer {
        standby,
        system_id: system.as_deref()?.parse().ok()?,
        instance: instance.as_deref()?.parse().ok()?,
        timeline,
        read_only: !standby && of_server && read_only.as_deref()? == "on",
        version: version.as_deref()?.parse().ok()?,
        position: if standby { position } else { position.end_of_last_record(page, segment) },
        flushed: lsn(flushed)?,
        page,
        segment,
    })
}

/// A standby that has replayed nothing has no position.
fn lsn(text: &Option<String>) -> Option<Lsn> {
    text.as_deref().map_or(Some(Lsn(0)), Lsn::parse)
}

/// Reads the one row of [`POSITION`], with what the host said `before` on the same connection. `None` if that holds no
/// longer, or the row is not what was asked for: then everything has to be asked.
#[must_use]
pub fn read_position(rows: &[Vec<Option<String>>], before: &Answer) -> Option<Answer> {
    let [row] = rows else { return None };
    let [standby, position, flushed] = row.as_slice() else { return None };
    if standby.as_deref()? != if before.standby { "true" } else { "false" } {
        return None;
    }
    let position = Lsn::parse(position.as_deref()?)?;
    let position =
        if before.standby { position } else { position.end_of_last_record(before.page, before.segment) };
    Some(Answer { position, flushed: lsn(flushed)?, ..*before })
}

/// `16MB` in bytes.
fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let shift = match unit {
        "" | "B" => 0,
        "kB" => 10,
        "MB" => 20,
        "GB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[&str]) -> Vec<Vec<Option<String>>> {
        vec![columns.iter().map(|text| (*text != "-").then(|| (*text).to_owned())).collect()]
    }

    #[test]
    fn a_primary_and_a_standby_are_understood() {
        let primary = row(&[
            "false",
            "7300000000000000001",
            "x0000000A",
            "0/4000028",
            "0/3FFFF00",
            "off",
            "-",
            "150018",
            "1750000000000001",
            "8192",
            "16MB",
        ]);
        let answer = read(&primary).unwrap();
        assert_eq!((answer.standby, answer.timeline, answer.read_only), (false, 10, false));
        assert_eq!((answer.position, answer.flushed), (Lsn(0x400_0000), Lsn(0x3ff_ff00)));
        let standby = row(&[
            "true",
            "7300000000000000001",
            "3",
            "0/4000028",
            "-",
            "on",
            "-",
            "180000",
            "1",
            "8192",
            "1GB",
        ]);
        let answer = read(&standby).unwrap();
        assert_eq!((answer.standby, answer.timeline, answer.read_only), (true, 3, false));
        assert_eq!((answer.position, answer.flushed), (Lsn(0x400_0028), Lsn(0)));
    }

    #[test]
    fn only_what_holds_for_the_whole_server_makes_a_primary_read_only() {
        for (source, read_only) in
            [("configuration file", true), ("user", false), ("database", false), ("client", false)]
        {
            let answer = read(&row(&[
                "false",
                "1",
                "x00000001",
                "0/1",
                "-",
                "on",
                source,
                "150000",
                "1",
                "8192",
                "16MB",
            ]));
            assert_eq!(answer.unwrap().read_only, read_only, "{source}");
        }
    }

    #[test]
    fn a_position_alone_is_understood_while_the_host_is_what_it_was() {
        let row_of = |standby, flushed| row(&[standby, "0/4000028", flushed]);
        let primary =
            read(&row(&["false", "1", "x00000001", "0/1", "-", "off", "-", "150000", "1", "8192", "16MB"]));
        let primary = primary.unwrap();
        let answer = read_position(&row_of("false", "0/3FFFF00"), &primary).unwrap();
        assert_eq!((answer.position, answer.flushed), (Lsn(0x400_0000), Lsn(0x3ff_ff00)));
        assert_eq!(read_position(&row_of("true", "-"), &primary), None);
        let standby = Answer { standby: true, ..primary };
        assert_eq!(read_position(&row_of("true", "-"), &standby).unwrap().position, Lsn(0x400_0028));
        assert_eq!(read_position(&row(&["true", "-", "-"]), &standby), None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_server_says_is_an_answer_or_none(
            columns in proptest::collection::vec(proptest::option::of("[ -~]{0,24}"), 0..13),
        ) {
            let rows = [columns];
            let known = read(&rows).unwrap_or(Answer {
                standby: true, system_id: 1, instance: 1, timeline: 1, read_only: false, version: 1,
                position: Lsn(0), flushed: Lsn(0), page: 0, segment: 0,
            });
            let _ = read_position(&rows, &known);
            let _ = super::super::providers::monitor::read(&rows, &[]);
        }
    }

    #[test]
    fn anything_else_is_no_answer() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&row(&["false"])), None);
        let broken = row(&["maybe", "1", "x1", "0/1", "-", "off", "-", "150000", "1", "8192", "16MB"]);
        assert_eq!(read(&broken), None);
    }
}
