//! Pure. Each key of pgbouncer.ini: the setting that it stands for, or why it stands for none.

/// How the value of a key is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// As it is.
    Same,
    /// Seconds; 0 is off here too.
    Seconds,
    /// Seconds; 0, which lifts the bound there, becomes so many seconds here.
    SecondsNotZero(&'static str),
    /// Milliseconds; 0 is off here too.
    Milliseconds,
}

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// These settings.
    Settings(&'static [&'static str], How),
    /// More than one line can say; `translate` knows.
    Special,
    /// Nothing, and why.
    Ignored(&'static str),
}

use How::{Milliseconds, Same, Seconds, SecondsNotZero};
use Meaning::{Ignored, Settings, Special};

const RUSTLS: &str = "the TLS library chooses, and offers only what is safe";
const DNS: &str = "names are resolved by the system";
const SYSTEMD: &str = "log to standard error, or to log.file, and let systemd or the container take it";
const BUFFERS: &str = "buffers are sized by need";

/// Keys of `[pgbouncer]`.
#[rustfmt::skip]
pub(super) const GLOBAL: &[(&str, Meaning)] = &[
    ("listen_addr", Special),
    ("listen_port", Special),
    ("unix_socket_dir", Special),
    ("unix_socket_mode", Settings(&["listen.unix_mode"], Same)),
    ("unix_socket_group", Settings(&["listen.unix_group"], Same)),
    ("listen_backlog", Settings(&["listen.backlog"], Same)),
    ("tcp_defer_accept", Settings(&["listen.defer_accept"], Seconds)),
    ("tcp_keepalive", Settings(&["listen.keepalive", "pool.keepalive"], Same)),
    ("tcp_keepidle", Settings(&["listen.keepalive_idle", "pool.keepalive_idle"], Seconds)),
    ("tcp_keepintvl", Settings(&["listen.keepalive_interval", "pool.keepalive_interval"], Seconds)),
    ("tcp_keepcnt", Settings(&["listen.keepalive_count", "pool.keepalive_count"], Same)),
    ("tcp_user_timeout", Settings(&["listen.user_timeout", "pool.user_timeout"], Milliseconds)),
    ("pidfile", Settings(&["pid_file"], Same)),
    ("ignore_startup_parameters", Settings(&["ignore_startup_parameters"], Same)),
    ("logfile", Settings(&["log.file"], Same)),
    ("verbose", Special),
    ("log_connections", Settings(&["log.connections"], Same)),
    ("log_disconnections", Settings(&["log.disconnections"], Same)),
    ("log_pooler_errors", Settings(&["log.pooler_errors"], Same)),
    ("log_stats", Special),
    ("stats_period", Special),

    ("client_tls_sslmode", Settings(&["client_tls.mode"], Same)),
    ("client_tls_cert_file", Settings(&["client_tls.cert_file"], Same)),
    ("client_tls_key_file", Settings(&["client_tls.key_file"], Same)),
    ("client_tls_ca_file", Settings(&["client_tls.ca_file"], Same)),
    ("client_tls_protocols", Special),
    ("server_tls_sslmode", Settings(&["server_tls.mode"], Same)),
    ("server_tls_cert_file", Settings(&["server_tls.cert_file"], Same)),
    ("server_tls_key_file", Settings(&["server_tls.key_file"], Same)),
    ("server_tls_ca_file", Settings(&["server_tls.ca_file"], Same)),
    ("server_tls_protocols", Special),

    ("admin_users", Settings(&["admin.users"], Same)),
    ("stats_users", Settings(&["admin.stats_users"], Same)),

    ("auth_type", Special),
    ("auth_hba_file", Special),
    ("auth_ident_file", Settings(&["auth.ident_file"], Same)),
    ("auth_file", Settings(&["auth.user_file"], Same)),
    ("auth_user", Settings(&["auth.query.user"], Same)),
    ("auth_query", Settings(&["auth.query.query"], Same)),
    ("auth_dbname", Settings(&["auth.query.dbname"], Same)),

    ("pool_mode", Settings(&["pool.mode"], Same)),
    ("default_pool_size", Settings(&["pool.size"], Same)),
    ("min_pool_size", Settings(&["pool.min_size"], Same)),
    ("reserve_pool_size", Settings(&["pool.reserve_size"], Same)),
    ("reserve_pool_timeout", Special),
    ("server_round_robin", Settings(&["pool.round_robin"], Same)),
    ("server_lifetime", Settings(&["pool.server_lifetime"], SecondsNotZero("0.001"))),
    ("server_idle_timeout", Settings(&["pool.server_idle_timeout"], Seconds)),
    ("server_check_query", Settings(&["pool.server_check_query"], Same)),
    ("server_check_delay", Settings(&["pool.server_check_delay"], Seconds)),
    ("server_reset_query", Settings(&["pool.server_reset_query"], Same)),
    ("server_reset_query_always", Settings(&["pool.server_reset_query_always"], Same)),
    ("server_connect_timeout", Settings(&["pool.server_connect_timeout"], SecondsNotZero("86400"))),
    ("server_login_retry", Settings(&["pool.server_login_retry"], SecondsNotZero("0.001"))),
    ("max_prepared_statements", Special),
    ("application_name_add_host", Settings(&["pool.application_name_add_host"], Same)),

    ("client_login_timeout", Settings(&["timeouts.login"], SecondsNotZero("86400"))),
    ("query_wait_timeout", Settings(&["timeouts.query_wait"], Seconds)),
    ("query_wait_notify", Settings(&["timeouts.query_wait_notify"], Seconds)),
    ("query_timeout", Settings(&["timeouts.query"], Seconds)),
    ("transaction_timeout", Settings(&["timeouts.transaction"], Seconds)),
    ("idle_transaction_timeout", Settings(&["timeouts.idle_transaction"], Seconds)),
    ("client_idle_timeout", Settings(&["timeouts.client_idle"], Seconds)),
    ("cancel_wait_timeout", Settings(&["timeouts.cancel_wait"], SecondsNotZero("86400"))),

    ("max_client_conn", Settings(&["limits.max_client_connections"], Same)),
    ("max_db_connections", Settings(&["limits.max_db_connections"], Same)),
    ("max_db_client_connections", Settings(&["limits.max_db_client_connections"], Same)),
    ("max_user_connections", Settings(&["limits.max_user_connections"], Same)),
    ("max_user_client_connections", Settings(&["limits.max_user_client_connections"], Same)),
    ("max_packet_size", Settings(&["limits.max_message"], Same)),

    ("client_tls_ciphers", Ignored(RUSTLS)),
    ("client_tls13_ciphers", Ignored(RUSTLS)),
    ("client_tls_ecdhcurve", Ignored(RUSTLS)),
    ("client_tls_dheparams", Ignored(RUSTLS)),
    ("server_tls_ciphers", Ignored(RUSTLS)),
    ("server_tls13_ciphers", Ignored(RUSTLS)),
    ("dns_max_ttl", Ignored(DNS)),
    ("dns_nxdomain_ttl", Ignored(DNS)),
    ("dns_zone_check_period", Ignored(DNS)),
    ("resolv_conf", Ignored(DNS)),
    ("syslog", Ignored(SYSTEMD)),
    ("syslog_facility", Ignored(SYSTEMD)),
    ("syslog_ident", Ignored(SYSTEMD)),
    ("suspend_timeout", Ignored("SUSPEND waits until no transaction is open")),
    ("pkt_buf", Ignored(BUFFERS)),
    ("sbuf_loopcnt", Ignored(BUFFERS)),
    ("tcp_socket_buffer", Ignored("the system sizes socket buffers")),
    ("so_reuseport", Ignored("one process uses all cores")),
    ("user", Ignored("start Hawser as the user that it should run as")),
    ("autodb_idle_timeout", Ignored("a pool that nobody uses costs nothing once its connections are closed")),
    ("server_fast_close", Ignored("a server connection is closed as soon as its transaction ends")),
    ("track_extra_parameters", Ignored("every parameter that the server reports is tracked")),
    ("disable_pqexec", Ignored("simple queries cannot be refused")),
    ("auth_ldap_options", Ignored("there is no LDAP")),
    ("scram_iterations", Ignored("iterations are those of the verifier")),
    ("peer_id", Ignored("cancel requests are not passed between processes")),
    ("job_name", Ignored("it only names files in PgBouncer")),
    ("service_name", Ignored("it only names files in PgBouncer")),
    ("conffile", Ignored("the file is named on the command line")),
];

