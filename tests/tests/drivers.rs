//! The programs and drivers that people use work through Hawser in transaction mode, with SCRAM, in the clear and under TLS.
//!
//! Each check runs several clients over a pool of few server connections, so that their statements move between servers.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Child;

use hawser_tests::{Account, Config, Hawser, Program, cluster, is_direct, repository, wait_until};

/// How the client connects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leg {
    Clear,
    VerifyFull,
}

/// A database behind Hawser.
struct Site {
    account: Account,
    leg: Leg,
    port: u16,
    folder: PathBuf,
    _hawser: Option<Hawser>,
}

impl Site {
    fn new(leg: Leg, pool_size: usize) -> Self {
        let cluster = cluster();
        let account = Account::new(cluster);
        let folder = std::env::temp_dir().join(format!("hawser-drivers-{}", account.user));
        std::fs::create_dir_all(&folder).unwrap();
        let hawser = (!is_direct())
            .then(|| Hawser::start(&Config::new(cluster, &account).set("pool.size", pool_size)));
        let port = hawser.as_ref().map_or(cluster.port(), Hawser::port);
        Self { account, leg, port, folder, _hawser: hawser }
    }

    fn ca(&self) -> Option<PathBuf> {
        (self.leg == Leg::VerifyFull).then(|| cluster().certificates().ca())
    }

    /// The program with what libpq, and drivers that heed its variables, need to connect.
    fn env(&self, program: Program) -> Program {
        let program = program
            .env("PGHOST", "localhost")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", &self.account.user)
            .env("PGPASSWORD", &self.account.password)
            .env("PGDATABASE", &self.account.database)
            .env("PGCONNECT_TIMEOUT", "20");
        match self.ca() {
            None => program.env("PGSSLMODE", "disable"),
            Some(ca) => {
                program.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", &ca).env("CHECK_CA", &ca)
            }
        }
    }

    fn postgres(&self, program: &str) -> Program {
        self.env(Program::postgres(program))
    }

    fn psql(&self, sql: &str) -> String {
        self.postgres("psql").args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]).succeed()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The same check in the clear and under TLS, as two tests.
macro_rules! on_both_legs {
    ($($check:ident on $size:literal: $clear:ident, $tls:ident;)*) => {
        $(
            #[test]
            fn $clear() {
                $check(&Site::new(Leg::Clear, $size));
            }

            #[test]
            fn $tls() {
                $check(&Site::new(Leg::VerifyFull, $size));
            }
        )*
    };
}

on_both_legs! {
    psql on 2: psql_works_in_the_clear, psql_works_under_tls;
    pgbench on 2: pgbench_works_in_all_modes_in_the_clear, pgbench_works_in_all_modes_under_tls;
    dump_and_restore on 4: pg_dump_and_pg_restore_work_in_the_clear, pg_dump_and_pg_restore_work_under_tls;
    replication on 2: replication_works_in_the_clear, replication_works_under_tls;
    psycopg on 2: psycopg_works_in_the_clear, psycopg_works_under_tls;
    asyncpg on 2: asyncpg_works_in_the_clear, asyncpg_works_under_tls;
    node_postgres on 2: node_postgres_works_in_the_clear, node_postgres_works_under_tls;
    pgjdbc on 2: pgjdbc_works_in_the_clear, pgjdbc_works_under_tls;
    libpq_pipeline on 2: libpq_pipeline_mode_works_in_the_clear, libpq_pipeline_mode_works_under_tls;
    tokio_postgres on 2: tokio_postgres_works_in_the_clear, tokio_postgres_works_under_tls;
    sqlx on 2: sqlx_works_in_the_clear, sqlx_works_under_tls;
}

