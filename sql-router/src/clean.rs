//! Which functions leave nothing behind in a session, by their names. Pure.
//!
//! The list holds names of `pg_catalog` that people call, without those that change the session, run SQL that they
//! are given, or make something that lasts. A name that is not on it may do anything: the server is asked
//! afterwards.

use std::collections::HashSet;
use std::sync::LazyLock;

static CLEAN: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("clean_functions.txt").split_ascii_whitespace().collect());

/// Whether a call of `name` (in lower case) leaves nothing behind.
#[must_use]
pub fn is_clean(name: &str) -> bool {
    CLEAN.contains(name)
}

/// Functions for large objects, as drivers call them by their numbers: `lo_create`, `lo_open`, `lo_close`, `loread`,
/// `lowrite`, `lo_lseek`, `lo_creat`, `lo_tell`, `lo_unlink`, `lo_truncate`, and those with 64 bits.
const LARGE_OBJECTS: [u32; 13] = [715, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172];

/// Whether a call of the function with this number leaves nothing behind.
#[must_use]
pub fn is_clean_number(oid: u32) -> bool {
    LARGE_OBJECTS.contains(&oid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_a_session_is_not_clean() {
        for name in
            ["set_config", "setseed", "pg_advisory_lock", "nextval", "currval", "query_to_xml", "mine"]
        {
            assert!(!is_clean(name), "{name}");
        }
        for name in ["count", "now", "generate_series", "jsonb_set", "pg_advisory_xact_lock"] {
            assert_eq!(is_clean(name), name != "pg_advisory_xact_lock", "{name}");
        }
    }
}