/// Keys of a line in `[databases]`.
#[rustfmt::skip]
pub(super) const DATABASE: &[(&str, Meaning)] = &[
    ("host", Special),
    ("port", Special),
    ("dbname", Settings(&["dbname"], Same)),
    ("user", Settings(&["user"], Same)),
    ("password", Settings(&["password"], Same)),
    ("auth_user", Settings(&["auth_query.user"], Same)),
    ("auth_query", Settings(&["auth_query.query"], Same)),
    ("auth_dbname", Settings(&["auth_query.dbname"], Same)),
    ("pool_size", Settings(&["pool_size"], Same)),
    ("min_pool_size", Settings(&["min_pool_size"], Same)),
    ("reserve_pool", Settings(&["reserve_pool_size"], Same)),
    ("reserve_pool_size", Settings(&["reserve_pool_size"], Same)),
    ("pool_mode", Settings(&["pool_mode"], Same)),
    ("connect_query", Settings(&["connect_query"], Same)),
    ("max_db_connections", Settings(&["max_connections"], Same)),
    ("max_db_client_connections", Settings(&["max_client_connections"], Same)),
    ("server_lifetime", Settings(&["server_lifetime"], SecondsNotZero("0.001"))),
    ("load_balance_hosts", Special),
    ("application_name", Special),
    ("client_encoding", Special),
    ("datestyle", Special),
    ("timezone", Special),
];

/// Keys of a line in `[users]`.
#[rustfmt::skip]
pub(super) const USER: &[(&str, Meaning)] = &[
    ("pool_mode", Settings(&["pool_mode"], Same)),
    ("pool_size", Settings(&["pool_size"], Same)),
    ("reserve_pool_size", Settings(&["reserve_pool_size"], Same)),
    ("max_user_connections", Settings(&["max_connections"], Same)),
    ("max_user_client_connections", Settings(&["max_client_connections"], Same)),
    ("query_timeout", Settings(&["query_timeout"], Seconds)),
    ("transaction_timeout", Settings(&["transaction_timeout"], Seconds)),
    ("idle_transaction_timeout", Settings(&["idle_transaction_timeout"], Seconds)),
    ("client_idle_timeout", Settings(&["client_idle_timeout"], Seconds)),
];

/// What PgBouncer does when its file is silent, where Hawser would do otherwise.
#[rustfmt::skip]
pub(super) const DEFAULTS: &[(&str, &str)] = &[
    ("listen.unix_dir", "/tmp"),
    ("listen.backlog", "128"),
    ("pool.mode", "session"),
    ("pool.server_login_retry", "15s"),
    ("pool.max_prepared_statements", "200"),
    ("timeouts.query_wait", "2min"),
    ("limits.max_client_connections", "100"),
];

/// What a key stands for in a table.
pub(super) fn meaning(table: &[(&str, Meaning)], key: &str) -> Option<Meaning> {
    table.iter().find(|(known, _)| known.eq_ignore_ascii_case(key)).map(|(_, meaning)| *meaning)
}