fn psql(site: &Site) {
    let script = "\\set ON_ERROR_STOP on\n\
        CREATE TABLE accounts (id int PRIMARY KEY, owner text NOT NULL);\n\
        CREATE VIEW rich AS SELECT * FROM accounts WHERE id > 1;\n\
        INSERT INTO accounts VALUES (1, 'ann'), (2, 'bob');\n\
        \\conninfo\n\\l\n\\dn\n\\dt\n\\d accounts\n\\d+ rich\n\\df\n\\du\n\\di+\n\\dT\n\\dx\n\\sv rich\n\
        \\copy accounts to stdout\n\
        \\copy accounts from stdin\n3\tcarl\n4\tdora\n\\.\n\
        SELECT 'rows ' || count(*) FROM accounts;\n\
        BEGIN;\nUPDATE accounts SET owner = 'eve' WHERE id = 1;\nROLLBACK;\n\
        SELECT 'owner ' || owner FROM accounts WHERE id = 1;\n\
        SELECT 1 AS one \\gdesc\n\
        SELECT 'bound ' || $1::int \\bind 7 \\g\n\
        \\set FETCH_COUNT 10\nSELECT count(*) || ' fetched' FROM generate_series(1, 100);\n\
        \\unset FETCH_COUNT\nSELECT repeat('x', 3) \\; SELECT 'second of two';\n\
        \\encoding\n\\timing on\nSELECT 1;\n";
    let script = if cluster().packages().major >= 16 { script.to_owned() } else { without_bind(script) };
    let out = site.postgres("psql").args(["-X", "-f", "-"]).input(script).succeed();
    for wanted in ["rows 4", "owner ann", "100 fetched", "second of two", "accounts_pkey", "1\tann"] {
        assert!(out.contains(wanted), "no {wanted:?} in\n{out}");
    }
    let wanted = if site.leg == Leg::Clear { "You are connected to database" } else { "SSL connection" };
    assert!(out.contains(wanted), "{out}");
}

/// psql knows `\bind` since version 16.
fn without_bind(script: &str) -> String {
    script.lines().filter(|line| !line.contains("\\bind")).map(|line| format!("{line}\n")).collect()
}

fn pgbench(site: &Site) {
    site.postgres("pgbench").args(["-i", "-q", "-s", "1"]).succeed();
    for mode in ["simple", "extended", "prepared"] {
        for workload in ["-S", "-N"] {
            // A thread of pgbench that prepares blocks its other clients, which may hold the very connections that it
            // waits for.
            let out = site
                .postgres("pgbench")
                .args(["-n", "-M", mode, workload, "-c", "8", "-j", "2", "-t", "40"])
                .succeed();
            assert!(out.contains("transactions actually processed: 320/320"), "{mode} {workload}\n{out}");
        }
    }
    site.postgres("pgbench").args(["-n", "-c", "4", "-j", "4", "-t", "20"]).succeed();
    site.postgres("pgbench").args(["-n", "-S", "-C", "-c", "4", "-j", "4", "-t", "10"]).succeed();
    let sum = site.psql(
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) - (SELECT sum(delta) FROM pgbench_history)",
    );
    assert_eq!(sum.trim(), "0");
    let pipeline = site.file("pipeline.sql");
    std::fs::write(&pipeline, PIPELINE).unwrap();
    site.postgres("pgbench")
        .args(["-n", "-M", "prepared", "-c", "4", "-j", "4", "-t", "20", "-f"])
        .args([&pipeline])
        .succeed();
}

const PIPELINE: &str = "\\set a random(1, 1000)\n\\startpipeline\nSELECT abalance FROM pgbench_accounts WHERE aid = :a;\n\
    SELECT :a;\nUPDATE pgbench_accounts SET abalance = abalance WHERE aid = :a;\n\\endpipeline\n";

fn dump_and_restore(site: &Site) {
    site.psql(
        "CREATE TABLE parent (id int PRIMARY KEY, body text); \
         CREATE TABLE child (id int REFERENCES parent, at timestamptz DEFAULT now()); \
         INSERT INTO parent SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 2000) i; \
         INSERT INTO child SELECT i FROM generate_series(1, 2000) i; \
         CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2'",
    );
    const DIGEST: &str = "SELECT md5(string_agg(id || body, ',' ORDER BY id)), (SELECT count(*) FROM child), twice(21) FROM parent";
    let before = site.psql(DIGEST);
    let file = site.file("dump");
    site.postgres("pg_dump").args(["-Fc", "-f"]).args([&file]).succeed();
    site.psql("DROP TABLE child, parent; DROP FUNCTION twice(int)");
    site.postgres("pg_restore")
        .args(["--exit-on-error", "--single-transaction", "-d", &site.account.database])
        .args([&file])
        .succeed();
    assert_eq!(site.psql(DIGEST), before);

    let folder = site.file("folder");
    site.postgres("pg_dump").args(["-Fd", "-j", "2", "-f"]).args([&folder]).succeed();
    site.psql("DROP TABLE child, parent; DROP FUNCTION twice(int)");
    site.postgres("pg_restore")
        .args(["--exit-on-error", "-j", "2", "-d", &site.account.database])
        .args([&folder])
        .succeed();
    assert_eq!(site.psql(DIGEST), before);
}

