//! Functions of PostgreSQL itself: which of them a standby can run as well as the primary. Pure.
//!
//! What is not named as needing the primary runs on a standby even when it is volatile: `random()`,
//! `clock_timestamp()`, `pg_sleep()`. All volatile functions of PostgreSQL 13 to 18 were gone through by hand for this
//! table, and the stable ones that execute a query which they are given. Three kinds need the primary:
//! - they write, lock, or hand out what only the primary has: sequences, transaction numbers, large objects,
//!   advisory locks, WAL positions, slots, notifications, statistics that are reset;
//! - they ask about the host, its processes, its files or its connection: clients that ask that take us for the
//!   primary, and answers that change from call to call would confuse them;
//! - they would change a standby (`pg_promote`, `pg_wal_replay_pause`), or run any query (`query_to_xml`, `ts_stat`).

use std::collections::HashSet;
use std::sync::LazyLock;

/// What is known of a name as a function of PostgreSQL itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltIn {
    /// Runs on a standby.
    Standby,
    /// At least one function of the name needs the primary.
    Primary,
    /// There is none of this name.
    None,
}

/// What is known of `name`, folded.
#[must_use]
pub fn of_name(name: &[u8]) -> BuiltIn {
    let Ok(name) = std::str::from_utf8(name) else { return BuiltIn::None };
    if needs_primary(name) {
        BuiltIn::Primary
    } else if NAMES.contains(name) {
        BuiltIn::Standby
    } else {
        BuiltIn::None
    }
}

static NAMES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("names.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_ascii_whitespace)
        .collect()
});

/// Families of functions that need the primary, by how their names begin.
const PRIMARY_FAMILIES: &[&str] = &[
    "binary_upgrade_",
    "brin_desummarize_",
    "brin_summarize_",
    "lo_",
    "pg_advisory_",
    "pg_backup_",
    "pg_clear_",
    "pg_control_",
    "pg_copy_logical_",
    "pg_copy_physical_",
    "pg_create_",
    "pg_current_wal_",
    "pg_current_xact_",
    "pg_drop_",
    "pg_event_trigger_",
    "pg_get_wal_",
    "pg_import_",
    "pg_is_wal_",
    "pg_isolation_",
    "pg_last_",
    "pg_log_",
    "pg_logical_",
    "pg_ls_",
    "pg_numa_",
    "pg_read_",
    "pg_replication_",
    "pg_restore_",
    "pg_rotate_",
    "pg_set_",
    "pg_show_",
    "pg_start_",
    "pg_stat_",
    "pg_stop_",
    "pg_switch_",
    "pg_sync_",
    "pg_try_advisory_",
    "pg_wal_replay_",
    "pg_walfile_",
    "pg_xact_",
];

/// Single functions that need the primary.
const PRIMARY_NAMES: &[&str] = &[
    "currtid",
    "currtid2",
    "currval",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "database_to_xmlschema",
    "gin_clean_pending_list",
    "inet_server_addr",
    "inet_server_port",
    "lastval",
    "loread",
    "lowrite",
    "nextval",
    "pg_available_wal_summaries",
    "pg_backend_pid",
    "pg_blocking_pids",
    "pg_cancel_backend",
    "pg_conf_load_time",
    "pg_current_logfile",
    "pg_cursor",
    "pg_export_snapshot",
    "pg_extension_config_dump",
    "pg_get_backend_memory_contexts",
    "pg_get_loaded_modules",
    "pg_get_multixact_members",
    "pg_get_replication_slots",
    "pg_get_sequence_data",
    "pg_get_shmem_allocations",
    "pg_get_shmem_allocations_numa",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_is_in_backup",
    "pg_is_in_recovery",
    "pg_listening_channels",
    "pg_lock_status",
    "pg_nextoid",
    "pg_notification_queue_usage",
    "pg_notify",
    "pg_postmaster_start_time",
    "pg_prepared_statement",
    "pg_prepared_xact",
    "pg_promote",
    "pg_reload_conf",
    "pg_safe_snapshot_blocking_pids",
    "pg_sequence_last_value",
    "pg_terminate_backend",
    "pg_wal_summary_contents",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "schema_to_xmlschema",
    "setseed",
    "setval",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "table_to_xmlschema",
    "ts_rewrite",
    "ts_stat",
    "txid_current",
    "txid_current_if_assigned",
    "txid_status",
];

/// Whether `name` writes, or asks what only the primary should answer.
fn needs_primary(name: &str) -> bool {
    // The families are few words beside the first letters that nearly all of them share.
    let of_family = (name.starts_with("pg_") || name.starts_with("lo_") || name.starts_with('b'))
        && PRIMARY_FAMILIES.iter().any(|family| name.starts_with(family));
    of_family || PRIMARY_NAMES.binary_search(&name).is_ok()
}

/// Views and tables of PostgreSQL that tell about the host or the session, and not about the database.
const HOST_RELATIONS: &[&str] = &[
    "pg_aios",
    "pg_backend_memory_contexts",
    "pg_cursors",
    "pg_file_settings",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_locks",
    "pg_prepared_statements",
    "pg_prepared_xacts",
    "pg_replication_origin_status",
    "pg_replication_slots",
    "pg_shmem_allocations",
    "pg_shmem_allocations_numa",
];

/// Whether the relation `name`, folded, tells about the host.
#[must_use]
pub fn is_of_host(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"pg_") else { return false };
    let statistics =
        (rest.starts_with(b"stat_") && rest != b"stat_statements" && rest != b"stat_statements_info")
            || rest.starts_with(b"statio_");
    statistics || std::str::from_utf8(name).is_ok_and(|name| HOST_RELATIONS.binary_search(&name).is_ok())
}

/// Whether the setting `name` differs between primary and standby.
#[must_use]
pub fn is_setting_of_host(name: &[u8]) -> bool {
    [&b"transaction_read_only"[..], b"default_transaction_read_only", b"in_hot_standby"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_so_that_they_can_be_searched() {
        assert!(PRIMARY_NAMES.is_sorted());
        assert!(HOST_RELATIONS.is_sorted());
        assert!(NAMES.len() > 2000);
    }

    #[test]
    fn volatile_functions_that_do_not_write_run_on_standbys() {
        for name in ["random", "clock_timestamp", "pg_sleep", "gen_random_uuid", "lower", "upper"] {
            assert_eq!(of_name(name.as_bytes()), BuiltIn::Standby, "{name}");
        }
        for name in [
            "nextval",
            "lo_unlink",
            "pg_advisory_lock",
            "txid_current",
            "pg_current_wal_lsn",
            "pg_switch_wal",
            "pg_promote",
            "pg_notify",
            "query_to_xml",
            "pg_is_in_recovery",
            "pg_backend_pid",
            "pg_stat_reset",
        ] {
            assert_eq!(of_name(name.as_bytes()), BuiltIn::Primary, "{name}");
        }
        assert_eq!(of_name(b"my_function"), BuiltIn::None);
        assert_eq!(of_name(b"\xff"), BuiltIn::None);
    }
}