fn replication(site: &Site) {
    let base = site.file("base");
    site.postgres("pg_basebackup")
        .args(["-X", "stream", "-c", "fast", "--no-sync", "-D"])
        .args([&base])
        .succeed();
    assert!(base.join("PG_VERSION").is_file());
    site.postgres("pg_verifybackup").args([&base]).succeed();

    let name = site.account.user.as_str();
    let wal = site.file("wal");
    std::fs::create_dir(&wal).unwrap();
    site.postgres("pg_receivewal").args(["--slot", name, "--create-slot"]).succeed();
    let receiver =
        Running(site.postgres("pg_receivewal").args(["--slot", name, "-s", "1", "-D"]).args([&wal]).spawn());
    // A partial file that becomes whole is WAL that went all the way through.
    wait_until("WAL is being received", || count(&wal) > 0);
    site.psql("CREATE TABLE decoded (id int)");
    cluster().psql("SELECT pg_switch_wal()").unwrap();
    wait_until("a segment of WAL is whole", || whole_segments(&wal) > 0);
    drop(receiver);
    wait_until("the slot is free", || {
        cluster()
            .psql(&format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{name}'"))
            .unwrap()
            .trim()
            == "f"
    });
    site.postgres("pg_receivewal").args(["--slot", name, "--drop-slot"]).succeed();

    let changes = site.file("changes");
    let database = site.account.database.as_str();
    site.postgres("pg_recvlogical")
        .args(["-d", database, "--slot", name, "--create-slot", "-P", "test_decoding"])
        .succeed();
    let receiver = Running(
        site.postgres("pg_recvlogical")
            .args(["-d", database, "--slot", name, "--start", "-F", "1", "-s", "1", "-f"])
            .args([&changes])
            .spawn(),
    );
    site.psql("INSERT INTO decoded VALUES (4711)");
    wait_until("the change is decoded", || {
        std::fs::read_to_string(&changes).is_ok_and(|text| text.contains("4711"))
    });
    drop(receiver);
    wait_until("the slot is free", || {
        cluster()
            .psql(&format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{name}'"))
            .unwrap()
            .trim()
            == "f"
    });
    site.postgres("pg_recvlogical").args(["-d", database, "--slot", name, "--drop-slot"]).succeed();
}

/// A program that goes on until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn count(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

fn whole_segments(folder: &Path) -> usize {
    std::fs::read_dir(folder)
        .unwrap()
        .filter(|file| file.as_ref().unwrap().path().extension().is_none())
        .count()
}

fn python(site: &Site, script: &str, arguments: &[&str]) {
    let python = repository().join("target/venv/bin/python");
    assert!(python.is_file(), "{} is missing: run `make drivers` first", python.display());
    let program = Program::new(python).args([Program::driver_file(script)]).args(arguments);
    assert!(site.env(program).succeed().contains("ok"));
}

fn psycopg(site: &Site) {
    python(site, "python/psycopg_check.py", &[]);
}

fn asyncpg(site: &Site) {
    python(site, "python/asyncpg_check.py", &["100"]);
    python(site, "python/asyncpg_check.py", &["0"]);
}

fn node_postgres(site: &Site) {
    let folder = Program::driver_file("node");
    assert!(folder.join("node_modules/pg").is_dir(), "node-postgres is missing: run `make drivers` first");
    let out = site.env(Program::new("node").args(["pg_check.js"]).folder(folder)).succeed();
    assert!(out.contains("ok"));
}

fn pgjdbc(site: &Site) {
    const JAR: &str = "/usr/share/java/postgresql.jar";
    assert!(Path::new(JAR).exists(), "{JAR} is missing: run `make deps` first");
    let program = Program::new("java")
        .args(["-XX:TieredStopAtLevel=1", "-cp", JAR])
        .args([Program::driver_file("java/PgCheck.java")])
        .env("CHECK_USER", &site.account.user)
        .env("CHECK_PASSWORD", &site.account.password)
        .env("CHECK_URL", format!("jdbc:postgresql://localhost:{}/{}", site.port, site.account.database));
    assert!(site.env(program).succeed().contains("ok"));
}

fn libpq_pipeline(site: &Site) {
    let include = Program::new("pg_config").args(["--includedir"]).succeed();
    let program = site.file("pipeline");
    Program::new("cc")
        .args([Program::driver_file("c/pipeline.c")])
        .args(["-I", include.trim(), "-lpq", "-o"])
        .args([&program])
        .succeed();
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let run = site.env(Program::new(&program));
            std::thread::spawn(move || run.succeed())
        })
        .collect();
    for run in runs {
        assert!(run.join().unwrap().contains("libpq pipeline ok"));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn tokio_postgres(site: &Site) {
    runtime().block_on(async {
        tokio::time::timeout(std::time::Duration::from_secs(60), async {
            let first = rust_drivers::connect(site).await;
            first.batch_execute("CREATE TABLE rust_rows (id int, text text)").await.unwrap();
            let clients = (1..=4).map(|who| rust_drivers::tokio_postgres_work(site, who));
            futures_util::future::join_all(clients).await;
        })
        .await
        .expect("done in a minute");
    });
}

fn sqlx(site: &Site) {
    runtime().block_on(async {
        tokio::time::timeout(std::time::Duration::from_secs(60), rust_drivers::sqlx_work(site))
            .await
            .expect("done in a minute");
    });
}

/// What the drivers in Rust do.
mod rust_drivers {
    use std::sync::Arc;

    use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _, future};
    use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
    use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Row as _};
    use tokio_postgres::error::SqlState;
    use tokio_postgres::{Client, Config, NoTls};

    use super::{Leg, Site};

    pub(super) async fn connect(site: &Site) -> Client {
        let mut config = Config::new();
        config
            .host("localhost")
            .port(site.port)
            .user(&site.account.user)
            .password(&site.account.password)
            .dbname(&site.account.database);
        if site.leg == Leg::Clear {
            config.ssl_mode(tokio_postgres::config::SslMode::Disable);
            let (client, connection) = config.connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            return client;
        }
        config.ssl_mode(tokio_postgres::config::SslMode::Require);
        config.channel_binding(tokio_postgres::config::ChannelBinding::Require);
        let (client, connection) = config.connect(tls(site)).await.unwrap();
        tokio::spawn(connection);
        client
    }

    fn tls(site: &Site) -> tokio_postgres_rustls::MakeRustlsConnect {
        use rustls::pki_types::{CertificateDer, pem::PemObject as _};
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(site.ca().unwrap()).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        tokio_postgres_rustls::MakeRustlsConnect::new(config)
    }

    pub(super) async fn tokio_postgres_work(site: &Site, who: i32) {
        let mut client = connect(site).await;
        let twice = client.prepare("SELECT $1::int * 2").await.unwrap();
        for number in 0..50 {
            let row = client.query_one(&twice, &[&number]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), number * 2);
        }
        // All under way at once.
        let numbers: Vec<i32> = (0..100).collect();
        let asked =
            numbers.iter().map(|number| async { client.query_one(&twice, &[number]).await.unwrap().get(0) });
        let answers: Vec<i32> = future::join_all(asked).await;
        assert_eq!(answers, numbers.iter().map(|number| number * 2).collect::<Vec<_>>());

        let error = client.query_one("SELECT 1 / $1::int", &[&0]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));

        let transaction = client.transaction().await.unwrap();
        transaction.execute("INSERT INTO rust_rows VALUES ($1, 'kept')", &[&who]).await.unwrap();
        let portal = transaction.bind("SELECT generate_series(1, 100)", &[]).await.unwrap();
        assert_eq!(transaction.query_portal(&portal, 30).await.unwrap().len(), 30);
        assert_eq!(transaction.query_portal(&portal, 0).await.unwrap().len(), 70);
        transaction.commit().await.unwrap();

        let sink = client.copy_in("COPY rust_rows FROM STDIN").await.unwrap();
        let mut sink = std::pin::pin!(sink);
        for line in 0..1000 {
            sink.send(bytes_of(format!("{}\tline\n", who * 10_000 + line))).await.unwrap();
        }
        assert_eq!(sink.finish().await.unwrap(), 1000);
        let out = client
            .copy_out(&format!("COPY (SELECT id FROM rust_rows WHERE id / 10000 = {who}) TO STDOUT"))
            .await
            .unwrap();
        let pieces: Vec<_> = out.try_collect().await.unwrap();
        assert_eq!(pieces.concat().iter().filter(|byte| **byte == b'\n').count(), 1000);
        cancel(site, &client).await;
    }

    fn bytes_of(text: String) -> std::io::Cursor<Vec<u8>> {
        std::io::Cursor::new(text.into_bytes())
    }

    async fn cancel(site: &Site, client: &Client) {
        let token = client.cancel_token();
        let sleeping = client.batch_execute("SELECT pg_sleep(30)");
        let cancelling = async {
            // The query has to be on its way first; a cancel that comes too early cancels nothing and is repeated.
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                let _ = match site.leg {
                    Leg::Clear => token.cancel_query(NoTls).await,
                    Leg::VerifyFull => token.cancel_query(tls(site)).await,
                };
            }
        };
        let result = tokio::select! {
            result = sleeping => result,
            () = cancelling => unreachable!("it goes on for ever"),
        };
        assert_eq!(result.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
        assert_eq!(client.query_one("SELECT 3", &[]).await.unwrap().get::<_, i32>(0), 3);
    }

    fn sqlx_options(site: &Site) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass()
            .host("localhost")
            .port(site.port)
            .username(&site.account.user)
            .password(&site.account.password)
            .database(&site.account.database);
        match site.ca() {
            None => options.ssl_mode(PgSslMode::Disable),
            Some(ca) => options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(ca),
        }
    }

    pub(super) async fn sqlx_work(site: &Site) {
        let pool = PgPoolOptions::new().max_connections(4).connect_with(sqlx_options(site)).await.unwrap();
        pool.execute("CREATE TABLE sqlx_rows (id int, text text)").await.unwrap();
        let asked = (0..200).map(|number| {
            let pool = pool.clone();
            async move {
                let row = sqlx::query("SELECT $1::int * 2, $2::text")
                    .bind(number)
                    .bind(format!("text {number}"))
                    .fetch_one(&pool)
                    .await
                    .unwrap();
                assert_eq!(row.get::<i32, _>(0), number * 2);
                assert_eq!(row.get::<String, _>(1), format!("text {number}"));
            }
        });
        future::join_all(asked).await;

        let mut transaction = pool.begin().await.unwrap();
        sqlx::query("INSERT INTO sqlx_rows VALUES ($1, $2)")
            .bind(1)
            .bind("undone")
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.rollback().await.unwrap();
        let mut transaction = pool.begin().await.unwrap();
        sqlx::query("INSERT INTO sqlx_rows VALUES ($1, $2)")
            .bind(2)
            .bind("kept")
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlx_rows").fetch_one(&pool).await.unwrap();
        assert_eq!(count, 1);

        let error = sqlx::query("SELECT 1 / $1::int").bind(0).fetch_one(&pool).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "22012");
        let sum = sqlx::query_scalar::<_, i32>("SELECT generate_series(1, 1000)")
            .fetch(&pool)
            .fold(0, |sum, number| async move { sum + number.unwrap() })
            .await;
        assert_eq!(sum, 500_500);

        // The driver's cache is smaller than what is asked: it closes statements again.
        let mut connection = sqlx_options(site).statement_cache_capacity(5).connect().await.unwrap();
        for number in 0..40 {
            let sql = format!("SELECT $1::int + {number}");
            let sum: i32 = sqlx::query_scalar(&sql).bind(1).fetch_one(&mut connection).await.unwrap();
            assert_eq!(sum, number + 1);
        }
        connection.close().await.unwrap();
        pool.close().await;
    }
}
